import { GmsaError } from '../base/errors.ts'
import { agentConfigOf, type LoadedAgent, readAgentConfig } from './agent-config.ts'
import { given } from './config-document.ts'
import { problemsError } from './config-problem.ts'

/** The flags of `agent` that say what it is to keep. */
export interface AgentFlags {
  readonly config?: string
  readonly server: readonly string[]
  readonly cert?: string
  readonly key?: string
  readonly ca?: string
  readonly account?: string
  readonly acceptorKeytab?: string
  readonly initiatorKeytab?: string
  readonly ccache?: string
  readonly onChange?: readonly string[]
}

const USUAL_PLACE = '/etc/gmsa-account-provider/agent.yaml'

/** The configuration in the file that the flags name, or in the usual one, or of the flags. Throws CONFIG_INVALID with all problems. */
export async function loadAgent(flags: AgentFlags): Promise<LoadedAgent> {
  const cwd = process.cwd()
  const single = flags.account !== undefined || flags.server.length > 0
  if (single && flags.config !== undefined) {
    throw new GmsaError('CONFIG_INVALID', '--config: all accounts stand in the file; leave out --server and --account')
  }
  const file = flags.config ?? (process.env['GMSA_AGENT_CONFIG'] || USUAL_PLACE)
  const loaded = single ? agentConfigOf(documentOf(flags), cwd) : await readAgentConfig(file, cwd)
  if (!loaded.ok) throw problemsError(loaded.problems)
  return loaded
}

/** The document that says the same as the flags. */
function documentOf(flags: AgentFlags): Readonly<Record<string, unknown>> {
  const { server: servers, cert: certificate, key, ca, account, onChange } = flags
  const { acceptorKeytab, initiatorKeytab, ccache } = flags
  const fileOf = (file: string | undefined) =>
    file === undefined ? undefined : given({ file, onChange: onChange && { command: onChange } })
  return {
    servers,
    tls: given({ certificate, key, ca }),
    accounts: {
      ...(account !== undefined && {
        [account]: given({
          acceptorKeytab: fileOf(acceptorKeytab),
          initiatorKeytab: fileOf(initiatorKeytab),
          ccache: fileOf(ccache),
        }),
      }),
    },
  }
}

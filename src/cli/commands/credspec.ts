import { writeFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import { systemClock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { silentLog } from '../../base/log.ts'
import { withDeadline } from '../../broker/deadline.ts'
import { accountOptionsOf } from '../../gmsa/account-options.ts'
import {
  CREDENTIAL_SPEC_FORMATS,
  type CredentialSpecFormat,
  type HostAccount,
  makeCredentialSpec,
  RANCHER_PLUGIN,
} from '../../gmsa/credential-spec.ts'
import { judgeCredentialSpec } from '../../gmsa/credential-spec-check.ts'
import { formatCredentialSpec } from '../../server/credential-spec-text.ts'
import { type Config, expectLoaded } from '../config.ts'
import { openProvider } from '../open-providers.ts'
import { pluginInputOf } from '../plugin-input.ts'
import { print } from '../print.ts'
import { loadRunConfig } from '../rancher-mode.ts'

interface CredspecFlags {
  readonly config?: string
  readonly format: CredentialSpecFormat
  readonly name?: string
  readonly pluginInput?: string
  readonly pluginGuid: string
  readonly hostAccount: boolean
  readonly also: readonly string[]
  readonly output?: string
}

/** `credspec`: a document without secrets, so that it may go to standard output. */
export function credspecCommand(out: (text: string) => void = print): Command {
  return new Command('credspec')
    .description('write the credential spec of a gMSA, with what its directory says of the domain')
    .argument('<account>', 'the gMSA, as the configuration names it')
    .option('--config <file>', 'configuration file')
    .addOption(
      new Option('--format <format>', 'docker: JSON; kubernetes: a GMSACredentialSpec manifest')
        .choices(CREDENTIAL_SPEC_FORMATS)
        .default('docker'),
    )
    .option('--name <name>', "name of the Kubernetes object; absent: the account's")
    .option('--plugin-input <text>', 'what the CCG plug-in is handed; absent: <ccg.namespace>:<account of the bind>')
    .option('--plugin-guid <guid>', "the CCG plug-in; absent: Rancher's", RANCHER_PLUGIN)
    .option('--no-host-account', 'for hosts that are members of the domain: no plug-in is asked')
    .option('--also <name@scope>', 'another gMSA for the same container; may be repeated', collect, [])
    .option('-o, --output <file>', 'write it there instead of standard output')
    .action(async (account: string, flags: CredspecFlags) => {
      const { config } = expectLoaded(
        await loadRunConfig({ file: flags.config, env: process.env, cwd: process.cwd() }, {}),
      )
      const text = await describe(account, config, flags)
      if (flags.output === undefined) out(text)
      else await writeFile(flags.output, text)
    })
}

function collect(value: string, all: string[]): string[] {
  return [...all, value]
}

async function describe(account: string, config: Config, flags: CredspecFlags): Promise<string> {
  const spec = makeCredentialSpec({
    domain: await readDomain(account, config),
    samAccountName: accountOptionsOf(config.accounts.get(account)?.options ?? {}).samAccountName ?? account,
    ...hostAccountOf(account, config, flags),
    additionalAccounts: flags.also.map(parseAlso),
  })
  const [problem] = judgeCredentialSpec(spec)
  if (problem) {
    throw new GmsaError('REQUEST_INVALID', `${problem.path} ${problem.problem}`, {
      ...(problem.hint !== undefined && { hint: problem.hint }),
    })
  }
  return formatCredentialSpec(spec, flags.format, flags.name ?? account)
}

async function readDomain(account: string, config: Config) {
  const name = config.accounts.get(account)?.provider
  const options = name === undefined ? undefined : config.providers.get(name)
  if (name === undefined || !options) {
    throw new GmsaError('ACCOUNT_NOT_FOUND', `${account}: no such account is configured`, {
      hint: 'add it to accounts',
    })
  }
  await using provider = await openProvider(name, options, { log: silentLog, clock: systemClock }, config)
  const { domain } = provider
  if (!domain) {
    throw new GmsaError('KIND_NOT_OFFERED', `provider ${name} is no directory: it knows nothing of the domain`, {
      hint: 'ask for an account of an active-directory provider',
    })
  }
  return await withDeadline(domain, config.timeouts.store, systemClock)
}

function hostAccountOf(
  account: string,
  config: Config,
  { hostAccount, pluginGuid, pluginInput = pluginInputOf(account, config) }: CredspecFlags,
): { hostAccount?: HostAccount } {
  if (!hostAccount) return {}
  if (pluginInput !== undefined) return { hostAccount: { pluginGuid, pluginInput } }
  throw new GmsaError('REQUEST_INVALID', `${account}: nothing says what the CCG plug-in is to ask for`, {
    hint: 'give --plugin-input <namespace>:<account>, or --no-host-account where the hosts are members of the domain',
  })
}

function parseAlso(text: string): { name: string; scope: string } {
  const [, name, scope] = /^([^@]+)@([^@]+)$/.exec(text) ?? []
  if (name !== undefined && scope !== undefined) return { name, scope }
  throw new GmsaError('REQUEST_INVALID', `--also: expected NAME@SCOPE, such as web02@ad.example.com`)
}

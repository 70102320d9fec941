import { dirname } from 'node:path'
import type { AgentOptions } from '../agent/agent.ts'
import { askForKeys, type Keys, obtainTicket } from '../agent/ccache-work.ts'
import type { AgentConfig, KeytabConfig, OutputConfig } from '../agent/config.ts'
import { type IdentitySource, openIdentity } from '../agent/identity.ts'
import { expectWritable, inspectFile, inspectHook } from '../agent/inspect.ts'
import { KeytabFiles } from '../agent/keytab-files.ts'
import { kvnoInForce, parseAnswer } from '../agent/keytab-keeper.ts'
import { expectGmsa } from '../agent/lease.ts'
import { makeServiceClient, type ServiceClient } from '../agent/service-client.ts'
import { locateFile } from '../agent/target.ts'
import { silentLog } from '../base/log.ts'
import type { KeytabEntry } from '../kerberos/keytab.ts'
import { formatPrincipal } from '../kerberos/principal.ts'
import { type Finding, findingOf } from './findings.ts'

type CheckOptions = Omit<AgentOptions, 'log'>

/**
 * Tries all that an agent of this configuration needs: certificates, files with their folders and owners, hooks, and
 * unless `offline` each address of the service for each account, and a ticket where one is wanted. Writes nothing.
 * Never rejects: what would not work is a finding that failed.
 */
export async function checkAgent(options: CheckOptions, offline: boolean): Promise<Finding[]> {
  const { config } = options
  const { identity, finding } = await checkCertificate(options)
  const findings = [configurationFinding(config), ...disabledFindings(config), finding]
  const { textfile } = config
  if (textfile !== undefined) findings.push(await findingOf('textfile', () => checkTextfile(textfile)))
  for (const output of config.outputs) findings.push(...(await checkFile(output)))
  if (offline) return findings
  if (finding.state === 'failed') {
    return [...findings, { subject: 'service', state: 'skipped', detail: 'nobody can be asked without a certificate' }]
  }
  return [...findings, ...(await checkService(options, identity))]
}

function configurationFinding({ outputs, disabled }: AgentConfig): Finding {
  const names = new Set(outputs.map(({ name }) => name))
  const left = disabled.size === 0 ? '' : `; ${disabled.size} left out`
  return { subject: 'configuration', state: 'ok', detail: `accounts: ${names.size}, files: ${outputs.length}${left}` }
}

function disabledFindings({ disabled }: AgentConfig): Finding[] {
  return [...disabled].flatMap(([name, problems]) =>
    problems.map((detail) => ({
      subject: `account ${name}`,
      state: 'failed' as const,
      detail,
      code: 'CONFIG_INVALID',
    })),
  )
}

async function checkCertificate({
  config,
  clock,
}: CheckOptions): Promise<{ identity: IdentitySource; finding: Finding }> {
  const identity = openIdentity(config.tls, silentLog)
  const finding = await findingOf('certificate', async () => {
    await identity.load()
    // The floor of the service is loaded for this command alone.
    const { describeClient } = await import('./certificate-report.ts')
    return describeClient(config.tls, undefined, clock.now())
  })
  return { identity, finding }
}

async function checkTextfile(path: string): Promise<string> {
  await expectWritable(dirname(path), path)
  return path
}

async function checkFile(output: OutputConfig): Promise<Finding[]> {
  const { name, kind, onChange } = output
  const findings = [await findingOf(`${name} ${kind} file`, () => inspectFile(output))]
  if (onChange) findings.push(await findingOf(`${name} ${kind} hook`, () => inspectHook(onChange)))
  return findings
}

/** Each address for each account: which of them fails is seen, and not only whether one answers. */
async function checkService(options: CheckOptions, identity: IdentitySource): Promise<Finding[]> {
  const { config, clock } = options
  const clients = config.servers.map((server) => ({
    host: new URL(server).host,
    client: makeServiceClient({ ...config, servers: [server], identity: () => identity.load(), clock }),
  }))
  const files = new KeytabFiles()
  const findings: Finding[] = []
  for (const output of config.outputs) {
    const { name, kind } = output
    let keys: Keys | undefined
    for (const { host, client } of clients) {
      const ask = async () => {
        if (isKeytab(output)) return askForKeytab(output, client, { files, now: clock.now() })
        keys = await askForKeys(output.account, client, { signal: new AbortController().signal })
        if (output.lease) expectGmsa(output.lease, keys.principal)
        return describeKeys(keys.entries, clock.now())
      }
      findings.push(await findingOf(`${name} ${kind} from ${host}`, ask))
    }
    if (keys) findings.push(await checkTicket(output, keys, options))
  }
  return findings
}

const isKeytab = (output: OutputConfig): output is KeytabConfig => output.kind !== 'ccache'

async function askForKeytab(
  output: KeytabConfig,
  client: ServiceClient,
  { files, now }: { files: KeytabFiles; now: number },
): Promise<string> {
  const { name, account, kind: use, principals, file } = output
  const { bytes = Buffer.alloc(0) } = await client.keytab({ account, use, principals })
  const entries = parseAnswer(bytes, account)
  files.claim(await locateFile(file).catch(() => file), { by: `${name} ${use}`, fresh: entries })
  return describeKeys(entries, now)
}

function describeKeys(entries: readonly KeytabEntry[], now: number): string {
  const principals = new Set(entries.map(({ principal }) => formatPrincipal(principal)))
  return `${entries.length} keys, kvno ${kvnoInForce(entries, now)}; ${[...principals].join(', ')}`
}

/** Logs on as the agent would, and keeps nothing of it. */
async function checkTicket({ name, ticket }: OutputConfig, keys: Keys, options: CheckOptions): Promise<Finding> {
  const { krb5Config } = options.config
  const { signal } = new AbortController()
  return findingOf(`${name} ticket`, async () => {
    const { credential, kdc } = await obtainTicket(
      keys,
      { ...(ticket && { ticket }) },
      { ...options, krb5Config, signal },
    )
    return `from ${kdc}, until ${new Date(credential.endTime * 1000).toISOString()}`
  })
}

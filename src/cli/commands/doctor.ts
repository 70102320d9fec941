import { readFile } from 'node:fs/promises'
import { Command } from 'commander'
import { systemClock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { silentLog } from '../../base/log.ts'
import { withDeadline } from '../../broker/deadline.ts'
import type { ImpersonationCredential, ManagedPassword, Material } from '../../gmsa/material.ts'
import {
  bindName,
  type DirectoryServer,
  findDomainControllers,
  logOn,
  readDirectoryTime,
  withDirectory,
} from '../../providers/active-directory/directory.ts'
import type { Account, Provider } from '../../providers/provider.ts'
import { describeMaterial, readMaterial } from '../account-probe.ts'
import { describeKdcClock, describeSkew, describeTicket, ticketRequestFor } from '../as-probe.ts'
import { type Config, expectLoaded } from '../config.ts'
import { judgeSpecFile } from '../credential-spec-report.ts'
import { type Finding, findingOf, printFindings } from '../findings.ts'
import { describeKeys } from '../keys-report.ts'
import { compareOffline } from '../offline-compare.ts'
import { openProvider } from '../open-providers.ts'
import { loadRunConfig } from '../rancher-mode.ts'

interface DoctorFlags {
  readonly config?: string
  readonly dc?: string
  readonly ca?: string
  readonly credspec?: string
  readonly json?: boolean
}

export function doctorCommand(): Command {
  return new Command('doctor')
    .description(
      'walk the whole chain for one account: store, record, domain controller, clock, log-on or keys, a ticket',
    )
    .argument('<account>', 'the account, as the configuration names it')
    .option('--config <file>', 'configuration file')
    .option(
      '--dc <host>',
      'domain controller (LDAPS, Kerberos); absent: the one that gave the password, or found by SRV records',
    )
    .option('--ca <file>', "PEM file of the CA that issued the domain controller's certificate; absent: the system's")
    .option('--credspec <file>', 'judge this credential spec too, and compare it with the directory')
    .option('--json', 'print the findings as JSON')
    .action(async (account: string, flags: DoctorFlags) => {
      const { config } = expectLoaded(
        await loadRunConfig({ file: flags.config, env: process.env, cwd: process.cwd() }, {}),
      )
      const findings = await examine(account, config, flags)
      printFindings(findings, flags.json ?? false)
      if (findings.some((each) => each.state === 'failed')) process.exitCode = 1
    })
}

type IsMinor = ((finding: Finding) => boolean) | undefined
/** One link of the chain: a name, what looks at it, and which failures of it are only worth a warning. */
type Link = readonly [subject: string, look: () => Promise<string>, isMinor?: IsMinor]

/** Looks at one link after the other; those behind the first that breaks are named as skipped. */
async function examine(name: string, config: Config, flags: DoctorFlags): Promise<Finding[]> {
  await using stack = new AsyncDisposableStack()
  const found: { provider?: Provider; material?: Material } = {}
  const entry = config.accounts.get(name) ?? config.accounts.get('*')
  const account: Account = { name, secret: entry?.secret ?? name, options: entry?.options ?? {} }
  const first: Link[] = [
    ['configuration', async () => `provider ${expectEntry(entry).provider}`],
    [
      'store',
      async () => {
        const { provider: its } = expectEntry(entry)
        const options = expectFound(config.providers.get(its))
        found.provider = stack.use(await openProvider(its, options, { log: silentLog, clock: systemClock }, config))
        await withDeadline((signal) => expectFound(found.provider).probe(signal), config.timeouts.store, systemClock)
        return `${options.type} ${its}: answers`
      },
    ],
    [
      'record',
      async () => {
        found.material = await readMaterial(expectFound(found.provider), account, config.timeouts.store)
        return describeMaterial(found.material)
      },
    ],
  ]
  const findings = await walk(first, [])
  const walked = await walk(linksOf(found.material, account, config, flags), findings)
  const { credspec } = flags
  const spec = credspec === undefined ? [] : await examineSpec(credspec, found.provider, config.timeouts.store)
  return [...walked, ...(await compareOffline(found.material, account, config)), ...spec]
}

/** Compares it with the directory where the account's provider is one, and where that answers. */
async function examineSpec(file: string, provider: Provider | undefined, timeout: number): Promise<Finding[]> {
  const facts = provider?.domain && withDeadline(provider.domain, timeout, systemClock).catch(() => undefined)
  return judgeSpecFile(file, await facts)
}

async function walk(links: readonly Link[], before: readonly Finding[]): Promise<Finding[]> {
  const findings = [...before]
  for (const [subject, look, isMinor] of links) {
    const broken = findings.some((each) => each.state === 'failed')
    if (broken) findings.push({ subject, state: 'skipped', detail: 'the chain is broken above' })
    else findings.push(weighed(await findingOf(subject, look), isMinor))
  }
  return findings
}

/** What comes after the record depends on what it is. Nothing known yet: as for a credential, to be named as skipped. */
function linksOf(material: Material | undefined, account: Account, config: Config, flags: DoctorFlags): Link[] {
  if (material?.kind === 'managed-password') return keyLinks(material, account, config, flags)
  if (material?.kind === 'kerberos-keys' || material?.kind === 'kds-root-key') return []
  const found: { server?: DirectoryServer } = {}
  return [
    [
      'domain controller',
      async () => {
        found.server = await chooseServer(expectFound(material), config, flags)
        return found.server.host
      },
    ],
    ['clock', () => compareClocks(expectFound(found.server))],
    ['log-on', () => tryLogOn(expectFound(found.server), expectFound(material))],
  ]
}

function weighed(finding: Finding, isMinor: IsMinor): Finding {
  return finding.state === 'failed' && isMinor?.(finding) ? { ...finding, state: 'warning' } : finding
}

/** No KDC was found, or none answered. */
function isOutOfReach({ code, reason }: Finding): boolean {
  const outage = code === 'STORE_UNAVAILABLE' || code === 'STORE_TIMEOUT'
  return outage && ['not-found', 'refused', 'hang'].includes(reason ?? '')
}

function keyLinks(material: ManagedPassword, account: Account, config: Config, { dc }: DoctorFlags): Link[] {
  // Where no controller gave the password, none need be in reach: that is what such stores are for.
  const isMinor = material.server === undefined && dc === undefined ? isOutOfReach : undefined
  const request = () => ticketRequestFor(material, account.options, { dc, timeout: config.timeouts.request })
  return [
    ['keys', () => describeKeys(material, account.options, systemClock.now())],
    ['clock', async () => describeKdcClock(await request()), isMinor],
    ['AS exchange', async () => describeTicket(await request()), isMinor],
  ]
}

function expectFound<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('looked at out of order')
  return value
}

function expectEntry<T>(entry: T | undefined): T {
  if (!entry) throw new GmsaError('ACCOUNT_NOT_FOUND', 'no such account is configured', { hint: 'add it to accounts' })
  return entry
}

async function chooseServer(
  { domainName }: ImpersonationCredential,
  config: Config,
  { dc, ca }: DoctorFlags,
): Promise<DirectoryServer> {
  const more = { timeout: config.timeouts.store, ...(ca === undefined ? {} : { ca: await readFile(ca, 'utf8') }) }
  if (dc !== undefined) return { host: dc, ...more }
  if (!domainName.includes('.')) {
    throw new GmsaError('STORE_UNAVAILABLE', `domain ${domainName} is a NetBIOS name: it has no SRV records`, {
      reason: 'not-found',
      hint: 'name a domain controller with --dc',
    })
  }
  const [host = ''] = await findDomainControllers(domainName)
  return { host, ...more }
}

async function compareClocks(server: DirectoryServer): Promise<string> {
  const theirs = await withDirectory(server, readDirectoryTime)
  return describeSkew(server.host, theirs.getTime() - systemClock.now())
}

async function tryLogOn(
  server: DirectoryServer,
  { username, domainName, password }: ImpersonationCredential,
): Promise<string> {
  const name = bindName(username, domainName)
  await withDirectory(server, (client) => logOn(client, name, password))
  return `${name} logs on at ${server.host}`
}

import { readFile } from 'node:fs/promises'
import { Command } from 'commander'
import { systemClock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { silentLog } from '../../base/log.ts'
import { withDeadline } from '../../broker/deadline.ts'
import type { ImpersonationCredential } from '../../gmsa/material.ts'
import {
  bindName,
  type DirectoryServer,
  findDomainControllers,
  logOn,
  readDirectoryTime,
  withDirectory,
} from '../../providers/active-directory/directory.ts'
import { type Config, expectLoaded } from '../config.ts'
import { type Finding, findingOf, printFindings } from '../findings.ts'
import { openProvider } from '../open-providers.ts'
import { loadRunConfig } from '../rancher-mode.ts'

interface DoctorFlags {
  readonly config?: string
  readonly dc?: string
  readonly ca?: string
  readonly json?: boolean
}

/** Kerberos refuses tickets when clocks differ by more (RFC 4120 1.6; AD's default is five minutes). */
const MAX_SKEW = 5 * 60_000

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('walk the whole chain for one account: store, record, domain controller, clock, log-on')
    .argument('<account>', 'the account, as the configuration names it')
    .option('--config <file>', 'configuration file')
    .option('--dc <host>', 'domain controller (LDAPS); absent: found by the SRV records of the domain')
    .option('--ca <file>', "PEM file of the CA that issued the domain controller's certificate; absent: the system's")
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

const LINKS = ['configuration', 'store', 'credential', 'domain controller', 'clock', 'log-on'] as const

/** Looks at one link after the other; those behind the first that breaks are named as skipped. */
async function examine(account: string, config: Config, flags: DoctorFlags): Promise<Finding[]> {
  const findings: Finding[] = []
  const found: { credential?: ImpersonationCredential; server?: DirectoryServer } = {}
  const looks: Record<(typeof LINKS)[number], () => Promise<string>> = {
    configuration: async () => `provider ${entryOf(account, config).provider}`,
    store: () => askStore(account, config),
    credential: async () => {
      found.credential = await readCredential(account, config)
      return `${found.credential.username}, domain ${found.credential.domainName}`
    },
    'domain controller': async () => {
      found.server = await chooseServer(expectFound(found.credential), config, flags)
      return found.server.host
    },
    clock: () => compareClocks(expectFound(found.server)),
    'log-on': () => tryLogOn(expectFound(found.server), expectFound(found.credential)),
  }
  for (const subject of LINKS) {
    const broken = findings.some((each) => each.state === 'failed')
    if (broken) findings.push({ subject, state: 'skipped', detail: 'the chain is broken above' })
    else findings.push(await findingOf(subject, looks[subject]))
  }
  return findings
}

function expectFound<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('looked at out of order')
  return value
}

function entryOf(account: string, { accounts }: Config) {
  const entry = accounts.get(account) ?? accounts.get('*')
  if (!entry) throw new GmsaError('ACCOUNT_NOT_FOUND', 'no such account is configured', { hint: 'add it to accounts' })
  return entry
}

async function askStore(account: string, config: Config): Promise<string> {
  const { provider: name } = entryOf(account, config)
  const options = expectFound(config.providers.get(name))
  await using provider = await openProvider(name, options, { log: silentLog, clock: systemClock })
  await withDeadline((signal) => provider.probe(signal), config.timeouts.store, systemClock)
  return `${options.type} ${name}: answers`
}

async function readCredential(account: string, config: Config): Promise<ImpersonationCredential> {
  const { provider: name, secret = account, options } = entryOf(account, config)
  await using provider = await openProvider(name, expectFound(config.providers.get(name)), {
    log: silentLog,
    clock: systemClock,
  })
  const { credential } = provider.reads
  if (!credential) throw new GmsaError('KIND_NOT_OFFERED', `provider ${name} holds no credential`)
  return withDeadline(
    (signal) => credential({ name: account, secret, options }, signal),
    config.timeouts.store,
    systemClock,
  )
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
  const skew = theirs.getTime() - systemClock.now()
  const detail = `${server.host} is ${Math.round(Math.abs(skew) / 1000)} s ${skew < 0 ? 'behind' : 'ahead'}`
  if (Math.abs(skew) <= MAX_SKEW) return detail
  throw new GmsaError('STORE_UNAVAILABLE', `${detail}: Kerberos takes no more than 300 s`, {
    reason: 'clock',
    hint: 'synchronise the clocks of both machines',
  })
}

async function tryLogOn(
  server: DirectoryServer,
  { username, domainName, password }: ImpersonationCredential,
): Promise<string> {
  const name = bindName(username, domainName)
  await withDirectory(server, (client) => logOn(client, name, password))
  return `${name} logs on at ${server.host}`
}

import { isIP } from 'node:net'
import { parseDuration } from '../base/duration.ts'
import type { ProviderType } from '../providers/define.ts'
import { asRecord, own } from './config-document.ts'
import { didYouMean } from './config-near-miss.ts'
import { type Origins, type Path, type Problem, problemAt } from './config-problem.ts'
import type { ConfigFile } from './config-schema.ts'

/** Node's timers hold no more than 2^31 ms: a longer one would fire at once. */
const MAX_DURATION_DAYS = 24
const DEADLINES: readonly Path[] = [
  ['timeouts', 'store'],
  ['timeouts', 'request'],
]
const DURATIONS: readonly Path[] = [
  ...DEADLINES,
  ['cache', 'maxAge'],
  ['cache', 'serveStale'],
  ['keys', 'keepPrevious'],
  ['shutdown', 'drainDelay'],
  ['shutdown', 'grace'],
]
const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/

type Report = (path: Path, message: string) => void

/**
 * What a schema can't say: references between sections, addresses, bounds of durations. Whatever doesn't fit its
 * schema is passed over here. `openAccounts`: everyone may read every account, so `*` needs no `clients`.
 */
export function checkRules(
  document: unknown,
  types: readonly ProviderType[],
  origins: Origins,
  openAccounts: boolean,
): Problem[] {
  const problems: Problem[] = []
  const report: Report = (path, message) => problems.push(problemAt(origins.value(path), path, message))
  const root = asRecord(document)
  checkTypes(asRecord(root['providers']), types, report)
  checkAccounts(root, types, openAccounts, report)
  checkReferences(root, report)
  checkAddresses(root, report)
  checkDurations(root, report)
  return problems
}

/** What is allowed and yet hardly meant. The document is known to be valid. */
export function findOddities(file: ConfigFile, origins: Origins): Problem[] {
  const oddities: Problem[] = []
  const report: Report = (path, message) => oddities.push(problemAt(origins.value(path), path, message))
  const names = Object.keys(file.accounts)
  for (const [index, { accounts }] of (file.clients ?? []).entries()) {
    for (const [position, name] of accounts.entries()) {
      if (names.includes('*') || name.includes('*') || names.includes(name)) continue
      const path = ['clients', `[${index}]`, 'accounts', `[${position}]`]
      report(path, `no such account${didYouMean(name, names)}`)
    }
  }
  const used = [...Object.values(file.accounts), ...accountReferences(file.providers)].map(({ provider }) => provider)
  for (const name of Object.keys(file.providers)) {
    if (!used.includes(name)) report(['providers', name], 'no account uses this provider')
  }
  if (parseDuration(file.shutdown.grace) < parseDuration(file.shutdown.drainDelay)) {
    report(['shutdown', 'grace'], 'shorter than shutdown.drainDelay: the listener is cut before it drains')
  }
  return oddities
}

/** An option of a provider that names another's account: `bind: { provider, account }`, or `rootKeys`. */
export interface AccountReference {
  readonly path: Path
  readonly provider: string
  readonly account: string
}

/** The accounts that providers refer to in their options. */
export function accountReferences(providers: Readonly<Record<string, unknown>>): AccountReference[] {
  return Object.entries(providers).flatMap(([name, options]) =>
    Object.entries(asRecord(options)).flatMap(([option, value]): AccountReference[] => {
      const { provider, account } = asRecord(value)
      if (typeof provider !== 'string' || typeof account !== 'string') return []
      return [{ path: ['providers', name, option], provider, account }]
    }),
  )
}

/**
 * The names under which what providers log on with or derive from could be read: the account itself, and every other
 * name of the same record. Without a `clients` section nobody may.
 */
export function reservedAccounts({ providers, accounts }: Pick<ConfigFile, 'providers' | 'accounts'>): Set<string> {
  const reserved = new Set<string>()
  for (const { provider, account } of accountReferences(providers)) {
    const record = accounts[account]?.secret ?? account
    for (const [name, entry] of Object.entries(accounts)) {
      const sameRecord = entry.provider === provider && [record, account].includes(entry.secret ?? name)
      if (name === account || sameRecord) reserved.add(name)
    }
  }
  return reserved
}

function checkTypes(
  providers: Readonly<Record<string, unknown>>,
  types: readonly ProviderType[],
  report: Report,
): void {
  const known = types.map(({ type }) => type)
  for (const [name, options] of Object.entries(providers)) {
    const type = asRecord(options)['type']
    if (typeof type !== 'string' || type === '' || known.includes(type)) continue
    const meant = didYouMean(type, known)
    report(['providers', name, 'type'], `unknown provider type${meant || `: this build has ${known.join(', ')}`}`)
  }
}

function checkAccounts(
  root: Readonly<Record<string, unknown>>,
  types: readonly ProviderType[],
  openAccounts: boolean,
  report: Report,
): void {
  const configs = asRecord(root['providers'])
  const providers = Object.keys(configs)
  for (const [name, options] of Object.entries(asRecord(root['accounts']))) {
    const provider = asRecord(options)['provider']
    const type = types.find((each) => each.type === asRecord(own(configs, provider))['type'])
    for (const { option, problem } of type?.checkAccount?.(name, asRecord(options)) ?? []) {
      report(['accounts', name, ...(option === undefined ? [] : [option])], problem)
    }
    if (typeof provider === 'string' && provider !== '' && !providers.includes(provider)) {
      report(['accounts', name, 'provider'], `no such provider${didYouMean(provider, providers)}`)
    }
    if (name === '*' && root['clients'] === undefined && !openAccounts) {
      report(['accounts', '*'], 'needs a clients section that says who may read which names')
    }
  }
}

function checkReferences(root: Readonly<Record<string, unknown>>, report: Report): void {
  const providers = asRecord(root['providers'])
  for (const { path, provider } of accountReferences(providers)) {
    if (Object.hasOwn(providers, provider)) continue
    report([...path, 'provider'], `no such provider${didYouMean(provider, Object.keys(providers))}`)
  }
}

function checkAddresses(root: Readonly<Record<string, unknown>>, report: Report): void {
  const listen = asRecord(root['listen'])
  const admin = asRecord(root['admin'])
  const hosts = Array.isArray(listen['hosts']) ? listen['hosts'] : []
  for (const [index, host] of hosts.entries()) {
    checkHost(host, ['listen', 'hosts', `[${index}]`], report)
    if (hosts.indexOf(host) < index) report(['listen', 'hosts', `[${index}]`], 'listed twice')
  }
  checkHost(admin['host'], ['admin', 'host'], report)
  const same = listen['port'] === admin['port'] && listen['port'] !== 0
  if (same && hosts.some((host) => overlap(String(host), String(admin['host'])))) {
    report(['admin', 'port'], 'expected another address or port than listen')
  }
}

function checkHost(host: unknown, path: Path, report: Report): void {
  if (typeof host !== 'string' || host === '' || isIP(host) !== 0) return
  const dottedNumbers = /^[0-9.]+$/.test(host)
  if (dottedNumbers || !HOST_NAME.test(host)) report(path, 'expected an IP address or a host name')
}

/** Whether both can't be bound to one port. */
function overlap(a: string, b: string): boolean {
  const [one, other] = [bound(a), bound(b)]
  return one.some((address) => other.includes(address))
}

function bound(host: string): readonly string[] {
  const name = host.toLowerCase()
  if (name === 'localhost') return ['127.0.0.1', '::1', '0.0.0.0', '::']
  if (name === '::') return ['::', '0.0.0.0', '127.0.0.1', '::1', 'any4', 'any6']
  if (name === '0.0.0.0') return ['0.0.0.0', '127.0.0.1', 'any4']
  return [name, isIP(name) === 4 ? 'any4' : 'any6']
}

function checkDurations(root: Readonly<Record<string, unknown>>, report: Report): void {
  for (const path of DURATIONS) {
    const [section = '', option = ''] = path
    const text = own(asRecord(root[section]), option)
    const ms = typeof text === 'string' ? durationOf(text) : undefined
    if (ms === undefined) continue
    if (ms > MAX_DURATION_DAYS * 86_400_000) report(path, `expected ${MAX_DURATION_DAYS}d at most`)
    if (ms === 0 && DEADLINES.includes(path)) report(path, 'expected more than 0s')
  }
}

function durationOf(text: string): number | undefined {
  try {
    return parseDuration(text)
  } catch {
    return undefined
  }
}

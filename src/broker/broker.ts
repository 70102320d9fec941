import { randomBytes } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import { GmsaError, toGmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { isAccountName } from '../gmsa/account-name.ts'
import { accountOptionsOf } from '../gmsa/account-options.ts'
import { makeCredentialSpec, RANCHER_PLUGIN } from '../gmsa/credential-spec.ts'
import type { Deliverable, Kind } from '../gmsa/material.ts'
import { formatPrincipal, principalsFor } from '../kerberos/principal.ts'
import type { LogOnOutcome, Provider } from '../providers/provider.ts'
import { type KeytabRequest, keytabOf, tagOf } from './account-keys.ts'
import type {
  AccountListing,
  CredentialAnswer,
  CredentialSpecAnswer,
  KeysAnswer,
  KeytabAnswer,
  ManagedPasswordAnswer,
  Told,
} from './answers.ts'
import { type Breaker, makeBreaker } from './breaker.ts'
import { withDeadline } from './deadline.ts'
import { makeDomainReader } from './domains.ts'
import { type Health, watchHealth } from './health.ts'
import type { Known } from './keeper.ts'
import { Keyring } from './keyring.ts'
import type { Grant } from './policy.ts'
import { type ReadEvents, Reader, type Target } from './reader.ts'
import { StoreCalls } from './store-calls.ts'

/** An account entry of the configuration, as far as the broker needs it. */
export interface AccountEntry {
  readonly provider: string
  readonly secret?: string
  readonly options: Readonly<Record<string, unknown>>
  /** What a credential spec of the account hands to the CCG plug-in; absent: it asks none. */
  readonly pluginInput?: string
}

/** What the broker tells whoever counts. */
export interface BrokerEvents extends ReadEvents {
  providerUp(provider: string, up: boolean): void
  /** The kvno in force and when the keys are due again, in ms since 1970; only for accounts that are named. */
  accountKeys(account: string, keys: { readonly kvno?: number; readonly nextDue?: number }): void
  /** A provider asked one of its servers. */
  directoryRead(provider: string, server: string, outcome: 'ok' | 'failed'): void
  /** A provider tried to log on with the password that its store holds now, or with the one before. */
  logOn(provider: string, credential: 'current' | 'previous', outcome: LogOnOutcome): void
}

export interface BrokerOptions {
  readonly accounts: ReadonlyMap<string, AccountEntry>
  readonly providers: ReadonlyMap<string, Provider>
  readonly cache: { readonly maxAge: number; readonly serveStale: number }
  /** Absent: keys are kept as long as the configuration's default says. */
  readonly keys?: { readonly keepPrevious: number }
  /** How long a store may take for one read, in ms. */
  readonly timeout: number
  readonly clock: Clock
  readonly log: Log
  readonly events: BrokerEvents
  /** From 0 to below 1: spreads the reads of accounts and replicas. */
  readonly random?: () => number
}

/**
 * Decides who may ask, asks the provider, keeps what it said for a while, and derives keys of it. Policy is decided
 * before any store or cache is touched. All reads reject with a GmsaError; ACCOUNT_FORBIDDEN is for log and metric, the
 * client sees ACCOUNT_NOT_FOUND.
 */
export interface Broker extends AsyncDisposable {
  readonly health: Health
  read(grant: Grant, account: string, kind: 'credential'): Promise<CredentialAnswer>
  keys(grant: Grant, account: string): Promise<KeysAnswer>
  keytab(grant: Grant, account: string, request: KeytabRequest): Promise<KeytabAnswer>
  managedPassword(grant: Grant, account: string): Promise<ManagedPasswordAnswer>
  credentialSpec(grant: Grant, account: string): Promise<CredentialSpecAnswer>
  /**
   * Calls back when an answer about this account may have become another. For accounts that were just read with
   * success; never causes a read by itself but at the pace that the schedule or `cache.maxAge` sets.
   */
  onChange(account: string, changed: () => void): Disposable
  /** The configured accounts of which this client may read something, in the order of the configuration. */
  list(grant: Grant): AccountListing[]
  /** The provider an account is configured with, for the audit line; undefined when there is none. */
  providerOf(account: string): string | undefined
}

const ANY_NAME = '*'
const KINDS: readonly Deliverable[] = ['credential', 'keys', 'keytab', 'managed-password', 'credential-spec']
/** What a kind is read as, the best first. */
const SOURCES: Readonly<Record<Exclude<Deliverable, 'credential-spec'>, readonly Kind[]>> = {
  credential: ['credential'],
  keys: ['managed-password', 'kerberos-keys'],
  keytab: ['managed-password', 'kerberos-keys'],
  'managed-password': ['managed-password'],
}
/** 10 h 5 min, as the configuration's default. */
const KEEP_PREVIOUS = 36_300_000
/** Whoever waits for a change that nobody announces has it looked for this often at most, in ms. */
const SOONEST_POLL = 5_000

/** Opens the broker over providers that are open already; it closes them. */
export function openBroker(options: BrokerOptions): Broker {
  return new StoreBroker(options)
}

class StoreBroker implements Broker {
  readonly health: Health
  readonly #options: BrokerOptions
  readonly #reader: Reader
  readonly #keyring: Keyring
  readonly #domainOf: ReturnType<typeof makeDomainReader>
  readonly #listeners = new Map<string, Set<() => void>>()
  readonly #watches: readonly (Disposable | undefined)[]
  /** Tells this process from its replicas, in tags of what only it has numbered. */
  readonly #nonce = randomBytes(9).toString('base64url')

  constructor(options: BrokerOptions) {
    const { providers, clock, log, events, timeout, random = Math.random } = options
    this.#options = options
    const breakers = new Map([...providers.keys()].map((name) => [name, this.#breakerOf(name, random)]))
    const onAnswer = (provider: string) => breakers.get(provider)?.answered()
    const health = watchHealth({ providers, clock, log, timeout, onChange: events.providerUp, onAnswer })
    const calls = new StoreCalls({
      timeout,
      clock,
      random,
      breakers,
      note: health.note,
      onAttempt: events.providerRead,
    })
    const reader = new Reader({ ...options, calls })
    this.health = health
    this.#reader = reader
    this.#domainOf = makeDomainReader({ clock, calls, serveStale: options.cache.serveStale })
    this.#keyring = new Keyring({
      clock,
      log,
      random,
      nonce: this.#nonce,
      keepPrevious: options.keys?.keepPrevious ?? KEEP_PREVIOUS,
      load: (target) => reader.load(target, 'managed-password'),
      stored: (target) => reader.cached(target, 'kerberos-keys'),
      onResult: (result) => events.cacheRead(result),
      onKeys: ({ account, named }, keys) => named && events.accountKeys(account.name, keys),
    })
    this.#watches = [...providers].flatMap(([name, provider]) => [
      provider.watch?.((secret) => this.#announce(name, secret)),
      provider.watchServers?.((server, outcome) => events.directoryRead(name, server, outcome)),
      provider.watchLogOns?.((credential, outcome) => events.logOn(name, credential, outcome)),
    ])
  }

  async read(grant: Grant, name: string, kind: 'credential'): Promise<CredentialAnswer> {
    const target = this.#targetFor(grant, name, kind)
    const { material, revision, staleFor } = await this.#reader.cached(target, kind)
    return { material, ...this.#told(target, tagOf(kind, this.#nonce, revision), staleFor) }
  }

  async keys(grant: Grant, name: string): Promise<KeysAnswer> {
    const target = this.#targetFor(grant, name, 'keys')
    const { account, known, staleFor, ...shared } = await this.#readKeys(target)
    const times = known && timesOf(known)
    const principal = principalsFor('initiator', account.names).map(formatPrincipal).join()
    const told = this.#told(target, tagOf('keys', principal, account.state, times), staleFor, known)
    return { ...told, ...shared, ...times, principal, keys: account.keys }
  }

  async keytab(grant: Grant, name: string, request: KeytabRequest): Promise<KeytabAnswer> {
    const target = this.#targetFor(grant, name, 'keytab')
    const { account, known, staleFor, kvno, refreshAt } = await this.#readKeys(target)
    const { bytes, tag } = keytabOf(account, request)
    return { ...this.#told(target, tag, staleFor, known), kvno, refreshAt, bytes }
  }

  async managedPassword(grant: Grant, name: string): Promise<ManagedPasswordAnswer> {
    const { cache, clock } = this.#options
    const target = this.#targetFor(grant, name, 'managed-password')
    // Its intervals count from the read: an old blob would tell its reader to come back too late.
    const { material, known, state } = await this.#keyring.password(target, cache.maxAge)
    const { schedule, refreshAt, staleFor } = known
    const kvno = schedule.initiator[0]?.kvno?.value
    const age = Math.max(0, Math.floor((clock.now() - material.receivedAt) / 1000))
    const told = this.#told(target, tagOf('managed-password', state), staleFor, known)
    return { ...told, ...(kvno !== undefined && { kvno }), refreshAt, blob: material.blob, age }
  }

  async credentialSpec(grant: Grant, name: string): Promise<CredentialSpecAnswer> {
    const target = this.#targetFor(grant, name, 'credential-spec')
    const { value: domain, staleFor } = await this.#domainOf(target.provider)
    const { samAccountName = name } = accountOptionsOf(target.account.options)
    const pluginInput = this.#entryOf(name)?.pluginInput
    const hostAccount = pluginInput === undefined ? undefined : { pluginGuid: RANCHER_PLUGIN, pluginInput }
    const spec = makeCredentialSpec({ domain, samAccountName, ...(hostAccount && { hostAccount }) })
    return { ...this.#told(target, tagOf('credential-spec', spec), staleFor), spec }
  }

  onChange(name: string, changed: () => void): Disposable {
    const mine = this.#listeners.get(name) ?? new Set()
    this.#listeners.set(name, mine.add(changed))
    const keeper = this.#keyring.onChange(name, changed)
    const poll = this.#options.clock.every(Math.max(this.#options.cache.maxAge, SOONEST_POLL), changed)
    return {
      [Symbol.dispose]: () => {
        poll[Symbol.dispose]()
        keeper[Symbol.dispose]()
        mine.delete(changed)
        if (mine.size === 0 && this.#listeners.get(name) === mine) this.#listeners.delete(name)
      },
    }
  }

  list(grant: Grant): AccountListing[] {
    return [...this.#options.accounts.keys()]
      .filter((name) => name !== ANY_NAME)
      .map((name) => {
        const kinds = KINDS.filter((kind) => this.#offers(name, kind) && grant.allows(name, kind))
        return {
          name,
          kinds,
          ...(kinds.some((kind) => kind === 'keys' || kind === 'keytab' || kind === 'managed-password') &&
            this.#keyring.peek(name)),
        }
      })
      .filter((listing) => listing.kinds.length > 0)
  }

  providerOf(account: string): string | undefined {
    return this.#entryOf(account)?.provider
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.health[Symbol.dispose]()
    this.#keyring[Symbol.dispose]()
    for (const watch of this.#watches) watch?.[Symbol.dispose]()
    await Promise.all([...this.#options.providers.values()].map((provider) => close(provider, this.#options)))
  }

  #breakerOf(provider: string, random: () => number): Breaker {
    const { clock, log } = this.#options
    return makeBreaker({
      provider,
      clock,
      log,
      random,
      onOpened: (until) => this.health.rests(provider, until),
      onClosed: () => this.#keyring.recovered(provider),
    })
  }

  #entryOf(account: string): AccountEntry | undefined {
    return this.#options.accounts.get(account) ?? this.#options.accounts.get(ANY_NAME)
  }

  /** Policy first: nothing of the account is looked at for whoever may not read it. */
  #targetFor(grant: Grant, name: string, kind: Deliverable): Target {
    if (!isAccountName(name)) throw new GmsaError('REQUEST_INVALID', 'not an account name', { status: 404 })
    if (!grant.allows(name, kind)) throw new GmsaError('ACCOUNT_FORBIDDEN', 'the policy does not allow it')
    const entry = this.#entryOf(name)
    const provider = entry && this.#options.providers.get(entry.provider)
    if (!entry || !provider) throw new GmsaError('ACCOUNT_NOT_FOUND', 'no such account is configured')
    const account = { name, secret: entry.secret ?? name, options: entry.options }
    return { account, provider, named: this.#options.accounts.has(name) }
  }

  #told({ provider, account, named }: Target, tag: string, staleFor: number | undefined, known?: Known): Told {
    if (named && staleFor !== undefined) this.#options.events.accountRead(account.name, { stale: true })
    const server = known?.material.server
    return {
      provider: provider.name,
      ...(server !== undefined && { server }),
      tag,
      ...(staleFor !== undefined && { stale: Math.ceil(staleFor / 1000) }),
    }
  }

  async #readKeys(target: Target) {
    const { account, known, staleFor } = await this.#keyring.keys(target)
    const refreshAt = known?.refreshAt ?? this.#options.clock.now() + this.#options.cache.maxAge
    return { account, known, staleFor, kvno: account.kvno, refreshAt }
  }

  #announce(provider: string, secret: string | undefined): void {
    this.#reader.announce(provider, secret)
    this.#keyring.announce(provider, secret)
    for (const [name, changed] of this.#listeners) {
      const entry = this.#entryOf(name)
      if (entry?.provider !== provider || (secret !== undefined && secret !== (entry.secret ?? name))) continue
      for (const each of [...changed]) each()
    }
  }

  /** What the provider can hold; for an account whose record was read, what that holds. */
  #offers(name: string, kind: Deliverable): boolean {
    const provider = this.#options.providers.get(this.#entryOf(name)?.provider ?? '')
    if (kind === 'credential-spec') return provider?.domain !== undefined
    const reads = provider?.reads ?? {}
    const held = this.#keyring.heldKind(name)
    return SOURCES[kind].some((source) => reads[source] !== undefined && (held === undefined || held === source))
  }
}

/** When the keys of a schedule change or are read again, and until when the previous ones are kept. */
function timesOf({ schedule: { nextReadAt, changesAt, previousValidUntil } }: Known) {
  return {
    changesAt: Math.min(nextReadAt, changesAt ?? nextReadAt),
    ...(previousValidUntil !== undefined && { previousValidUntil }),
  }
}

/** A store that fails to close, or hangs at it, must not keep the others open. Never rejects. */
async function close(provider: Provider, { timeout, clock, log }: BrokerOptions): Promise<void> {
  try {
    await withDeadline(async () => provider[Symbol.asyncDispose](), timeout, clock)
  } catch (thrown) {
    log.warn({ provider: provider.name, problem: toGmsaError(thrown).message }, 'store not closed in order')
  }
}

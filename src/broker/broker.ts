import type { Clock } from '../base/clock.ts'
import { GmsaError, toGmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { isAccountName } from '../gmsa/account-name.ts'
import type { Deliverable, Kind, Material, MaterialOf } from '../gmsa/material.ts'
import type { Account, Provider } from '../providers/provider.ts'
import { type CacheResult, makeCache } from './cache.ts'
import { withDeadline } from './deadline.ts'
import { type Health, watchHealth } from './health.ts'
import type { Grant } from './policy.ts'

/** An account entry of the configuration, as far as the broker needs it. */
export interface AccountEntry {
  readonly provider: string
  readonly secret?: string
  readonly options: Readonly<Record<string, unknown>>
}

/** What the broker tells whoever counts. */
export interface BrokerEvents {
  cacheRead(result: CacheResult): void
  providerRead(provider: string, seconds: number, error?: GmsaError): void
  providerUp(provider: string, up: boolean): void
  /** A read that succeeded, or an older answer in its place; only for accounts that the configuration names. */
  accountRead(account: string, outcome: { readonly stale: boolean }): void
}

export interface BrokerOptions {
  readonly accounts: ReadonlyMap<string, AccountEntry>
  readonly providers: ReadonlyMap<string, Provider>
  readonly cache: { readonly maxAge: number; readonly serveStale: number }
  /** How long a store may take for one read, in ms. */
  readonly timeout: number
  readonly clock: Clock
  readonly log: Log
  readonly events: BrokerEvents
}

export interface Answer<K extends Kind> {
  readonly material: MaterialOf<K>
  readonly provider: string
  /** Whole seconds since the store said so, where it is out now. */
  readonly stale?: number
}

export interface AccountListing {
  readonly name: string
  readonly kinds: readonly Deliverable[]
}

/** Decides who may ask, asks the provider, and keeps what it said for a while. */
export interface Broker extends AsyncDisposable {
  readonly health: Health
  /**
   * What `account` holds of this kind. Policy is decided before any store or cache is touched.
   * Rejects with a GmsaError; ACCOUNT_FORBIDDEN is for log and metric, the client sees ACCOUNT_NOT_FOUND.
   */
  read<K extends Deliverable>(grant: Grant, account: string, kind: K): Promise<Answer<K>>
  /** The configured accounts of which this client may read something, in the order of the configuration. */
  list(grant: Grant): AccountListing[]
  /** The provider an account is configured with, for the audit line; undefined when there is none. */
  providerOf(account: string): string | undefined
}

const ANY_NAME = '*'
const KINDS: readonly Deliverable[] = ['credential']

/** Opens the broker over providers that are open already; it closes them. */
export function openBroker(options: BrokerOptions): Broker {
  const { accounts, providers, clock, log, events } = options
  const cache = makeCache<Material>({
    clock,
    ...options.cache,
    onResult: events.cacheRead,
  })
  const health = watchHealth({ providers, clock, log, timeout: options.timeout, onChange: events.providerUp })
  const watches = [...providers].map(([name, provider]) =>
    provider.watch?.((secret) => cache.invalidate((key) => keyIsOf(key, name, secret))),
  )

  function entryOf(account: string): AccountEntry | undefined {
    return accounts.get(account) ?? accounts.get(ANY_NAME)
  }

  async function load(provider: Provider, account: Account, kind: Deliverable): Promise<Material> {
    const read = provider.reads[kind]
    if (!read) throw new GmsaError('KIND_NOT_OFFERED', `provider ${provider.name} holds no ${kind}`)
    const started = clock.monotonic()
    const done = (error?: GmsaError) => {
      events.providerRead(provider.name, (clock.monotonic() - started) / 1000, error)
      health.note(provider.name, error)
    }
    try {
      const material = await withDeadline((signal) => read(account, signal), options.timeout, clock)
      done()
      if (accounts.has(account.name)) events.accountRead(account.name, { stale: false })
      return material
    } catch (thrown) {
      const error = toGmsaError(thrown)
      done(error)
      throw error
    }
  }

  async function read<K extends Deliverable>(grant: Grant, name: string, kind: K): Promise<Answer<K>> {
    if (!isAccountName(name)) throw new GmsaError('REQUEST_INVALID', 'not an account name', { status: 404 })
    if (!grant.allows(name, kind)) throw new GmsaError('ACCOUNT_FORBIDDEN', 'the policy does not allow it')
    const entry = entryOf(name)
    const provider = entry && providers.get(entry.provider)
    if (!entry || !provider) throw new GmsaError('ACCOUNT_NOT_FOUND', 'no such account is configured')
    const account: Account = { name, secret: entry.secret ?? name, options: entry.options }
    const pinned = accounts.has(name)
    const cached = await cache.get([provider.name, account.secret, kind, name].join('\n'), pinned, () =>
      load(provider, account, kind),
    )
    if (pinned && cached.staleFor !== undefined) events.accountRead(name, { stale: true })
    return {
      material: cached.value as MaterialOf<K>,
      provider: provider.name,
      ...(cached.staleFor !== undefined && { stale: Math.ceil(cached.staleFor / 1000) }),
    }
  }

  return {
    health,
    read,
    list(grant) {
      return [...accounts.keys()]
        .filter((name) => name !== ANY_NAME)
        .map((name) => ({ name, kinds: KINDS.filter((kind) => offers(name, kind) && grant.allows(name, kind)) }))
        .filter((listing) => listing.kinds.length > 0)
    },
    providerOf: (account) => entryOf(account)?.provider,
    async [Symbol.asyncDispose]() {
      health[Symbol.dispose]()
      for (const watch of watches) watch?.[Symbol.dispose]()
      await Promise.all([...providers.values()].map((provider) => close(provider, options)))
    },
  }

  function offers(name: string, kind: Deliverable): boolean {
    return providers.get(entryOf(name)?.provider ?? '')?.reads[kind] !== undefined
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

/** Cache keys are lines: provider, secret, kind, account. A store announces changes by its own name of the account. */
function keyIsOf(key: string, provider: string, secret: string | undefined): boolean {
  return key.startsWith(secret === undefined ? `${provider}\n` : `${provider}\n${secret}\n`)
}

import type { Clock } from '../base/clock.ts'
import { GmsaError, toGmsaError } from '../base/errors.ts'
import type { Kind, Material, MaterialOf } from '../gmsa/material.ts'
import type { Account, Provider } from '../providers/provider.ts'
import { type Cache, type CacheResult, makeCache } from './cache.ts'
import { withDeadline } from './deadline.ts'
import type { Health } from './health.ts'

/** An account somebody may read, and where it lies. */
export interface Target {
  readonly account: Account
  readonly provider: Provider
  /** Named in the configuration, and not only meant by its `*`. */
  readonly named: boolean
}

/** What is told of reads. */
export interface ReadEvents {
  cacheRead(result: CacheResult): void
  providerRead(provider: string, seconds: number, error?: GmsaError): void
  /** A read that succeeded, or an older answer in its place; only for accounts that the configuration names. */
  accountRead(account: string, outcome: { readonly stale: boolean }): void
}

export interface ReaderOptions {
  readonly cache: { readonly maxAge: number; readonly serveStale: number }
  /** How long a store may take for one read, in ms. */
  readonly timeout: number
  readonly clock: Clock
  readonly health: Health
  readonly events: ReadEvents
}

export interface CachedRead<K extends Kind> {
  readonly material: MaterialOf<K>
  /** Another number for each material that differs from the one before. */
  readonly revision: number
  /** Age in ms, where the store is out. */
  readonly staleFor: number | undefined
}

interface Versioned {
  readonly material: Material
  readonly revision: number
}

/** Asks the stores: within the deadline, counted, and where it is wanted from a cache. */
export class Reader {
  readonly #options: ReaderOptions
  readonly #cache: Cache<Versioned>
  readonly #revisions = makeRevisionNumbers()

  constructor(options: ReaderOptions) {
    this.#options = options
    const { clock, cache, events } = options
    this.#cache = makeCache({ clock, ...cache, onResult: (result) => events.cacheRead(result) })
  }

  /** One read of the store. Rejects with a GmsaError. */
  async load<K extends Kind>({ provider, account, named }: Target, kind: K): Promise<MaterialOf<K>> {
    const { clock, events, health, timeout } = this.#options
    const read = provider.reads[kind]
    if (!read) throw new GmsaError('KIND_NOT_OFFERED', `provider ${provider.name} holds no ${kind}`)
    const started = clock.monotonic()
    const done = (error?: GmsaError) => {
      events.providerRead(provider.name, (clock.monotonic() - started) / 1000, error)
      health.note(provider.name, error)
    }
    try {
      const material = await withDeadline((signal) => read(account, signal), timeout, clock)
      done()
      if (named) events.accountRead(account.name, { stale: false })
      return material
    } catch (thrown) {
      const error = toGmsaError(thrown)
      done(error)
      throw error
    }
  }

  /** What has no schedule of its own, kept for `cache.maxAge`. Rejects with a GmsaError. */
  async cached<K extends 'credential' | 'kerberos-keys'>(target: Target, kind: K): Promise<CachedRead<K>> {
    const { provider, account, named } = target
    const key = [provider.name, account.secret, kind, account.name].join('\n')
    const { value, staleFor } = await this.#cache.get(key, named, async () => {
      const material = await this.load(target, kind)
      return { material, revision: this.#revisions(key, material) }
    })
    return { material: value.material as MaterialOf<K>, revision: value.revision, staleFor }
  }

  /** A store announced a change, by its own name of the account; of any, where it names none. */
  announce(provider: string, secret: string | undefined): void {
    const start = secret === undefined ? `${provider}\n` : `${provider}\n${secret}\n`
    this.#cache.invalidate((key) => key.startsWith(start))
  }
}

/** Numbers found by comparing with the one before: nothing of a secret may show in what tells its states apart. */
function makeRevisionNumbers(bound = 2_000): (key: string, material: Material) => number {
  const known = new Map<string, Versioned>()
  let last = 0
  return (key, material) => {
    const before = known.get(key)
    const revision = before && isSame(before.material, material) ? before.revision : ++last
    known.delete(key)
    known.set(key, { material, revision })
    if (known.size > bound) known.delete(known.keys().next().value ?? key)
    return revision
  }
}

function isSame(one: Material, other: Material): boolean {
  if (one.kind !== 'credential' || other.kind !== 'credential') return false
  const names = one.username === other.username && one.domainName === other.domainName
  return names && one.password.equals(other.password)
}

import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import type { Kind, Material, MaterialOf } from '../gmsa/material.ts'
import type { Account, Provider } from '../providers/provider.ts'
import { type Cache, type CacheResult, makeCache } from './cache.ts'
import type { StoreCalls } from './store-calls.ts'

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
  /** One attempt that reached the store. */
  providerRead(provider: string, seconds: number, error?: GmsaError): void
  /** A read that succeeded, or an older answer in its place; only for accounts that the configuration names. */
  accountRead(account: string, outcome: { readonly stale: boolean }): void
}

export interface ReaderOptions {
  readonly cache: { readonly maxAge: number; readonly serveStale: number }
  readonly clock: Clock
  readonly calls: StoreCalls
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

/** Reads accounts: from the stores, and where it is wanted from a cache. */
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
  async load<K extends Kind>(target: Target, kind: K): Promise<MaterialOf<K>> {
    const { provider, account, named } = target
    const { calls, events } = this.#options
    const read = provider.reads[kind]
    if (!read) throw new GmsaError('KIND_NOT_OFFERED', `provider ${provider.name} holds no ${kind}`)
    const record = recordOf(target, kind)
    const material = await calls.make({ provider: provider.name, record, read: (signal) => read(account, signal) })
    if (named) events.accountRead(account.name, { stale: false })
    return material
  }

  /** What has no schedule of its own, kept for `cache.maxAge`. Rejects with a GmsaError. */
  async cached<K extends 'credential' | 'kerberos-keys'>(target: Target, kind: K): Promise<CachedRead<K>> {
    const key = recordOf(target, kind)
    const { value, staleFor } = await this.#cache.get(key, target.named, async () => {
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

/** Begins with the provider and the store's own name: what a store announces. */
function recordOf({ provider, account }: Target, kind: Kind): string {
  return [provider.name, account.secret, kind, account.name].join('\n')
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

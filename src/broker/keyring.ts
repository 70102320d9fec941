import type { Clock } from '../base/clock.ts'
import { GmsaError, toGmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { accountOptionsOf } from '../gmsa/account-options.ts'
import { makeKeyDeriver } from '../gmsa/derive.ts'
import type { Kind, ManagedPassword, StoredKeys } from '../gmsa/material.ts'
import {
  type AccountKeys,
  type KeyMaker,
  makeKeyMaker,
  makeRevisions,
  passwordState,
  type Revisions,
} from './account-keys.ts'
import type { CacheResult } from './cache.ts'
import { Keeper, type Known } from './keeper.ts'
import type { Target } from './reader.ts'

export interface KeyringOptions {
  readonly clock: Clock
  readonly log: Log
  /** Tells this process from others. */
  readonly nonce: string
  readonly keepPrevious: number
  readonly random: () => number
  /** One read of the store. */
  readonly load: (target: Target) => Promise<ManagedPassword>
  /** The keytab of an account that holds no password, read or from a cache. */
  readonly stored: (target: Target) => Promise<{ readonly material: StoredKeys; readonly staleFor: number | undefined }>
  readonly onResult: (result: CacheResult) => void
  /** Told at each answer. */
  readonly onKeys: (target: Target, keys: { readonly kvno?: number; readonly nextDue?: number }) => void
  /** How many accounts are kept that the configuration does not name. */
  readonly bound?: number
}

export interface HeldKeys {
  readonly account: AccountKeys
  /** Absent for a keytab. */
  readonly known?: Known
  readonly staleFor: number | undefined
}

export interface HeldPassword {
  readonly material: ManagedPassword
  readonly known: Known
  /** What tells it from others, and is not secret. */
  readonly state: readonly unknown[]
}

interface Ring {
  readonly provider: string
  readonly secret: string
  readonly keeper: Keeper
  readonly maker: KeyMaker
  readonly passwords: Revisions
  held: Kind | undefined
}

const NOTHING: Disposable = { [Symbol.dispose]() {} }

/** The keys of all accounts that were asked for. */
export class Keyring implements Disposable {
  readonly #options: KeyringOptions
  readonly #deriver = makeKeyDeriver()
  readonly #named = new Map<string, Ring>()
  readonly #others = new Map<string, Ring>()

  constructor(options: KeyringOptions) {
    this.#options = options
  }

  /** The keys of an account; `known` is absent for those of a keytab. Rejects with a GmsaError. */
  async keys(target: Target): Promise<HeldKeys> {
    const ring = this.#ringFor(target)
    const known = await passwordOf(ring, target)
    if (!known) return this.#storedKeys(ring, target)
    const account = await ring.maker.fromPassword(known.material, known.schedule)
    this.#options.onKeys(target, { kvno: account.kvno })
    return { account, known, staleFor: known.staleFor }
  }

  /** The managed password, no older than `maxAge` ms where the store answers. Rejects with a GmsaError. */
  async password(target: Target, maxAge: number): Promise<HeldPassword> {
    const ring = this.#ringFor(target)
    const known = await ring.keeper.get(maxAge)
    if (!known.usable) throw new GmsaError('STORE_UNAVAILABLE', 'what is known of the password is too old')
    ring.held = 'managed-password'
    const { material, schedule } = known
    const { generations, initiator } = schedule
    const numbered = generations.map(({ kvno, start, password }) => [`${kvno?.value} ${start}`, password] as const)
    const each = generations.map(({ kvno, start, phase }) => [kvno?.value, start, phase])
    const state = [material.account.sid, each, passwordState(material, schedule), ring.passwords.of(numbered)]
    const kvno = initiator[0]?.kvno?.value
    if (kvno !== undefined) this.#options.onKeys(target, { kvno })
    return { material, known, state }
  }

  /** The store announced a change of this record, or of any. */
  announce(provider: string, secret: string | undefined): void {
    for (const ring of this.#all()) {
      if (ring.provider !== provider || (secret !== undefined && ring.secret !== secret)) continue
      ring.held = undefined
      ring.keeper.announce()
    }
  }

  /** The store answers again after it was left alone. */
  recovered(provider: string): void {
    for (const ring of this.#all()) if (ring.provider === provider) ring.keeper.recovered()
  }

  /** Calls back whenever what is known of the account may have changed. */
  onChange(account: string, changed: () => void): Disposable {
    return this.#ringOf(account)?.keeper.onChange(changed) ?? NOTHING
  }

  /** What is known without any read. */
  peek(account: string): { readonly kvno?: number; readonly refreshAt?: number } | undefined {
    const known = this.#ringOf(account)?.keeper.peek()
    if (!known) return undefined
    const kvno = known.schedule.initiator[0]?.kvno?.value
    return { ...(kvno !== undefined && { kvno }), refreshAt: known.refreshAt }
  }

  /** What the account turned out to hold. */
  heldKind(account: string): Kind | undefined {
    return this.#ringOf(account)?.held
  }

  [Symbol.dispose](): void {
    for (const ring of this.#all()) ring.keeper[Symbol.dispose]()
  }

  #all(): Ring[] {
    return [...this.#named.values(), ...this.#others.values()]
  }

  #ringOf(account: string): Ring | undefined {
    return this.#named.get(account) ?? this.#others.get(account)
  }

  #ringFor(target: Target): Ring {
    const { bound = 1_000 } = this.#options
    const rings = target.named ? this.#named : this.#others
    const { name } = target.account
    const ring = rings.get(name) ?? this.#newRing(target)
    // Least recently used first: a Map keeps the order of insertion.
    rings.delete(name)
    rings.set(name, ring)
    const [oldest] = this.#others
    if (oldest && this.#others.size > bound) {
      oldest[1].keeper[Symbol.dispose]()
      this.#others.delete(oldest[0])
    }
    return ring
  }

  #newRing(target: Target): Ring {
    const { clock, log, keepPrevious, random, onResult, onKeys, nonce, load } = this.#options
    const { account, provider } = target
    const shared = { account: account.name, options: accountOptionsOf(account.options), log }
    return {
      provider: provider.name,
      secret: account.secret,
      keeper: new Keeper({
        ...shared,
        clock,
        keepPrevious,
        random,
        onResult,
        onReading: (nextDue) => onKeys(target, { nextDue }),
        load: () => load(target),
      }),
      maker: makeKeyMaker({ ...shared, deriver: this.#deriver, revisions: makeRevisions(nonce) }),
      passwords: makeRevisions(nonce),
      held: undefined,
    }
  }

  async #storedKeys(ring: Ring, target: Target): Promise<HeldKeys> {
    const { stored, onKeys } = this.#options
    try {
      const { material, staleFor } = await stored(target)
      ring.held = 'kerberos-keys'
      const account = ring.maker.fromKeytab(material)
      onKeys(target, { kvno: account.kvno })
      return { account, staleFor }
    } catch (thrown) {
      ring.held = undefined
      throw thrown
    }
  }
}

/** The password, or nothing where the record turns out to be a keytab. */
async function passwordOf(ring: Ring, { provider }: Target): Promise<Known | undefined> {
  if (ring.held === 'kerberos-keys' || !provider.reads['managed-password']) return undefined
  try {
    const known = await ring.keeper.get()
    ring.held = 'managed-password'
    return known
  } catch (thrown) {
    const error = toGmsaError(thrown)
    if (error.code !== 'KIND_NOT_OFFERED' || !provider.reads['kerberos-keys']) throw error
    return undefined
  }
}

import type { Clock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import type { Secret } from '../../base/secret.ts'
import { type BackOff, backOff } from './back-off.ts'
import { type Bounds, shared, within } from './shared.ts'

/** How long a token lasts. */
export interface Lease {
  /** 0: for ever. */
  readonly seconds: number
  readonly renewable: boolean
}

/** A token as it was obtained. `ours`: by a log-in, and the server takes it back when we are done with it. */
export interface Grant extends Lease {
  readonly token: Secret
  readonly ours: boolean
}

/** Where tokens come from. Each rejects with a GmsaError. */
export interface TokenSource {
  /** A new one by a log-in, or the one in the file. */
  obtain(signal: AbortSignal): Promise<Grant>
  /** Whether `token` is still what the configuration says. */
  isCurrent(token: Secret, signal: AbortSignal): Promise<boolean>
  /** Whether the server still knows `token`. */
  isAlive(token: Secret, signal: AbortSignal): Promise<boolean>
  /** Rejects with STORE_DENIED where the server doesn't renew it. */
  renew(token: Secret, signal: AbortSignal): Promise<Lease>
  revoke(token: Secret, signal: AbortSignal): Promise<void>
}

export interface SessionOptions {
  readonly clock: Clock
  readonly random: () => number
  /** Told of each renewal that failed, and how many did in a row. */
  readonly onFailure: (error: GmsaError, failures: number) => void
}

interface Held extends Grant {
  /** Monotonic, as is `until`. */
  readonly since: number
  until: number
  renewable: boolean
}

/** For one log-in or renewal, in ms: it may outlast the read that waits for it. */
const LIMIT = 10_000
/** For giving a token back, in ms. */
const FAREWELL = 1_000
/** At which part of its life a token is renewed. */
const RENEW_AT = 2 / 3
/** Up to this part of its life earlier, so that replicas do not come together. */
const SPREAD = 1 / 10
/** The least time between two renewals, in ms. */
const SOONEST = 1_000
/** Node's timers hold no more than 2^31 ms. */
const LATEST = 20 * 86_400_000
/** A token that dies younger than this, in ms, did not die of age: the ones after it come ever more slowly. */
const YOUNG = 60_000
const AFTER_EARLY_DEATHS = [0, 1_000, 4_000, 16_000, 60_000]
/** What a token may do is settled at its log-in: one that is refused something is replaced when older than this, in ms. */
const RIGHTS_LAST = 10 * 60_000

/** The token of a provider: obtained when it is first needed, kept, renewed and replaced. */
export class Session {
  readonly #source: TokenSource
  readonly #options: SessionOptions
  readonly #closing = new AbortController()
  readonly #bounds: Bounds
  readonly #early: BackOff
  readonly #obtain: (signal: AbortSignal) => Promise<Held>
  readonly #examine: (signal: AbortSignal) => Promise<void>
  #held: Held | undefined
  #timer: Disposable | undefined
  #failures = 0

  constructor(source: TokenSource, options: SessionOptions) {
    const { clock } = options
    this.#source = source
    this.#options = options
    this.#bounds = { clock, limit: LIMIT, closed: this.#closing.signal }
    this.#early = backOff(clock, AFTER_EARLY_DEATHS)
    this.#obtain = shared(this.#bounds, (signal) => this.#obtainNext(signal))
    this.#examine = shared(this.#bounds, (signal) => this.#dropDead(signal))
  }

  /** The token for a request. Rejects with the error of the log-in, or as `signal` says. */
  async token(signal: AbortSignal): Promise<Secret> {
    this.#closing.signal.throwIfAborted()
    signal.throwIfAborted()
    const held = this.#held
    const lasts = held !== undefined && this.#options.clock.monotonic() < held.until
    if (lasts && (await this.#source.isCurrent(held.token, signal))) return held.token
    return (await this.#obtain(signal)).token
  }

  /**
   * The server refused a request with `token`: another one to try it with, once; undefined where the refusal stands.
   * `isKnown`: the refusal itself shows that the server knows the token. Rejects as `token` does.
   */
  async replace(token: Secret, isKnown: boolean, signal: AbortSignal): Promise<Secret | undefined> {
    if (this.#held?.token === token && !isKnown) await this.#examine(signal)
    const held = this.#held
    if (held && held.token !== token) return held.token
    if (held && this.#options.clock.monotonic() - held.since < RIGHTS_LAST) return undefined
    const next = await this.#obtain(signal).catch((error) => {
      // The token is good, only not for this: that a further log-in failed is not what this request is about.
      if (held && error instanceof GmsaError) return held
      throw error
    })
    return next.token.equals(token) ? undefined : next.token
  }

  /** Ends what is under way, and gives a token of ours back. */
  async close(): Promise<void> {
    this.#timer?.[Symbol.dispose]()
    this.#closing.abort(new GmsaError('STORE_UNAVAILABLE', 'the provider is closed'))
    if (this.#held) await this.#giveBack(this.#held)
    this.#held = undefined
  }

  async #obtainNext(signal: AbortSignal): Promise<Held> {
    if (this.#early.left() > 0) throw diesEarly()
    const grant = await this.#source.obtain(signal)
    const before = this.#held
    const held = { ...grant, since: this.#options.clock.monotonic(), until: this.#endOf(grant) }
    this.#held = held
    this.#settle(grant)
    if (before && !before.token.equals(grant.token)) void this.#giveBack(before)
    return held
  }

  /** Drops the token that is held, where the server does not know it any more. */
  async #dropDead(signal: AbortSignal): Promise<void> {
    const suspect = this.#held
    if (!suspect || (await this.#source.isAlive(suspect.token, signal)) || this.#held !== suspect) return
    this.#held = undefined
    if (this.#options.clock.monotonic() - suspect.since < YOUNG) this.#early.failed()
    else this.#early.reset()
  }

  #endOf({ seconds }: Lease): number {
    return seconds > 0 ? this.#options.clock.monotonic() + seconds * 1000 : Number.POSITIVE_INFINITY
  }

  /** All is well for as long as the lease says. */
  #settle({ seconds }: Lease): void {
    this.#failures = 0
    this.#timer?.[Symbol.dispose]()
    if (seconds > 0) this.#tendAfter(seconds * 1000 * (RENEW_AT - SPREAD * this.#options.random()))
  }

  #tendAfter(ms: number): void {
    this.#timer?.[Symbol.dispose]()
    this.#timer = this.#options.clock.after(Math.min(Math.max(ms, SOONEST), LATEST), () => void this.#tend())
  }

  /** Renews the token, or where that can't be obtains the next one, while this one still serves. */
  async #tend(): Promise<void> {
    const held = this.#held
    if (!held) return
    const closed = this.#closing.signal
    try {
      if (!(await this.#renew(held))) await this.#obtain(closed)
    } catch (error) {
      if (closed.aborted || !(error instanceof GmsaError)) return
      this.#failures += 1
      this.#options.onFailure(error, this.#failures)
      const left = held.until - this.#options.clock.monotonic()
      // Once it has ended, whoever needs the next one sees to it.
      if (left > 0) this.#tendAfter(left / 3)
    }
  }

  /** Whether the token was renewed. Rejects where the server gives no answer. */
  async #renew(held: Held): Promise<boolean> {
    if (!held.renewable) return false
    try {
      const lease = await within(this.#bounds, (signal) => this.#source.renew(held.token, signal))
      held.until = this.#endOf(lease)
      // Much less than at first: the greatest age that the server allows is near, and what follows is a log-in.
      held.renewable = lease.renewable && lease.seconds * 2 > held.seconds
      if (this.#held === held) this.#settle(lease)
      return true
    } catch (error) {
      if (error instanceof GmsaError && error.code === 'STORE_DENIED') return false
      throw error
    }
  }

  /** Best effort: a token that stays behind ends by itself. */
  async #giveBack({ ours, token }: Held): Promise<void> {
    if (!ours) return
    const bounds = { clock: this.#options.clock, limit: FAREWELL }
    await within(bounds, (signal) => this.#source.revoke(token, signal)).catch(() => {})
  }
}

function diesEarly(): GmsaError {
  return new GmsaError('STORE_DENIED', 'the tokens that a log-in gives are refused soon after', {
    reason: 'not-permitted',
    hint: 'see token_num_uses and token_bound_cidrs of the role, and who revokes its tokens',
  })
}

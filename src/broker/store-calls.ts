import type { Clock } from '../base/clock.ts'
import { type GmsaError, toGmsaError } from '../base/errors.ts'
import { type Gate, makeGate } from '../base/gate.ts'
import type { Breaker } from './breaker.ts'
import { pause, withDeadline } from './deadline.ts'
import type { Health } from './health.ts'
import { pauseBeforeRetry } from './retry.ts'
import { makeThrottle, type Throttle } from './throttle.ts'

export interface StoreCallsOptions {
  /** How long a store may take for one read with all its attempts, in ms. */
  readonly timeout: number
  readonly clock: Clock
  /** From 0 to below 1. */
  readonly random: () => number
  /** Told how each read ended. */
  readonly note: Health['note']
  /** By provider. */
  readonly breakers: ReadonlyMap<string, Breaker>
  /** Told of each attempt that reached the store. */
  readonly onAttempt: (provider: string, seconds: number, error?: GmsaError) => void
}

/** One read, as the store is asked for it. */
export interface StoreCall<T> {
  readonly provider: string
  /** Tells it from reads of anything else. */
  readonly record: string
  readonly read: (signal: AbortSignal) => Promise<T>
}

/** Reads of one store that are under way together, in a burst of accounts that are due; more wait for their turn. */
const AT_ONCE = 32

/** `unasked`: there was no turn in time, or the store was out when it came. */
type Outcome<T> = { readonly value: T } | { readonly error: GmsaError; readonly unasked: boolean }

/** The one way to the stores: within the deadline, so many at a time, tried again where that may help, and not at all while one is out. */
export class StoreCalls {
  readonly #options: StoreCallsOptions
  readonly #throttle: Throttle
  readonly #gates = new Map<string, Gate>()

  constructor(options: StoreCallsOptions) {
    this.#options = options
    this.#throttle = makeThrottle(options.clock)
  }

  /** Rejects with a GmsaError; at once, with STORE_UNAVAILABLE, where the store is to be left alone. */
  async make<T>(call: StoreCall<T>): Promise<T> {
    const breaker = this.#options.breakers.get(call.provider)
    const throttled = this.#throttle.refusal(call.record)
    if (throttled) throw throttled
    const refusal = breaker?.refusal()
    if (refusal) {
      // Nobody waits for the trial: who asks gets an older answer, or hears at once that there is none.
      if (breaker?.takeTrial()) void this.#run(call, true)
      throw refusal
    }
    const outcome = await this.#run(call)
    if ('error' in outcome) throw outcome.error
    return outcome.value
  }

  /**
   * Never rejects. No attempt follows where the store is left alone by then: a trial is one. A read that did not get its
   * turn says nothing of the store.
   */
  async #run<T>(call: StoreCall<T>, isTrial = false): Promise<Outcome<T>> {
    const { clock, random, timeout, note, breakers } = this.#options
    const breaker = breakers.get(call.provider)
    const began = clock.monotonic()
    const left = () => began + timeout - clock.monotonic()
    let outcome = await this.#attempt(call, left(), isTrial)
    for (let attempt = 1; 'error' in outcome; attempt += 1) {
      const { error, unasked } = outcome
      if (unasked) return outcome
      const wait = pauseBeforeRetry({ error, attempt, left: left(), random: random() })
      if (wait === undefined) break
      await pause(wait, clock)
      if (breaker?.refusal()) break
      outcome = await this.#attempt(call, left(), isTrial)
    }
    const error = errorOf(outcome)
    if (error) this.#throttle.failed(call.record, error)
    note(call.provider, error)
    breaker?.readEnded(began, error)
    return outcome
  }

  /** Never rejects. A trial goes past the line: those before it may all hang. */
  async #attempt<T>({ provider, read }: StoreCall<T>, left: number, isTrial: boolean): Promise<Outcome<T>> {
    const { clock, onAttempt, breakers } = this.#options
    let asked: number | undefined
    const ask = async (signal: AbortSignal) => {
      const refusal = isTrial ? undefined : breakers.get(provider)?.refusal()
      if (refusal) throw refusal
      asked = clock.monotonic()
      return read(signal)
    }
    const enter = this.#gateOf(provider)
    const inTurn = (signal: AbortSignal) => (isTrial ? ask(signal) : enter(() => ask(signal), signal))
    const outcome = await withDeadline(inTurn, left, clock).then(
      (value) => ({ value }),
      (thrown: unknown) => ({ error: toGmsaError(thrown), unasked: asked === undefined }),
    )
    if (asked !== undefined) onAttempt(provider, (clock.monotonic() - asked) / 1000, errorOf(outcome))
    return outcome
  }

  #gateOf(provider: string): Gate {
    const gate = this.#gates.get(provider) ?? makeGate(AT_ONCE)
    this.#gates.set(provider, gate)
    return gate
  }
}

function errorOf(outcome: Outcome<unknown>): GmsaError | undefined {
  return 'error' in outcome ? outcome.error : undefined
}

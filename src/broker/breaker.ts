import type { Clock } from '../base/clock.ts'
import { GmsaError, isOutage } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { afterAnswer, afterOutage, afterTrialBegan, type Circuit, NEW_CIRCUIT } from './circuit.ts'
import { waitWanted } from './retry.ts'

/** Keeps reads away from one store that is out. */
export interface Breaker {
  /** What to reject a read with now; undefined where it may go to the store. */
  refusal(): GmsaError | undefined
  /** Whether the caller may send one read all the same, as a trial, which has to begin at once and to end. */
  takeTrial(): boolean
  /** A read ended that began at `began`, by the monotonic clock in ms; without an error: with success. */
  readEnded(began: number, error?: GmsaError): void
  /** The store answered something else than a read. */
  answered(): void
}

export interface BreakerOptions {
  readonly provider: string
  readonly clock: Clock
  readonly log: Log
  /** From 0 to below 1. */
  readonly random: () => number
  /** No read goes to the store but trials, of which the first may at `until`, by the monotonic clock in ms. */
  readonly onOpened: (until: number) => void
  /** Reads go to the store again. */
  readonly onClosed: () => void
}

/** The circuit of one store, with the clock, the log and the errors that it knows nothing of. */
export function makeBreaker({ provider, clock, log, random, onOpened, onClosed }: BreakerOptions): Breaker {
  let circuit: Circuit = NEW_CIRCUIT
  let last: GmsaError | undefined

  function move(next: Circuit): void {
    const before = circuit
    circuit = next
    if (before.state === 'closed' && next.state === 'open') {
      log.warn({ provider, code: last?.code, reason: last?.reason, restMs: restOf(next) }, 'store is left alone')
      onOpened(next.until)
    } else if (before.state !== 'closed' && next.state === 'closed') {
      log.info({ provider }, 'store is asked again')
      onClosed()
    }
  }

  function restOf(of: Circuit): number {
    return of.state === 'open' ? Math.max(0, Math.round(of.until - clock.monotonic())) : 0
  }

  return {
    refusal() {
      if (circuit.state === 'closed') return undefined
      const retryAfter = Math.max(1, Math.ceil(restOf(circuit) / 1000))
      return new GmsaError('STORE_UNAVAILABLE', `provider ${provider} is out and is left alone for a while`, {
        retryAfter,
        cause: last,
        ...(last?.reason && { reason: last.reason }),
      })
    },
    takeTrial() {
      const next = afterTrialBegan(circuit, clock.monotonic())
      if (next) move(next)
      return next !== undefined
    },
    readEnded(began, error) {
      const now = clock.monotonic()
      // A fault of ours leaves open whether the store answers; but a trial has to end in something.
      const unknown = error?.code === 'INTERNAL'
      if (error && (isOutage(error) || (unknown && circuit.state === 'half-open'))) {
        last = error
        move(afterOutage(circuit, { began, retryAfter: waitWanted(error), jitter: random() }, now))
      } else if (!unknown) move(afterAnswer(circuit, now))
    },
    answered: () => move(afterAnswer(circuit, clock.monotonic())),
  }
}

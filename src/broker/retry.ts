import type { GmsaError, Reason } from '../base/errors.ts'

/** How often one read asks the store at most. */
export const ATTEMPTS = 3
/** The longest pause in ms after the first attempt; it doubles after each. */
export const FIRST_PAUSE = 200
/**
 * A store that wants to be left alone is, for no longer than this, in ms: what it says may come from something in
 * between that knows no better, and nobody would notice the store's return.
 */
export const LONGEST_WAIT = 60_000

/**
 * What may be over a moment later. Certificates, clocks and log-ons do not mend by themselves, and who hung has had
 * its time.
 */
const PASSING: ReadonlySet<Reason | undefined> = new Set([undefined, 'refused', 'not-found', 'protocol'])

export interface FailedAttempt {
  readonly error: GmsaError
  /** From 1. */
  readonly attempt: number
  /** Ms until the read's deadline. */
  readonly left: number
  /** From 0 to below 1. */
  readonly random: number
}

/**
 * For how long to wait before the next attempt, in ms; undefined where it is not to be. Never for more than half of the
 * time left: the next attempt needs some, too.
 */
export function pauseBeforeRetry({ error, attempt, left, random }: FailedAttempt): number | undefined {
  if (error.code !== 'STORE_UNAVAILABLE' || !PASSING.has(error.reason) || attempt >= ATTEMPTS) return undefined
  const own = FIRST_PAUSE * 2 ** (attempt - 1) * (1 - random / 2)
  const pause = Math.max(own, waitWanted(error))
  return pause <= left / 2 ? pause : undefined
}

/** For how long the store wants to be left alone, in ms, within {@link LONGEST_WAIT}; 0 where it did not say. */
export function waitWanted({ retryAfter = 0 }: GmsaError): number {
  return retryAfter > 0 ? Math.min(retryAfter * 1000, LONGEST_WAIT) : 0
}

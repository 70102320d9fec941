import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import { waitWanted } from './retry.ts'

/** What stores do not want to be asked for before a time they named. */
export interface Throttle {
  /** What to reject a read of this record with now; undefined where it may be read. */
  refusal(record: string): GmsaError | undefined
  /** A read of it ended with this. */
  failed(record: string, error: GmsaError): void
}

/** Holds each record's time by itself: a store may throttle one and answer for all others. */
export function makeThrottle(clock: Clock, bound = 1_000): Throttle {
  const waits = new Map<string, { readonly until: number; readonly error: GmsaError }>()
  return {
    refusal(record) {
      const wait = waits.get(record)
      if (!wait) return undefined
      const left = wait.until - clock.monotonic()
      if (left <= 0) {
        waits.delete(record)
        return undefined
      }
      return new GmsaError('STORE_UNAVAILABLE', 'the store wants this account left alone for a while', {
        retryAfter: Math.ceil(left / 1000),
        cause: wait.error,
      })
    },
    failed(record, error) {
      const wait = waitWanted(error)
      if (wait === 0) return
      waits.delete(record)
      waits.set(record, { until: clock.monotonic() + wait, error })
      // A Map keeps the order of insertion. The oldest one may be asked for too soon, and will be told so again.
      if (waits.size > bound) waits.delete(waits.keys().next().value ?? record)
    },
  }
}

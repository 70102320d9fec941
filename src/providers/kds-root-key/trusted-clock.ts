import type { Clock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'

/** As much as Kerberos and the directory forgive, in ms: a clock that is set back further was wrong, or is now. */
const MAX_STEP_BACK = 300_000

/**
 * The wall clock, as long as it does not jump back against the time that really passed: a password is derived for a
 * moment, and a past moment gives one that is not in force. A step forward looks like the sleep of a machine and is
 * believed. Throws STORE_UNAVAILABLE, clock, until the time is reached again.
 */
export function trustedClock(clock: Pick<Clock, 'now' | 'monotonic'>): () => number {
  let lead = clock.now() - clock.monotonic()
  return () => {
    const now = clock.now()
    const ahead = now - clock.monotonic()
    if (ahead < lead - MAX_STEP_BACK) {
      const seconds = Math.round((lead - ahead) / 1000)
      throw new GmsaError('STORE_UNAVAILABLE', `the clock of this machine was set back by ${seconds} s`, {
        reason: 'clock',
        hint: 'set it right; if it is, and was wrong before, start this service again',
      })
    }
    lead = Math.max(lead, ahead)
    return now
  }
}

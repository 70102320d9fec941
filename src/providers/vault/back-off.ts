import type { Clock } from '../../base/clock.ts'

/** How long to hold off after failures in a row. Counted in monotonic time. */
export interface BackOff {
  /** Milliseconds still to wait; 0 where there is nothing to wait for. */
  left(): number
  failed(): void
  reset(): void
}

/** `waits`: after the first failure, the second and so on, in ms; the last of them after all further ones. */
export function backOff(clock: Clock, waits: readonly number[]): BackOff {
  let failures = 0
  let until = Number.NEGATIVE_INFINITY
  return {
    left: () => Math.max(0, until - clock.monotonic()),
    failed() {
      until = clock.monotonic() + (waits[failures] ?? 0)
      failures = Math.min(failures + 1, waits.length - 1)
    },
    reset() {
      failures = 0
      until = Number.NEGATIVE_INFINITY
    },
  }
}

import type { Clock } from './clock.ts'
import { untilAborted } from './until-aborted.ts'

export interface TimeLimit {
  readonly clock: Clock
  /** In ms. */
  readonly limit: number
  /** What the task is ended with at the limit. */
  readonly late: () => Error
  /** Ends it before, with its own reason. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Runs `task` with a signal that ends it at the limit, or with `signal`, and does not wait for one that ignores that.
 * Rejects with what `late` makes, or with the reason of `signal`.
 */
export async function inTime<T>(
  { clock, limit, late, signal: outer }: TimeLimit,
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  using _timer = clock.after(limit, () => controller.abort(late()))
  const signal = outer ? AbortSignal.any([controller.signal, outer]) : controller.signal
  return await untilAborted(task(signal), signal)
}

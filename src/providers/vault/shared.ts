import type { Clock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { inTime } from '../../base/time-limit.ts'
import { untilAborted } from '../../base/until-aborted.ts'

export interface Bounds {
  readonly clock: Clock
  /** How long it may take, in ms. */
  readonly limit: number
  /** Ends it at once. */
  readonly closed?: AbortSignal
}

type Task<T> = (signal: AbortSignal) => Promise<T>

/** Runs `task` with a signal that ends it after the limit: STORE_UNAVAILABLE then. */
export function within<T>({ clock, limit, closed }: Bounds, task: Task<T>): Promise<T> {
  const late = () => new GmsaError('STORE_UNAVAILABLE', `no answer within ${limit} ms`, { reason: 'hang' })
  return inTime({ clock, limit, late, signal: closed }, task)
}

/**
 * `task`, run once for all who ask while it runs. Each waits for as long as their own signal says, and the run goes on
 * for the others.
 */
export function shared<T>(bounds: Bounds, task: Task<T>): Task<T> {
  let running: Promise<T> | undefined
  return (signal) => {
    running ??= within(bounds, task).finally(() => {
      running = undefined
    })
    return untilAborted(running, signal)
  }
}

import type { Clock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'

export interface Bounds {
  readonly clock: Clock
  /** How long it may take, in ms. */
  readonly limit: number
  /** Ends it at once. */
  readonly closed?: AbortSignal
}

type Task<T> = (signal: AbortSignal) => Promise<T>

/** Runs `task` with a signal that ends it after the limit: STORE_UNAVAILABLE then, where the task follows its signal. */
export async function within<T>({ clock, limit, closed }: Bounds, task: Task<T>): Promise<T> {
  const controller = new AbortController()
  const late = new GmsaError('STORE_UNAVAILABLE', `no answer within ${limit} ms`, { reason: 'hang' })
  using _timer = clock.after(limit, () => controller.abort(late))
  return await task(closed ? AbortSignal.any([controller.signal, closed]) : controller.signal)
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
    return unlessEnded(running, signal)
  }
}

async function unlessEnded<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const end = () => reject(signal.reason)
  if (signal.aborted) end()
  signal.addEventListener('abort', end, { once: true })
  try {
    return await Promise.race([ended, promise])
  } finally {
    signal.removeEventListener('abort', end)
  }
}

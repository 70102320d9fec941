import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'

/**
 * Runs `task` with a signal that ends it after `ms`, and does not wait for one that ignores the signal.
 * Rejects with STORE_TIMEOUT then.
 */
export async function withDeadline<T>(task: (signal: AbortSignal) => Promise<T>, ms: number, clock: Clock): Promise<T> {
  const controller = new AbortController()
  const { promise: late, reject } = Promise.withResolvers<never>()
  using _timer = clock.after(ms, () => {
    const error = new GmsaError('STORE_TIMEOUT', `no answer within ${Math.round(ms)} ms`, { reason: 'hang' })
    reject(error)
    controller.abort(error)
  })
  return await Promise.race([task(controller.signal), late])
}

/** Resolves after `ms`. */
export function pause(ms: number, clock: Clock): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  clock.after(ms, resolve)
  return promise
}

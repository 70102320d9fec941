import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import { inTime } from '../base/time-limit.ts'

/**
 * Runs `task` with a signal that ends it after `ms`, and does not wait for one that ignores the signal.
 * Rejects with STORE_TIMEOUT then.
 */
export async function withDeadline<T>(task: (signal: AbortSignal) => Promise<T>, ms: number, clock: Clock): Promise<T> {
  const late = () => new GmsaError('STORE_TIMEOUT', `no answer within ${Math.round(ms)} ms`, { reason: 'hang' })
  return await inTime({ clock, limit: ms, late }, task)
}

/** Resolves after `ms`. */
export function pause(ms: number, clock: Clock): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  clock.after(ms, resolve)
  return promise
}

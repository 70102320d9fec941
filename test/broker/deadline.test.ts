import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { withDeadline } from '../../src/broker/deadline.ts'
import { failure, rejection } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'

const never = () => new Promise<never>(() => {})

describe('a task under a deadline', () => {
  test('gives its value, and leaves no timer behind', async () => {
    const clock = movableClock()
    expect(await withDeadline(async () => 'value', 1_000, clock)).toBe('value')
    expect(clock.pending).toBe(0)
  })

  test('gives its own error, and leaves no timer behind', async () => {
    const clock = movableClock()
    const error = new GmsaError('STORE_DENIED', 'no')
    expect(await rejection(withDeadline(() => Promise.reject(error), 1_000, clock))).toBe(error)
    const thrower = () => {
      throw error
    }
    expect(await rejection(withDeadline(thrower, 1_000, clock))).toBe(error)
    expect(clock.pending).toBe(0)
  })

  test('is not waited for beyond it, though it ignores the signal', async () => {
    const clock = movableClock()
    const waiting = failure(withDeadline(never, 1_000, clock), 'STORE_TIMEOUT')
    await clock.advance(1_000)
    expect(await waiting).toMatchObject({ status: 504, reason: 'hang' })
  })

  test('is told by the signal, with the reason, and not before', async () => {
    const clock = movableClock()
    let seen: AbortSignal | undefined
    const waiting = failure(
      withDeadline(
        (signal) => {
          seen = signal
          return never()
        },
        1_000,
        clock,
      ),
      'STORE_TIMEOUT',
    )
    await clock.advance(999)
    expect(seen?.aborted).toBe(false)
    await clock.advance(1)
    expect(seen?.reason).toBe(await waiting)
  })

  test('that fails because of the signal has timed out, whatever it throws', async () => {
    const clock = movableClock()
    const task = (signal: AbortSignal) =>
      new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))
    const waiting = failure(withDeadline(task, 1_000, clock), 'STORE_TIMEOUT')
    await clock.advance(1_000)
    await waiting
  })

  test('may fail long after it: nobody is hurt', async () => {
    const clock = movableClock()
    const { promise, reject } = Promise.withResolvers<never>()
    const waiting = failure(
      withDeadline(() => promise, 1_000, clock),
      'STORE_TIMEOUT',
    )
    await clock.advance(1_000)
    await waiting
    // Vitest fails a run in which a rejection stays unhandled.
    reject(new Error('late'))
    await clock.advance(1)
  })
})

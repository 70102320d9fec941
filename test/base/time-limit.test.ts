import { expect, test } from 'vitest'
import { inTime } from '../../src/base/time-limit.ts'
import { movableClock } from '../fakes/clock.ts'

const never = () => new Promise<never>(() => {})
const late = () => new Error('late')

test('a task gives its value or its own error, and leaves no timer behind', async () => {
  const clock = movableClock()
  expect(await inTime({ clock, limit: 1_000, late }, async () => 5)).toBe(5)
  await expect(inTime({ clock, limit: 1_000, late }, () => Promise.reject(new Error('own')))).rejects.toThrow('own')
  expect(clock.pending).toBe(0)
})

test('one that goes on beyond the limit is told by its signal, and not waited for', async () => {
  const clock = movableClock()
  let seen: AbortSignal | undefined
  const task = (signal: AbortSignal) => {
    seen = signal
    return never()
  }
  const waiting = inTime({ clock, limit: 1_000, late }, task).catch((error) => error)
  await clock.advance(999)
  expect(seen?.aborted).toBe(false)
  await clock.advance(1)
  expect(await waiting).toEqual(new Error('late'))
  expect(seen?.reason).toBe(await waiting)
})

test('the signal from without ends it before, with its own reason', async () => {
  const clock = movableClock()
  const controller = new AbortController()
  const waiting = inTime({ clock, limit: 1_000, late, signal: controller.signal }, never)
  controller.abort(new Error('enough'))
  await expect(waiting).rejects.toThrow('enough')
  await expect(inTime({ clock, limit: 1_000, late, signal: controller.signal }, never)).rejects.toThrow('enough')
  expect(clock.pending).toBe(0)
})

import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { untilAborted } from '../../src/base/until-aborted.ts'

const never = new Promise<never>(() => {})

test('what the promise gives or throws comes through, and nothing stays behind at the signal', async () => {
  const { signal } = new AbortController()
  expect(await untilAborted(Promise.resolve(5), signal)).toBe(5)
  await expect(untilAborted(Promise.reject(new Error('own')), signal)).rejects.toThrow('own')
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

test("an abort ends it with the signal's reason, before or meanwhile", async () => {
  const controller = new AbortController()
  const waiting = untilAborted(never, controller.signal)
  controller.abort(new Error('enough'))
  await expect(waiting).rejects.toThrow('enough')
  await expect(untilAborted(never, controller.signal)).rejects.toThrow('enough')
})

test("a promise that rejects after the abort is nobody's unhandled rejection", async () => {
  const { promise, reject } = Promise.withResolvers<never>()
  await expect(untilAborted(promise, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
  reject(new Error('late'))
  await new Promise((resolve) => setImmediate(resolve))
})

test('a promise that fails because of the abort ends with the reason all the same', async () => {
  const controller = new AbortController()
  const { promise, reject } = Promise.withResolvers<never>()
  // Listens first, so it has failed before the abort is heard of here.
  controller.signal.addEventListener('abort', () => reject(new Error('AbortError of the library')))
  const waiting = untilAborted(promise, controller.signal)
  controller.abort(new Error('enough'))
  await expect(waiting).rejects.toThrow('enough')
})

import { describe, expect, test, vi } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { makeBreaker } from '../../src/broker/breaker.ts'
import { movableClock } from '../fakes/clock.ts'
import { keepingLog } from '../fakes/rig.ts'

const OUT = new GmsaError('STORE_UNAVAILABLE', 'connection refused', { reason: 'refused' })

function rig() {
  const clock = movableClock()
  const { log, lines } = keepingLog()
  const onOpened = vi.fn()
  const onClosed = vi.fn()
  const breaker = makeBreaker({ provider: 'vault', clock, log, random: () => 0, onOpened, onClosed })
  const ended = (error?: GmsaError) => breaker.readEnded(clock.monotonic(), error)
  const open = (error = OUT) => {
    for (const each of [error, error, error]) ended(each)
  }
  return { clock, lines, onOpened, onClosed, breaker, ended, open }
}

describe('a store that is out', () => {
  test('is refused with the time it rests, in whole seconds, and what it last said', async () => {
    const { clock, breaker, open } = rig()
    expect(breaker.refusal()).toBeUndefined()
    open(new GmsaError('STORE_UNAVAILABLE', 'throttled', { retryAfter: 17, cause: 'none' }))
    await clock.advance(100)
    expect(breaker.refusal()).toMatchObject({ code: 'STORE_UNAVAILABLE', status: 503, retryAfter: 17 })
    await clock.advance(60_000)
    expect(breaker.refusal()).toMatchObject({ retryAfter: 1, cause: expect.objectContaining({ message: 'throttled' }) })
  })

  test('keeps the reason, for the log', () => {
    const { breaker, open } = rig()
    open()
    expect(breaker.refusal()).toMatchObject({ reason: 'refused', cause: OUT })
  })

  test.each(['ACCOUNT_NOT_FOUND', 'STORE_DENIED', 'MATERIAL_MALFORMED', 'KIND_NOT_OFFERED'] as const)(
    'is not one that answers %s',
    (code) => {
      const { breaker, ended, open } = rig()
      const answer = new GmsaError(code, 'as told')
      for (const each of [OUT, OUT, answer, OUT, OUT]) ended(each)
      expect(breaker.refusal()).toBeUndefined()
      open()
      expect(breaker.refusal()).toBeDefined()
      ended(answer)
      expect(breaker.refusal()).toBeUndefined()
    },
  )

  test('nor one behind which we have a fault; but such a fault ends a trial', async () => {
    const { clock, breaker, ended, open } = rig()
    const bug = new GmsaError('INTERNAL', 'unexpected error')
    for (const each of [bug, bug, bug, bug]) ended(each)
    expect(breaker.refusal()).toBeUndefined()
    open()
    ended(bug)
    expect(breaker.refusal()).toBeDefined()
    await clock.advance(1_000)
    expect(breaker.takeTrial()).toBe(true)
    ended(bug)
    expect(breaker.refusal()).toMatchObject({ retryAfter: 2 })
  })

  test('has one trial at a time', async () => {
    const { clock, breaker, ended, open } = rig()
    expect(breaker.takeTrial()).toBe(false)
    open()
    expect(breaker.takeTrial()).toBe(false)
    await clock.advance(1_000)
    expect([breaker.takeTrial(), breaker.takeTrial()]).toEqual([true, false])
    ended()
    expect(breaker.takeTrial()).toBe(false)
    expect(breaker.refusal()).toBeUndefined()
  })

  test('answers again when a probe says so', () => {
    const { breaker, onClosed, open } = rig()
    breaker.answered()
    expect(onClosed).not.toHaveBeenCalled()
    open()
    breaker.answered()
    expect(breaker.refusal()).toBeUndefined()
    expect(onClosed).toHaveBeenCalledTimes(1)
  })
})

test('the log has a line when it is left alone and one when it is asked again, and none for the trials between', async () => {
  const { clock, lines, onOpened, onClosed, breaker, ended, open } = rig()
  open()
  for (let trial = 0; trial < 5; trial += 1) {
    await clock.advance(10_000)
    breaker.takeTrial()
    ended(OUT)
  }
  ended()
  ended()
  expect(lines).toEqual([
    {
      level: 'warn',
      message: 'store is left alone',
      provider: 'vault',
      code: 'STORE_UNAVAILABLE',
      reason: 'refused',
      restMs: 1_000,
    },
    { level: 'info', message: 'store is asked again', provider: 'vault' },
  ])
  expect(onOpened.mock.calls).toEqual([[1_000]])
  expect(onClosed).toHaveBeenCalledTimes(1)
})

test('a step of the wall clock changes nothing', async () => {
  const { clock, breaker, open } = rig()
  open()
  for (const step of [3_600_000, -7_200_000]) {
    clock.stepWall(step)
    expect(breaker.refusal()).toMatchObject({ retryAfter: 1 })
    expect(breaker.takeTrial()).toBe(false)
  }
  await clock.advance(1_000)
  expect(breaker.takeTrial()).toBe(true)
})

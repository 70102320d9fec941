import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ERRORS, type ErrorCode, GmsaError, type GmsaErrorOptions, REASONS } from '../../src/base/errors.ts'
import { ATTEMPTS, FIRST_PAUSE, LONGEST_WAIT, pauseBeforeRetry, waitWanted } from '../../src/broker/retry.ts'

const failed = (options: GmsaErrorOptions = {}, code: ErrorCode = 'STORE_UNAVAILABLE') =>
  new GmsaError(code, 'as told', options)
const pause = (error: GmsaError, more = {}) => pauseBeforeRetry({ error, attempt: 1, left: 5_000, random: 0, ...more })

describe('another attempt', () => {
  test('is made after an outage alone, and never after an answer', () => {
    const codes = Object.keys(ERRORS) as ErrorCode[]
    expect(codes.filter((code) => pause(failed({}, code)) !== undefined)).toEqual(['STORE_UNAVAILABLE'])
  })

  test('is made where the reason may be over a moment later', () => {
    const passing = REASONS.filter((reason) => pause(failed({ reason })) !== undefined)
    expect(passing).toEqual(['refused', 'not-found', 'protocol'])
  })

  test('comes after a pause that doubles, of which up to half is chance, and twice at most', () => {
    const pauses = (random: number) => [1, 2, 3].map((attempt) => pause(failed(), { attempt, random }))
    expect(pauses(0)).toEqual([200, 400, undefined])
    expect(pauses(0.5)).toEqual([150, 300, undefined])
  })

  test('waits as long as the store wants, if half of the time is left after that', () => {
    expect(pause(failed({ retryAfter: 2 }))).toBe(2_000)
    expect(pause(failed({ retryAfter: 3 }))).toBeUndefined()
    expect(pause(failed(), { left: 399 })).toBeUndefined()
  })
})

test('all pauses of a read together end before its deadline', () => {
  const attempts = fc.array(
    fc.record({
      took: fc.nat(3_000),
      retryAfter: fc.oneof(fc.constant(undefined), fc.double({ min: -10, max: 100_000 })),
      random: fc.double({ min: 0, max: 0.999, noNaN: true }),
    }),
    { minLength: ATTEMPTS, maxLength: ATTEMPTS },
  )
  fc.assert(
    fc.property(attempts, fc.integer({ min: 1, max: 10_000 }), (each, timeout) => {
      let now = 0
      for (const [index, { took, retryAfter, random }] of each.entries()) {
        now += Math.min(took, timeout - now)
        const error = failed(retryAfter === undefined ? {} : { retryAfter })
        const wait = pauseBeforeRetry({ error, attempt: index + 1, left: timeout - now, random })
        if (wait === undefined) break
        expect(wait).toBeGreaterThanOrEqual(Math.max(FIRST_PAUSE / 2, waitWanted(error)))
        now += wait
        expect(now).toBeLessThan(timeout)
      }
    }),
  )
})

test.each([
  [undefined, 0],
  [0, 0],
  [-5, 0],
  [Number.NaN, 0],
  [1.5, 1_500],
  [60, 60_000],
  [86_400, LONGEST_WAIT],
  [Number.POSITIVE_INFINITY, LONGEST_WAIT],
])('a store that says %s s is left alone for %i ms', (retryAfter, ms) => {
  expect(waitWanted(failed(retryAfter === undefined ? {} : { retryAfter }))).toBe(ms)
})

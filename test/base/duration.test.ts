import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DURATION_PATTERN, parseDuration } from '../../src/base/duration.ts'

describe('a duration', () => {
  test.each([
    ['0s', 0],
    ['1ms', 1],
    ['30s', 30_000],
    ['5m', 300_000],
    ['10h5m', 36_300_000],
    ['1d', 86_400_000],
    ['1h1h', 7_200_000],
    ['1m1ms', 60_001],
    ['007s', 7_000],
  ])('%s is %d ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms)
  })

  test.each([
    '',
    ' ',
    '30',
    's',
    '30 s',
    ' 30s',
    '30s ',
    '30s\n',
    '-1s',
    '+1s',
    '1.5s',
    '1e3s',
    '30S',
    '1w',
    '٣s',
    '1s,',
    '1234567890s',
  ])('is not %j', (text) => {
    expect(() => parseDuration(text)).toThrow(RangeError)
  })

  const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
  const part = fc.tuple(fc.integer({ min: 0, max: 9_999 }), fc.constantFrom('ms', 's', 'm', 'h', 'd'))

  test('is the sum of its parts', () => {
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
        const sum = parts.reduce((total, [amount, unit]) => total + amount * units[unit as keyof typeof units], 0)
        expect(parseDuration(parts.map(([amount, unit]) => `${amount}${unit}`).join(''))).toBe(sum)
      }),
    )
  })

  test('is what the schema lets through, and nothing else', () => {
    const schema = new RegExp(DURATION_PATTERN)
    const text = fc.string({ unit: fc.constantFrom(...'0189msdh .-\n'), maxLength: 8 })
    fc.assert(
      fc.property(text, (each) => {
        if (schema.test(each)) expect(parseDuration(each)).toBeGreaterThanOrEqual(0)
        else expect(() => parseDuration(each)).toThrow(RangeError)
      }),
    )
  })

  test('is refused in a bounded time', () => {
    const started = performance.now()
    expect(() => parseDuration(`${'1s'.repeat(100_000)}x`)).toThrow(RangeError)
    expect(performance.now() - started).toBeLessThan(500)
  })
})

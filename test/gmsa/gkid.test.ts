import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { rolloverOf } from '../../src/gmsa/cycle.ts'
import { fileTimeOf, formatFileTime, MAX_FILE_TIME, millisecondsOf, parseFileTime } from '../../src/gmsa/file-time.ts'
import { CYCLE_TICKS, cycleStart, type Gkid, gkidAt, rolloverTicks, startOfGkid } from '../../src/gmsa/gkid.ts'
import { formatGuid, isGuid, parseGuid } from '../../src/gmsa/guid.ts'
import published from '../vectors/gkdi.json' with { type: 'json' }

const gkidOf = ([l0 = 0, l1 = 0, l2 = 0]: readonly number[]): Gkid => ({ l0, l1, l2 })
const anyTime = fc.bigInt({ min: 0n, max: MAX_FILE_TIME })

describe('key cycles', () => {
  test('there are published vectors to run', () => {
    const { intervalIds, keyStartTimes, rolloverIntervals } = published
    expect([intervalIds.length, keyStartTimes.length, rolloverIntervals.length]).toEqual([14, 9, 16])
    expect(CYCLE_TICKS).toBe(BigInt(published.constants.keyCycle))
  })

  test.each(published.intervalIds)('$time lies in $gkid', ({ time, gkid }) => {
    expect(gkidAt(BigInt(time))).toEqual(gkidOf(gkid))
  })

  test.each(published.keyStartTimes)('$gkid starts at $startTime', ({ gkid, startTime }) => {
    if (startTime === null) expect(() => startOfGkid(gkidOf(gkid))).toThrow(RangeError)
    else expect(startOfGkid(gkidOf(gkid))).toBe(BigInt(startTime))
  })

  test.each(published.rolloverIntervals)('$days days are $interval ticks', ({ days, interval }) => {
    // An interval of no length would be no interval: directories refuse to work with it.
    if (interval === null || days === 0) expect(() => rolloverTicks(days)).toThrow(RangeError)
    else expect(rolloverTicks(days)).toBe(BigInt(interval))
  })

  test('a cycle holds the times from its start to before the next, and cycles are in the order of time', () => {
    fc.assert(
      fc.property(anyTime, anyTime, (one, other) => {
        const start = startOfGkid(gkidAt(one))
        expect(start <= one && one < start + CYCLE_TICKS).toBe(true)
        expect(cycleStart(one)).toBe(start)
        expect(gkidAt(start)).toEqual(gkidAt(one))
        const order = ({ l0, l1, l2 }: Gkid) => (l0 * 32 + l1) * 32 + l2
        if (one <= other) expect(order(gkidAt(one))).toBeLessThanOrEqual(order(gkidAt(other)))
      }),
    )
  })

  test('no index out of range has a start, nor a time beyond 64 bits a cycle', () => {
    for (const gkid of [
      [0, 32, 0],
      [0, 0, 32],
      [0x80000000, 0, 0],
      [-1, 0, 0],
      [0, -1, 0],
      [1.5, 0, 0],
      [Number.NaN, 0, 0],
    ]) {
      expect(() => startOfGkid(gkidOf(gkid))).toThrow(RangeError)
    }
    for (const time of [-1n, MAX_FILE_TIME + 1n]) expect(() => gkidAt(time)).toThrow(RangeError)
  })

  test('an interval is the most whole cycles that fit into its days', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 21_350_397 }), (days) => {
        const rollover = rolloverTicks(days)
        const day = 864_000_000_000n
        expect(rollover % CYCLE_TICKS).toBe(0n)
        expect(rollover <= BigInt(days) * day && BigInt(days) * day < rollover + CYCLE_TICKS).toBe(true)
        expect(rollover).toBe(BigInt(rolloverOf(days)) * 10_000n)
      }),
    )
  })
})

describe('a FILETIME', () => {
  test('stands for a time of ours, and back', () => {
    expect(fileTimeOf(0)).toBe(116_444_736_000_000_000n)
    fc.assert(
      fc.property(fc.integer({ min: -11_644_473_600_000, max: 1_833_029_933_770_955 }), (ms) => {
        expect(millisecondsOf(fileTimeOf(ms))).toBe(ms)
      }),
    )
    for (const ms of [Number.NaN, Number.POSITIVE_INFINITY, -11_644_473_600_001, 1_833_029_933_770_956]) {
      expect(() => fileTimeOf(ms)).toThrow(RangeError)
    }
    expect(formatFileTime(116_444_736_000_000_000n)).toBe('1970-01-01T00:00:00Z')
    expect(formatFileTime(MAX_FILE_TIME)).toBe('+060056-05-28T05:36:10Z')
  })

  test.each([
    ['0', 0n],
    ['134396278384416864', 134_396_278_384_416_864n],
    ['18446744073709551615', MAX_FILE_TIME],
    ['1970-01-01T00:00:00Z', 116_444_736_000_000_000n],
    ['1601-01-01T10:05:00+00:00', 363_000_000_000n],
    ['2026-11-19 21:59:59.123456+02:00', 134_395_919_991_234_560n],
    ['2026-11-19t19:59:59.123456789z', 134_395_919_991_234_567n],
  ])('%s is read', (text, expected) => {
    expect(parseFileTime(text)).toBe(expected)
  })

  test.each([
    '',
    ' 1',
    '-1',
    '1e5',
    '18446744073709551616',
    '123456789012345678901',
    '2026-11-19',
    '2026-11-19T20:00:00',
    '2026-02-30T25:00:00Z',
    '2026-13-01T00:00:00Z',
    '1600-12-31T23:59:59Z',
    '20261119200000.0Z',
    '2026-11-19T20:00:00.Z',
    '2026-11-19T20:00:00Z\n',
  ])('%j is none', (text) => {
    expect(parseFileTime(text)).toBeUndefined()
  })
})

describe('a GUID', () => {
  test('is on the wire as [MS-DTYP] has it', () => {
    const bytes = Buffer.from('1ecb4000aeb3662f7335a982b634b38f', 'hex')
    expect(formatGuid(bytes)).toBe('0040cb1e-b3ae-2f66-7335-a982b634b38f')
    expect(parseGuid('0040CB1E-B3AE-2F66-7335-A982B634B38F').equals(bytes)).toBe(true)
    expect(bytes.toString('hex')).toBe('1ecb4000aeb3662f7335a982b634b38f')
  })

  test('goes from text to bytes and back', () => {
    fc.assert(
      fc.property(fc.uuid({ version: [1, 2, 3, 4, 5, 6, 7, 8] }), (text) => {
        expect(formatGuid(parseGuid(text))).toBe(text)
      }),
    )
  })

  test.each([
    '',
    '0040cb1e',
    '{0040cb1e-b3ae-2f66-7335-a982b634b38f}',
    '0040cb1e-b3ae-2f66-7335-a982b634b38g',
    '0040cb1eb3ae2f667335a982b634b38f',
  ])('%j is none', (text) => {
    expect(isGuid(text)).toBe(false)
    expect(() => parseGuid(text)).toThrow(expect.objectContaining({ code: 'MATERIAL_MALFORMED' }))
  })

  test('has 16 bytes', () => {
    expect(() => formatGuid(new Uint8Array(15))).toThrow(expect.objectContaining({ code: 'MATERIAL_MALFORMED' }))
  })
})

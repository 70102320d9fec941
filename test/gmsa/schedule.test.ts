import { describe, expect, test } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import { nearestEdge, rolloverOf } from '../../src/gmsa/cycle.ts'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import type { Schedule } from '../../src/gmsa/schedule.ts'
import gkdi from '../vectors/gkdi.json' with { type: 'json' }
import rotation from '../vectors/gmsad-rotation-kvno.json' with { type: 'json' }
import lab from '../vectors/samba-dc-sample.json' with { type: 'json' }
import { acceptor, EDGE, HOUR, initiator, KEEP, MINUTE, nameOf, plan, ROLLOVER, reading } from './readings.ts'

describe("gmsad's interval cases", () => {
  test('are there to run', () => {
    expect(rotation.cases.length).toBe(8)
  })

  test.each(rotation.cases)('$case', (vector) => {
    const named = (name: 'cur' | 'prev' | 'fut') => new Secret(Buffer.from(rotation.passwordsUtf16Hex[name], 'hex'))
    const { blobPreviousIs } = vector
    const schedule = plan({
      blob: {
        current: named(vector.blobCurrentIs as 'cur'),
        ...(blobPreviousIs && { previous: named(blobPreviousIs as 'prev') }),
        queryInterval: BigInt(vector.queryPasswordInterval100ns),
        unchangedInterval: BigInt(vector.unchangedPasswordInterval100ns),
      },
      receivedAt: EDGE,
      kvno: { value: vector.msDSKeyVersionNumber, readAt: EDGE },
      jitter: 0,
    })
    const held = schedule.acceptor.map(({ password, kvno }) => {
      const bytes = Buffer.from(password.reveal()).toString('hex')
      return [kvno?.value, Object.entries(rotation.passwordsUtf16Hex).find(([, each]) => each === bytes)?.[0]]
    })
    expect(Object.fromEntries(held)).toEqual(vector.expectedKeysByKvno)
    const [inForce] = schedule.initiator
    expect(inForce?.kvno).toEqual({ value: vector.msDSKeyVersionNumber, from: 'directory' })
  })
})

describe("a domain controller's answers", () => {
  test('are there to run', () => {
    expect([gkdi.rotation.length, gkdi.kvnoTimeline.length, lab.samples.length]).toEqual([46, 36, 7])
  })

  /** FILETIME, in 100 ns since 1601, to ms since 1970. */
  const fromFileTime = (time: string | bigint) => Number(BigInt(time) / 10_000n) - 11_644_473_600_000
  const hash = (hex: string) => new Secret(Buffer.from(hex, 'hex'))

  test.each(gkdi.rotation)('$account $label: the window is told by Q alone, and the change is on an edge', (vector) => {
    const receivedAt = fromFileTime(vector.time)
    const schedule = plan({
      blob: {
        current: hash(vector.currentNtHash),
        ...(vector.previousNtHash && { previous: hash(vector.previousNtHash) }),
        queryInterval: BigInt(vector.queryInterval),
        unchangedInterval: BigInt(vector.unchangedInterval),
      },
      receivedAt,
      kvno: { value: 7, readAt: receivedAt - HOUR },
      jitter: 0,
    })
    const inWindow = schedule.generations.some(({ phase }) => phase === 'next')
    expect(inWindow).toBe(
      vector.label.startsWith('skew') ? !vector.label.includes('minus') : vector.label === 'last-tick',
    )
    expect(Math.abs(schedule.clockAhead)).toBeLessThanOrEqual(1)
    const inForce = schedule.initiator[0]?.password.reveal()
    expect(Buffer.from(inForce ?? []).toString('hex')).toBe(inWindow ? vector.previousNtHash : vector.currentNtHash)
    expect(rolloverOf(vector.intervalDays)).toBe(Number(BigInt(vector.rolloverInterval) / 10_000n))
  })

  test.each([...new Set(gkdi.kvnoTimeline.map(({ account }) => account))])(
    'to %s over its life: each kvno is the directory’s, and a log-on with the password in force succeeds',
    (account) => {
      let before: Schedule | undefined
      const timeline = gkdi.kvnoTimeline.filter((each) => each.account === account)
      for (const vector of timeline) {
        const time = BigInt(vector.time)
        const [l0 = 0, l1 = 0, l2 = 0] = vector.storedGkid
        const rollover = BigInt(rolloverOf(vector.intervalDays)) * 10_000n
        const end = BigInt((l0 * 32 + l1) * 32 + l2) * 360_000_000_000n + rollover
        const receivedAt = fromFileTime(time)
        const schedule = plan(
          {
            blob: {
              current: hash(vector.blobCurrentNtHash),
              ...(vector.blobPreviousNtHash && { previous: hash(vector.blobPreviousNtHash) }),
              queryInterval: end - time,
              unchangedInterval: 0n,
            },
            receivedAt,
            kvno: { value: vector.kvnoAfterRead, readAt: receivedAt },
            rollover: rolloverOf(vector.intervalDays),
            jitter: 0,
          },
          before,
        )
        const [inForce] = schedule.initiator
        const hex = Buffer.from(inForce?.password.reveal() ?? []).toString('hex')
        expect(inForce?.kvno, vector.label).toEqual({ value: vector.kvnoAfterRead, from: 'directory' })
        expect(hex, vector.label).toBe(vector.storedNtHash)
        const works =
          hex === vector.blobCurrentNtHash ? vector.ntlmLogonWithBlobCurrent : vector.ntlmLogonWithBlobPrevious
        expect(works, vector.label).toBe(true)
        expect(schedule.notes, vector.label).toEqual([])
        before = schedule
      }
      expect(timeline.length).toBeGreaterThan(5)
    },
  )

  test('as sampled: every key under the number the controller has it under', () => {
    for (const { account, managedPassword, dcExportedKeys, dcTime, label } of lab.samples) {
      const [, ...parts] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)/.exec(dcTime) ?? []
      const [year = 0, month = 0, ...rest] = parts.map(Number)
      const receivedAt = Date.UTC(year, month - 1, ...rest)
      const kvno = { value: Number(account['msDS-KeyVersionNumber']), readAt: receivedAt }
      const rollover = rolloverOf(Number(account['msDS-ManagedPasswordInterval']))
      const blob = parseManagedPassword(Buffer.from(managedPassword.raw, 'hex'))
      const schedule = plan({ blob, receivedAt, kvno, rollover, jitter: 0 })
      expect(
        schedule.initiator.map(({ kvno }) => kvno?.value),
        label,
      ).toEqual([dcExportedKeys.kvno])
      const older = schedule.acceptor.filter(({ phase }) => phase === 'previous')
      for (const { kvno } of older) expect(dcExportedKeys.olderKvnos, label).toContain(kvno?.value)
      expect(Math.abs(schedule.clockAhead), label).toBeLessThan(2_000)
    }
  })
})

describe('before, in and after the window', () => {
  const steady = plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7))
  const window = plan(reading(['C', 'B'], EDGE, EDGE - 4 * MINUTE, 7), steady)
  const after = plan(reading(['C', 'B'], EDGE + ROLLOVER, EDGE + MINUTE, 8), window)

  test('the acceptor has previous, current and next; the initiator what is in force', () => {
    expect([steady, window, after].map(acceptor)).toEqual(['B7! A6', 'C8? B7!', 'C8! B7'])
    expect([steady, window, after].map(initiator)).toEqual(['B7', 'B7', 'C8'])
  })

  test('a password stays the same object, so its keys are made once', () => {
    const object = (schedule: Schedule, name: string) =>
      schedule.generations.find(({ password }) => nameOf(password) === name)?.password
    expect(object(window, 'B')).toBe(object(steady, 'B'))
    expect(object(after, 'B')).toBe(object(steady, 'B'))
    expect(object(after, 'C')).toBe(object(window, 'C'))
  })

  test('each key has its start on the edge, whatever the reading was, so replicas agree', () => {
    const start = (schedule: Schedule, name: string) =>
      schedule.generations.find(({ password }) => nameOf(password) === name)?.start
    const late = plan(reading(['C', 'B'], EDGE + ROLLOVER, EDGE + HOUR, 8, { receivedAt: EDGE + HOUR + 1234 }))
    expect([window, after, late].map((each) => start(each, 'C'))).toEqual([EDGE, EDGE, EDGE])
    expect([steady, window, after, late].map((each) => start(each, 'B'))).toEqual(Array(4).fill(EDGE - ROLLOVER))
    expect(late.clockAhead).toBe(1234)
    expect([after, late].map((each) => each.previousValidUntil)).toEqual(Array(2).fill(EDGE + KEEP))
  })

  test('the interval is read off the window where it is not known', () => {
    const { rollover: _, ...unknown } = reading(['C', 'B'], EDGE, EDGE - MINUTE, 7)
    expect(plan(unknown).generations.map(({ start }) => start)).toEqual([EDGE, EDGE - ROLLOVER])
    const { rollover: __, ...later } = reading(['C', 'B'], EDGE + ROLLOVER, EDGE + HOUR, 8)
    expect(plan(later).previousValidUntil).toBe(undefined)
    expect(plan(later, window).previousValidUntil).toBe(EDGE + KEEP)
    const without = { ...unknown, blob: { ...unknown.blob, unchangedInterval: 0n } }
    expect(plan(without).generations.map(({ start }) => start)).toEqual([EDGE, undefined])
  })

  test('without a reading the change is made by time, half a minute after it is due, and says it is predicted', () => {
    const at = (now: number) => plan(reading(['C', 'B'], EDGE, EDGE - 4 * MINUTE, 7), steady, { now })
    expect(acceptor(at(EDGE + 29_999))).toBe('C8? B7!')
    expect(acceptor(at(EDGE + 30_000))).toBe('C8?! B7')
    expect(initiator(at(EDGE + 30_000))).toBe('C8')
    expect([at(EDGE - MINUTE), at(EDGE + 30_000)].map(({ changesAt }) => changesAt)).toEqual([
      EDGE + 30_000,
      EDGE + 5 * MINUTE,
    ])
  })

  test('nothing is handed out five minutes after the query date of the last reading', () => {
    for (const schedule of [
      plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7), undefined, { now: EDGE + 5 * MINUTE }),
      plan(reading(['C', 'B'], EDGE, EDGE - MINUTE, 7), undefined, { now: EDGE + 5 * MINUTE }),
    ]) {
      expect([acceptor(schedule), initiator(schedule)]).toEqual(['', ''])
      expect([schedule.queryDate, schedule.usableUntil]).toEqual([EDGE, EDGE + 5 * MINUTE])
      expect(schedule.generations.length).toBe(2)
    }
    const lastMoment = plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7), undefined, { now: EDGE + 5 * MINUTE - 1 })
    expect(acceptor(lastMoment)).toBe('B7! A6')
  })

  test('the next reading is due just after the window opens, then just after the change', () => {
    const due = (now: number, jitter = 0) => plan(reading(['B', 'A'], EDGE, now, 7, { jitter })).nextReadAt - EDGE
    expect(due(EDGE - HOUR)).toBe(-5 * MINUTE + 2_000)
    expect(due(EDGE - HOUR, 0.5)).toBe(-5 * MINUTE + 6_000)
    expect(due(EDGE - 5 * MINUTE)).toBe(2_000)
    expect(due(EDGE - 10_000)).toBe(20_000)
    expect(due(EDGE - 5 * MINUTE - 1_000)).toBe(-5 * MINUTE + 29_000)
    expect(due(EDGE - 30 * HOUR)).toBe(-6 * HOUR)
  })

  test('no interval makes a hot loop or a number that is none', () => {
    for (const [queryInterval, unchangedInterval] of [
      [0n, 0n],
      [2n ** 64n - 1n, 2n ** 64n - 1n],
      [1n, 2n ** 64n - 1n],
      [2n ** 64n - 1n, 0n],
    ] as const) {
      const { blob, ...rest } = reading(['B', 'A'], EDGE, EDGE - HOUR, 7)
      const schedule = plan({ ...rest, blob: { ...blob, queryInterval, unchangedInterval } })
      const wait = schedule.nextReadAt - rest.receivedAt
      expect(wait).toBeGreaterThanOrEqual(30_000)
      expect(wait).toBeLessThanOrEqual(24 * HOUR)
      for (const time of [schedule.queryDate, schedule.usableUntil, schedule.changesAt]) {
        expect(Number.isSafeInteger(time)).toBe(true)
      }
    }
  })
})

describe('what was in force', () => {
  const first = plan(reading(['A'], EDGE, EDGE - HOUR, 1))
  const rolled = (now: number, before?: Schedule) => plan(reading(['B'], EDGE + ROLLOVER, now, 2), before)

  test("is kept after an account's first change, where the directory withholds it", () => {
    expect(acceptor(first)).toBe('A1!')
    const kept = rolled(EDGE + MINUTE, first)
    expect(acceptor(kept)).toBe('B2! A1')
    expect(kept.notes).toEqual([])
    expect(kept.previousValidUntil).toBe(EDGE + KEEP)
    expect(kept.changesAt).toBe(EDGE + KEEP)
    expect(acceptor(rolled(EDGE + KEEP - 1, kept))).toBe('B2! A1')
    expect(acceptor(rolled(EDGE + KEEP, kept))).toBe('B2!')
  })

  test('is missed, and said to be, where a restart forgot it', () => {
    const forgotten = rolled(EDGE + MINUTE)
    expect([acceptor(forgotten), forgotten.notes]).toEqual(['B2!', ['previous-withheld']])
    expect(plan(reading(['A'], EDGE, EDGE - HOUR, 1)).notes).toEqual([])
    const found = plan(reading(['B', 'A'], EDGE + ROLLOVER, EDGE + 9 * HOUR, 2), forgotten)
    expect([acceptor(found), found.notes]).toEqual(['B2! A1', []])
  })

  test('is kept for as long as it is told to be, over several changes', () => {
    const week = { keepPrevious: 7 * 24 * HOUR }
    const one = plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7), undefined, week)
    const two = plan(reading(['C', 'B'], EDGE + ROLLOVER, EDGE + HOUR, 8), one, week)
    const three = plan(reading(['D', 'C'], EDGE + 2 * ROLLOVER, EDGE + ROLLOVER + HOUR, 9), two, week)
    expect(acceptor(three)).toBe('D9! C8 B7 A6')
    const short = plan(reading(['D', 'C'], EDGE + 2 * ROLLOVER, EDGE + ROLLOVER + HOUR, 9), two)
    expect(acceptor(short)).toBe('D9! C8')
  })

  test('stays under its own number when intervals were skipped and the number went up by two', () => {
    const before = plan(reading(['A'], EDGE, EDGE - HOUR, 1))
    const skipped = plan(reading(['D', 'C'], EDGE + 3 * ROLLOVER, EDGE + 2 * ROLLOVER + HOUR, 3), before)
    expect(acceptor(skipped)).toBe('D3! C2')
    const soon = plan(reading(['D', 'C'], EDGE + 3 * ROLLOVER, EDGE + 2 * ROLLOVER + HOUR, 3), before, {
      keepPrevious: 2 * ROLLOVER + 2 * HOUR,
    })
    expect(acceptor(soon)).toBe('D3! C2 A1')
  })

  test('stays under its own number when it was touched at the very change, which takes two numbers', () => {
    const window = plan(reading(['B', 'A'], EDGE, EDGE - MINUTE, 1), first)
    expect(acceptor(window)).toBe('B2? A1!')
    expect(acceptor(plan(reading(['B', 'A'], EDGE + ROLLOVER, EDGE + MINUTE, 3), window))).toBe('B3! A1')
  })

  test('is not thought to be one below 1', () => {
    expect(acceptor(plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 1)))).toBe('B1!')
  })
})

describe('the ten-hour cycles', () => {
  test.each([
    [1, 20],
    [2, 40],
    [3, 70],
    [7, 160],
    [30, 720],
  ])('%d days are %d hours', (days, hours) => {
    expect(rolloverOf(days)).toBe(hours * HOUR)
  })

  test.each([0, -1, 1.5, 21_350_398, Number.NaN])('%d days are refused', (days) => {
    expect(() => rolloverOf(days)).toThrow(RangeError)
  })

  test('have their edges where the directory has them', () => {
    for (const minutes of [-299, -1, 0, 1, 299]) expect(nearestEdge(EDGE + minutes * MINUTE)).toBe(EDGE)
    expect(nearestEdge(EDGE + 301 * MINUTE)).toBe(EDGE + 10 * HOUR)
  })
})

import { describe, expect, test } from 'vitest'
import type { Schedule } from '../../src/gmsa/schedule.ts'
import { acceptor, EDGE, HOUR, initiator, MINUTE, nameOf, plan, ROLLOVER, reading } from './readings.ts'

describe('a kvno', () => {
  const steady = plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7))

  test('that another password has is not believed, until it is confirmed', () => {
    // The answer that sets off the change still has the old number.
    const stale = plan(reading(['C', 'B'], EDGE + ROLLOVER, EDGE + MINUTE, 7), steady)
    expect([acceptor(stale), stale.notes]).toEqual(['C8?! B7', ['kvno-doubtful']])
    expect(stale.nextReadAt).toBe(EDGE + MINUTE + 30_000)
    const again = plan(reading(['C', 'B'], EDGE + ROLLOVER, EDGE + 2 * MINUTE, 8), stale)
    expect([acceptor(again), again.notes]).toEqual(['C8! B7', []])
  })

  test('that went back is not believed, until it is confirmed', () => {
    const back = plan(reading(['B', 'A'], EDGE, EDGE - MINUTE * 30, 4), steady)
    expect([acceptor(back), back.notes]).toEqual(['B7! A6', ['kvno-doubtful']])
    const alone = plan(reading(['B'], EDGE, EDGE - MINUTE * 30, 4), plan(reading(['B'], EDGE, EDGE - HOUR, 7)))
    expect([acceptor(alone), alone.notes]).toEqual(['B7!', ['kvno-doubtful', 'previous-withheld']])
    const kvno = { value: 4, readAt: EDGE - MINUTE * 29, confirmed: true }
    const confirmed = plan(reading(['B', 'A'], EDGE, EDGE - MINUTE * 29, 0, { kvno }), back)
    expect([acceptor(confirmed), confirmed.notes]).toEqual(['B4! A3', []])
  })

  test('that was read too close to the change is not believed at all', () => {
    const close = (readAt: number) =>
      plan(reading(['C', 'B'], EDGE, EDGE - 10_000, 0, { kvno: { value: 8, readAt } }), steady)
    expect(acceptor(close(EDGE - 4_999))).toBe('C8? B7!')
    expect(acceptor(close(EDGE - 5_001))).toBe('C9? B8! B7')
  })

  test.each([0, -1, 1.5, 2 ** 32, Number.NaN])('of %d is none', (value) => {
    const schedule = plan(reading(['B', 'A'], EDGE, EDGE - HOUR, value))
    expect([acceptor(schedule), schedule.notes]).toEqual(['', ['kvno-doubtful', 'kvno-unknown']])
  })

  test('that nobody knows keeps every key back', () => {
    const unknown = plan(reading(['B', 'A'], EDGE, EDGE - HOUR))
    expect([acceptor(unknown), initiator(unknown), unknown.notes]).toEqual(['', '', ['kvno-unknown']])
  })

  test('is predicted from the password before, where only that one is known', () => {
    const after = plan(reading(['C', 'B'], EDGE + ROLLOVER, EDGE + MINUTE), steady)
    expect(acceptor(after)).toBe('C8?! B7')
  })

  test('that went up under the same password is a second one for it', () => {
    const raised = plan(reading(['B', 'A'], EDGE, EDGE - MINUTE * 30, 8), steady)
    expect([acceptor(raised), raised.notes]).toEqual(['B8! B7 A6', ['kvno-raised']])
    const later = plan(reading(['B', 'A'], EDGE, EDGE - MINUTE * 20, 8), raised)
    expect([acceptor(later), later.notes]).toEqual(['B8! B7 A6', []])
  })

  test('predicted for a password that never came is forgotten with it', () => {
    const window = plan(reading(['X', 'B'], EDGE, EDGE - MINUTE, 7), steady)
    expect(acceptor(window)).toBe('X8? B7!')
    expect(acceptor(plan(reading(['C', 'B'], EDGE + ROLLOVER, EDGE + MINUTE, 9), window))).toBe('C9! B7')
    // Where the interval is not known, its number has to do.
    const change = EDGE + 20 * HOUR
    const { rollover: _, ...unknown } = reading(['C', 'B'], change, EDGE + MINUTE, 8)
    expect(plan(unknown, window).generations.map(({ password }) => nameOf(password))).toEqual(['C', 'B'])
  })

  test('predicted for a password that was in force, unseen, stays with it, unless another one has it', () => {
    const window = plan(reading(['C', 'B'], EDGE, EDGE - MINUTE, 7), steady)
    const asleep = (kvno: number) =>
      plan(reading(['E', 'D'], EDGE + 3 * ROLLOVER, EDGE + 2 * ROLLOVER + HOUR, kvno), window, {
        keepPrevious: 60 * HOUR,
      })
    expect(acceptor(asleep(10))).toBe('E10! D9 C8?')
    expect(acceptor(asleep(9))).toBe('E9! D8')
  })
})

describe('a kvno that is counted on from an earlier password', () => {
  const counted = (names: readonly string[], change: number, now: number, value: number) =>
    reading(names, change, now, undefined, { kvno: { value, readAt: now - HOUR, predicted: true } })

  test('is used, marked, and said; the previous password and the next one are marked too', () => {
    const steady = plan(counted(['B', 'A'], EDGE, EDGE - HOUR, 6))
    expect([acceptor(steady), initiator(steady), steady.notes]).toEqual(['B6?! A5?', 'B6', ['kvno-predicted']])
    const window = plan(counted(['C', 'B'], EDGE, EDGE - 4 * MINUTE, 6), steady)
    expect([acceptor(window), window.notes]).toEqual(['C7? B6?!', ['kvno-predicted']])
    const after = plan(counted(['C', 'B'], EDGE + ROLLOVER, EDGE + MINUTE, 7), window)
    expect([acceptor(after), after.notes]).toEqual(['C7?! B6?', ['kvno-predicted']])
  })

  test('leaves what is known as it is', () => {
    const known = plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7))
    const same = plan(counted(['B', 'A'], EDGE, EDGE - 30 * MINUTE, 6), known)
    expect([acceptor(same), same.notes]).toEqual(['B7! A6', []])
    const window = plan(reading(['C', 'B'], EDGE, EDGE - MINUTE, 7), known)
    expect(acceptor(plan(counted(['C', 'B'], EDGE + ROLLOVER, EDGE + HOUR, 8), window))).toBe('C8?! B7')
    // No two passwords share a number, and an older one has no higher.
    expect(acceptor(plan(counted(['C', 'B'], EDGE + ROLLOVER, EDGE + HOUR, 7), window))).toBe('C8?! B7')
  })

  test('gives way to one that is read', () => {
    const steady = plan(counted(['B', 'A'], EDGE, EDGE - HOUR, 6))
    const read = plan(reading(['B', 'A'], EDGE, EDGE - 30 * MINUTE, 8), steady)
    expect([acceptor(read), read.notes]).toEqual(['B8! A7', []])
  })

  test('of 1 leaves no number below it', () => {
    expect(acceptor(plan(counted(['B', 'A'], EDGE, EDGE - HOUR, 1)))).toBe('B1?!')
  })
})

describe('servers that differ', () => {
  test('by a whole interval: only the next password counts as the next', () => {
    const steady = plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7))
    const far = plan(reading(['D', 'C'], EDGE + ROLLOVER, EDGE + ROLLOVER - MINUTE, 8), steady)
    const back = plan(reading(['B', 'A'], EDGE, EDGE - 30 * MINUTE, 7), far)
    expect([acceptor(far), acceptor(back), back.notes[0]]).toEqual(['D9? C8!', '', 'kvno-doubtful'])
    const near = plan(reading(['D', 'C'], EDGE + ROLLOVER, EDGE + ROLLOVER - MINUTE, 8), steady, {
      keepPrevious: 60 * HOUR,
    })
    expect(acceptor(plan(reading(['B', 'A'], EDGE, EDGE - 30 * MINUTE, 7), near))).toBe('C8 B7! A6')
  })

  test('over whether the change has come: the last answer says what is in force', () => {
    const steady = plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7))
    const ahead = plan(reading(['C', 'B'], EDGE + ROLLOVER, EDGE - 2_000, 8), steady)
    expect([acceptor(ahead), initiator(ahead)]).toEqual(['C8! B7', 'C8'])
    const behind = plan(reading(['C', 'B'], EDGE, EDGE - 10_000, 7), ahead)
    expect([acceptor(behind), initiator(behind), behind.notes]).toEqual(['C8 B7!', 'B7', []])
  })

  test('over whether the window is open: what is known of the next password stays', () => {
    const open = plan(reading(['C', 'B'], EDGE, EDGE - 5 * MINUTE, 7))
    const closed = plan(reading(['B', 'A'], EDGE + 2_000, EDGE - 5 * MINUTE + 1_000, 7), open)
    expect([acceptor(closed), initiator(closed)]).toEqual(['C8? B7! A6', 'B7'])
  })

  test('or that hide the password in force in the window: what was in force before stays so', () => {
    const hidden = (before?: Schedule) => plan(reading(['C'], EDGE, EDGE - MINUTE, 7), before)
    const known = hidden(plan(reading(['B', 'A'], EDGE, EDGE - HOUR, 7)))
    expect([acceptor(known), initiator(known)]).toEqual(['C8? B7!', 'B7'])
    const unknown = hidden()
    expect([acceptor(unknown), initiator(unknown), unknown.notes]).toEqual(['', '', ['in-force-unknown']])
  })
})

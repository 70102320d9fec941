import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import { rolloverOf } from '../../src/gmsa/cycle.ts'
import { type Schedule, scheduleKeys } from '../../src/gmsa/schedule.ts'
import { type DirectoryModel, intervalOf, makeDirectory, type Ticket } from './directory-model.ts'

const MINUTE = 60_000
const HOUR = 3_600_000
const KEEP = 10 * HOUR + 5 * MINUTE
const TICKET_LIFE = 10 * HOUR
const EDGE = Date.UTC(2026, 10, 19, 20)
const CHANGES = 3

const ratio = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
const world = fc.record({
  days: fc.constantFrom(1, 2, 3),
  /** How far into a ten-hour cycle the account was made. */
  created: fc.nat(10 * HOUR - 1),
  ahead: fc.integer({ min: -2 * MINUTE, max: 2 * MINUTE }),
  latency: fc.nat(400),
  /** Where in the account's life strangers ask for tickets, and where we look; the moments around changes come on top. */
  strangers: fc.array(ratio, { maxLength: 25 }),
  looks: fc.array(ratio, { minLength: 5, maxLength: 40 }),
  reads: fc.array(ratio, { minLength: 1, maxLength: 12 }),
  jitter: ratio,
})
type World = typeof world extends fc.Arbitrary<infer T> ? T : never

interface Life {
  readonly directory: DirectoryModel
  readonly created: number
  readonly end: number
  /** Moments to issue a ticket or to look at what is handed out, in order. */
  readonly events: readonly { readonly time: number; readonly kind: 'ticket' | 'look' }[]
  /** Tickets at those moments, of strangers. */
  at(share: number): number
}

function live({ days, created, strangers, looks }: World): Life {
  const rollover = rolloverOf(days)
  const birth = EDGE + created
  const directory = makeDirectory(birth, rollover)
  const end = EDGE + (CHANGES + 1) * rollover - 10 * MINUTE
  const at = (share: number) => Math.floor(birth + share * (end - birth))
  const changes = Array.from({ length: CHANGES }, (_, index) => directory.endOf(index))
  const around = [-30, -6, -5, -4, -1, -0.05, 0.05, 0.2, 1, 4, 6, 30].map((minutes) => minutes * MINUTE)
  const near = changes.flatMap((change) => around.map((offset) => change + offset)).filter((time) => time > birth)
  const events = [
    ...[...strangers.map(at), ...near].map((time) => ({ time, kind: 'ticket' as const })),
    ...[...looks.map(at), ...near.map((time) => time + 1)].map((time) => ({ time, kind: 'look' as const })),
  ]
  return { directory, created: birth, end, events: events.toSorted((one, other) => one.time - other.time), at }
}

const pair = (kvno: number | undefined, interval: number) => `${kvno}:${interval}`
const pairs = ({ acceptor }: Schedule) => acceptor.map(({ kvno, password }) => pair(kvno?.value, intervalOf(password)))

/** What has to hold of every schedule, whenever the directory was read. */
function expectSound(schedule: Schedule, directory: DirectoryModel, time: number) {
  const numbers = schedule.acceptor.map(({ kvno }) => kvno?.value)
  expect(new Set(numbers).size).toBe(numbers.length)
  for (const { kvno, password } of schedule.acceptor) {
    if (kvno?.from === 'prediction') continue
    expect(directory.passwordUnder(kvno?.value ?? 0), `kvno ${kvno?.value}`).toBe(intervalOf(password))
  }
  for (const { password } of schedule.initiator) {
    expect(directory.takes(intervalOf(password), time), 'a log-on').toBe(true)
  }
}

describe('over an account’s life of three changes', () => {
  test('read when the schedule says, every live ticket is accepted under its number and every log-on succeeds', () => {
    let [looked, tickets] = [0, 0]
    fc.assert(
      fc.property(world, (given) => {
        const { directory, events, at } = live(given)
        const { ahead, latency, jitter } = given
        const issued: Ticket[] = []
        const begun = at((given.reads[0] ?? 0) * 0.4)
        let readAt = begun
        let schedule: Schedule | undefined
        let reading: ReturnType<DirectoryModel['read']> | undefined
        for (const { time, kind } of events) {
          while (readAt <= time) {
            reading = directory.read(readAt, { ahead, latency, jitter })
            const before = schedule ? { before: schedule.generations } : {}
            schedule = scheduleKeys({ reading, ...before, now: reading.receivedAt, keepPrevious: KEEP })
            expect(schedule.notes.filter((note) => note !== 'previous-withheld')).toEqual([])
            readAt = schedule.nextReadAt - ahead
          }
          if (kind === 'ticket') issued.push(directory.issueTicket(time))
          if (kind === 'ticket' || !reading || !schedule || time < reading.receivedAt - ahead) continue
          schedule = scheduleKeys({ reading, before: schedule.generations, now: time + ahead, keepPrevious: KEEP })
          expectSound(schedule, directory, time)
          expect(schedule.initiator.length).toBe(1)
          const held = pairs(schedule)
          const known = directory.intervalAt(begun)
          const alive = issued.filter((each) => each.issuedAt > time - TICKET_LIFE && each.interval >= known)
          for (const ticket of alive) expect(held).toContain(pair(ticket.kvno, ticket.interval))
          // In the window the next key is there before anybody needs it.
          const left = directory.endOf(directory.intervalAt(time)) - time
          const opened = left < 4 * MINUTE && time > begun + 2 * MINUTE
          if (opened) expect(schedule.acceptor.some(({ phase }) => phase === 'next')).toBe(true)
          looked += 1
          tickets += alive.length
        }
      }),
      { numRuns: 150 },
    )
    expect(looked).toBeGreaterThan(5_000)
    expect(tickets).toBeGreaterThan(5_000)
  })

  test('read at any time, whole intervals missed: nothing wrong is handed out, and nothing is dropped early', () => {
    let looked = 0
    fc.assert(
      fc.property(world, (given) => {
        const { directory, events, at } = live(given)
        const { ahead, latency, jitter } = given
        const reads = given.reads.map(at).toSorted((one, other) => one - other)
        const given_out = new Map<string, number>()
        let schedule: Schedule | undefined
        let reading: ReturnType<DirectoryModel['read']> | undefined
        for (const { time, kind } of events) {
          while (reads[0] !== undefined && reads[0] <= time) {
            reading = directory.read(reads.shift() ?? 0, { ahead, latency, jitter })
            const before = schedule ? { before: schedule.generations } : {}
            schedule = scheduleKeys({ reading, ...before, now: reading.receivedAt, keepPrevious: KEEP })
          }
          if (kind === 'ticket') directory.issueTicket(time)
          if (kind === 'ticket' || !reading || !schedule || time < reading.receivedAt - ahead) continue
          schedule = scheduleKeys({ reading, before: schedule.generations, now: time + ahead, keepPrevious: KEEP })
          // The blob was on the road for a moment, and by so much we are late.
          if (Math.abs(schedule.usableUntil - ahead - time) > latency) expectSound(schedule, directory, time)
          if (schedule.acceptor.length === 0) continue
          const held = pairs(schedule)
          for (const [handedOut, end] of given_out) {
            if (time < end + KEEP) expect(held).toContain(handedOut)
          }
          for (const { kvno, password } of schedule.acceptor) {
            if (kvno?.from === 'directory')
              given_out.set(pair(kvno.value, intervalOf(password)), directory.endOf(intervalOf(password)))
          }
          looked += 1
        }
      }),
      { numRuns: 150 },
    )
    expect(looked).toBeGreaterThan(500)
  })

  test('whatever a directory says, no number is given twice and none changes its password unless it insists', () => {
    const reading = fc.record({
      step: fc.integer({ min: -2 * HOUR, max: 50 * HOUR }),
      query: fc.constantFrom(0n, 1n, 3_000_000_000n, 3_000_000_001n, 10n ** 12n, 2n ** 64n - 1n),
      unchanged: fc.constantFrom(0n, 717_000_000_000n, 720_000_000_000n, 2n ** 64n - 1n),
      current: fc.nat(4),
      previous: fc.option(fc.nat(4)),
      kvno: fc.option(fc.integer({ min: 0, max: 6 })),
      confirmed: fc.boolean(),
      rollover: fc.option(fc.constantFrom(20 * HOUR, 40 * HOUR)),
      keepPrevious: fc.constantFrom(0, 10 * HOUR, 200 * HOUR),
    })
    const password = (number: number) => new Secret(Buffer.from([number + 1, 1]))
    fc.assert(
      fc.property(fc.array(reading, { minLength: 1, maxLength: 12 }), (readings) => {
        let now = EDGE
        let before: Schedule | undefined
        for (const { step, query, unchanged, current, previous, kvno, confirmed, rollover, keepPrevious } of readings) {
          now += step
          const blob = {
            current: password(current),
            ...(previous !== null && { previous: password(previous) }),
            queryInterval: query,
            unchangedInterval: unchanged,
          }
          const number = kvno === null ? {} : { kvno: { value: kvno, readAt: now, confirmed } }
          const input = { blob, receivedAt: now, ...number, ...(rollover && { rollover }), jitter: 0 }
          const known = before ? { before: before.generations } : {}
          const schedule = scheduleKeys({ reading: input, ...known, now, keepPrevious })
          const numbers = schedule.generations.flatMap((each) => each.kvno?.value ?? [])
          expect(new Set(numbers).size).toBe(numbers.length)
          expect(schedule.initiator.length).toBeLessThanOrEqual(1)
          expect(schedule.acceptor).toEqual(expect.arrayContaining([...schedule.initiator]))
          for (const each of schedule.generations) {
            const rival = before?.generations.find(
              (other) => other.kvno?.value === each.kvno?.value && other.password !== each.password,
            )
            const overruled = confirmed || rival?.kvno?.from !== 'directory' || each.kvno === undefined
            expect(overruled || rival === undefined, 'a number that changed its password').toBe(true)
          }
          before = schedule
        }
      }),
      { numRuns: 2_000 },
    )
  })

  test('a schedule given its own generations again is the same', () => {
    fc.assert(
      fc.property(world, ratio, (given, share) => {
        const { directory, at } = live(given)
        const { ahead, latency, jitter } = given
        let before: Schedule | undefined
        for (const time of given.reads.map(at).toSorted((one, other) => one - other)) {
          const reading = directory.read(time, { ahead, latency, jitter })
          const now = reading.receivedAt + Math.floor(share * 30 * HOUR)
          const more = before ? { before: before.generations } : {}
          const once = scheduleKeys({ reading, ...more, now, keepPrevious: KEEP })
          const { notes: _, ...twice } = scheduleKeys({ reading, before: once.generations, now, keepPrevious: KEEP })
          const bare = (schedule: Omit<Schedule, 'notes'>) => ({
            ...schedule,
            notes: undefined,
            pairs: pairs({ ...schedule, notes: [] }),
          })
          expect(bare(twice)).toEqual(bare(once))
          before = once
        }
      }),
    )
  })
})

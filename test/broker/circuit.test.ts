import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  afterAnswer,
  afterOutage,
  afterTrialBegan,
  CALM,
  type Circuit,
  FIRST_REST,
  JITTER,
  LONGEST_REST,
  NEW_CIRCUIT,
  THRESHOLD,
} from '../../src/broker/circuit.ts'

const outage = (began: number, more = {}) => ({ began, retryAfter: 0, jitter: 0, ...more })

/** Opened at this time by reads that began then. */
function openedAt(now: number, circuit = NEW_CIRCUIT, more = {}): Circuit {
  let next = circuit
  for (let count = 0; count < THRESHOLD; count += 1) next = afterOutage(next, outage(now, more), now)
  return next
}

function trialAt(now: number, circuit: Circuit): Circuit {
  return afterTrialBegan(circuit, now) ?? expect.unreachable('no time for a trial')
}

describe('a circuit', () => {
  test('opens at the third outage in a row, and an answer between them starts the count again', () => {
    let circuit = afterOutage(afterOutage(NEW_CIRCUIT, outage(0), 1), outage(0), 2)
    expect(circuit.state).toBe('closed')
    circuit = afterAnswer(circuit, 3)
    circuit = afterOutage(afterOutage(circuit, outage(3), 4), outage(3), 5)
    expect(circuit.state).toBe('closed')
    expect(afterOutage(circuit, outage(3), 6)).toEqual({ state: 'open', until: 6 + FIRST_REST, openings: 1 })
  })

  test('rests twice as long after each trial in vain, up to a bound', () => {
    let circuit = openedAt(0)
    const rests: number[] = []
    for (let now = 0; rests.length < 7; ) {
      if (circuit.state !== 'open') return expect.unreachable()
      rests.push(circuit.until - now)
      now = circuit.until
      circuit = afterOutage(trialAt(now, circuit), outage(now), now)
    }
    expect(rests).toEqual([1_000, 2_000, 4_000, 5_000, 5_000, 5_000, 5_000])
  })

  test('lets one read through when its rest is over, and no other before that ends', () => {
    const circuit = openedAt(0)
    expect(afterTrialBegan(circuit, FIRST_REST - 1)).toBeUndefined()
    const trying = trialAt(FIRST_REST, circuit)
    expect(afterTrialBegan(trying, FIRST_REST + 60_000)).toBeUndefined()
    expect(afterTrialBegan(afterAnswer(trying, FIRST_REST), FIRST_REST)).toBeUndefined()
  })

  test('is not moved by what began before the trial, nor, once closed, by what began before that', () => {
    const trying = trialAt(FIRST_REST, openedAt(0))
    expect(afterOutage(trying, outage(FIRST_REST - 1), FIRST_REST + 1)).toBe(trying)
    const closed = afterAnswer(trying, 2_000)
    expect(openedAt(1_999, closed)).toBe(closed)
    expect(openedAt(2_000, closed).state).toBe('open')
  })

  test('rests as long as the store asks for, also when it asks late', () => {
    expect(openedAt(0, NEW_CIRCUIT, { retryAfter: 30_000 })).toMatchObject({ until: 30_000 })
    const open = openedAt(0)
    expect(afterOutage(open, outage(0, { retryAfter: 20_000 }), 500)).toMatchObject({ state: 'open', until: 20_500 })
    expect(afterOutage(open, outage(0, { retryAfter: 100 }), 500)).toEqual(open)
  })

  test('that opens again soon after it closed rests longer; after a calm time it starts anew', () => {
    const closed = afterAnswer(openedAt(0), 1_000)
    expect(openedAt(2_000, closed)).toMatchObject({ until: 2_000 + 2 * FIRST_REST })
    expect(openedAt(1_000 + CALM - 1, closed)).toMatchObject({ openings: 2 })
    expect(openedAt(1_000 + CALM, closed)).toMatchObject({ openings: 1, until: 1_000 + CALM + FIRST_REST })
    // Answers meanwhile are what calm is made of; and a read that began before one may still tell of an outage.
    const answered = afterAnswer(closed, 50_000)
    expect(openedAt(1_000 + CALM, answered)).toMatchObject({ openings: 1 })
    expect(afterOutage(answered, outage(49_999), 50_001)).toMatchObject({ outages: 1 })
  })
})

type Step =
  | { readonly step: 'wait'; readonly ms: number }
  | { readonly step: 'read' }
  | { readonly step: 'end'; readonly which: number; readonly answered: boolean; readonly retryAfter: number }
  | { readonly step: 'probe' }

const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ step: fc.constant('wait' as const), ms: fc.constantFrom(0, 1, 800, 5_000) }) },
    { weight: 4, arbitrary: fc.record({ step: fc.constant('read' as const) }) },
    {
      weight: 5,
      arbitrary: fc.record({
        step: fc.constant('end' as const),
        which: fc.nat(4),
        answered: fc.boolean(),
        retryAfter: fc.constantFrom(0, 0, 0, 3_000, 60_000),
      }),
    },
    { weight: 1, arbitrary: fc.record({ step: fc.constant('probe' as const) }) },
  ),
  { maxLength: 120 },
)

test('however reads, probes and time meet, it holds its promises', () => {
  fc.assert(
    fc.property(steps, fc.double({ min: 0, max: 0.999, noNaN: true }), (all, jitter) => {
      let circuit: Circuit = NEW_CIRCUIT
      let now = 0
      let closedAt = Number.NEGATIVE_INFINITY
      let inARow = 0
      let asked = 0
      const reads: { began: number; trial: boolean }[] = []

      function close(): void {
        if (circuit.state !== 'closed') closedAt = now
        inARow = 0
        asked = 0
        circuit = afterAnswer(circuit, now)
        expect(circuit.state, 'any answer closes it').toBe('closed')
      }

      for (const each of all) {
        if (each.step === 'wait') now += each.ms
        else if (each.step === 'probe') close()
        else if (each.step === 'read') {
          const trying = afterTrialBegan(circuit, now)
          if (circuit.state === 'closed') reads.push({ began: now, trial: false })
          else if (trying) {
            expect(reads.filter(({ began, trial }) => trial && began >= closedAt)).toEqual([])
            expect(now, 'no trial before the time the store asked for').toBeGreaterThanOrEqual(asked)
            circuit = trying
            reads.push({ began: now, trial: true })
          } else if (circuit.state === 'open') expect(circuit.until).toBeGreaterThan(now)
        } else {
          const [read] = reads.splice(each.which % Math.max(1, reads.length), 1)
          if (!read) continue
          if (each.answered) {
            close()
            continue
          }
          const before = circuit
          circuit = afterOutage(circuit, { began: read.began, retryAfter: each.retryAfter, jitter }, now)
          if (before.state === 'closed' && read.began >= closedAt) inARow += 1
          if (before.state === 'closed') expect(circuit.state === 'open').toBe(inARow >= THRESHOLD)
          if (before.state === 'half-open') expect(circuit.state === 'open').toBe(read.trial && read.began >= closedAt)
          if (circuit.state !== 'open') continue
          asked = Math.max(asked, now + each.retryAfter)
          const shortest = before.state === 'open' ? 0 : FIRST_REST * (1 - JITTER)
          expect(circuit.until - now).toBeGreaterThanOrEqual(Math.max(shortest, each.retryAfter) - 0.001)
          expect(circuit.until - now, 'nothing keeps it open for ever').toBeLessThanOrEqual(60_000)
        }
      }
      // Left to itself it gives the store another chance, unless one is under way.
      const later = now + 60_000
      const waits = circuit.state === 'half-open' && reads.some(({ trial }) => trial)
      expect(circuit.state === 'closed' || waits || afterTrialBegan(circuit, later) !== undefined).toBe(true)
    }),
    { numRuns: 2_000 },
  )
})

test('in an outage without end the store meets few trials, however many ask', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2_000 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (step, jitter) => {
      let circuit = openedAt(0)
      let trials = 0
      for (let now = 0; now <= 600_000; now += step) {
        const trying = afterTrialBegan(circuit, now)
        if (!trying) continue
        trials += 1
        circuit = afterOutage(trying, { began: now, retryAfter: 0, jitter }, now)
      }
      // Three while the rests grow; then each rest is the longest, less its jitter.
      expect(trials).toBeLessThanOrEqual(3 + 600_000 / (LONGEST_REST * (1 - JITTER)))
    }),
    { numRuns: 50 },
  )
})

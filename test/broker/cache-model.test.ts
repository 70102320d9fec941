import fc from 'fast-check'
import { expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { type Cached, makeCache } from '../../src/broker/cache.ts'
import { movableClock } from '../fakes/clock.ts'

const MAX_AGE = 30
const SERVE_STALE = 100
const ABSENT_AGE = 5
const CODES = ['STORE_UNAVAILABLE', 'STORE_TIMEOUT', 'ACCOUNT_NOT_FOUND', 'STORE_DENIED', 'MATERIAL_MALFORMED'] as const
type Code = (typeof CODES)[number]
const isOutage = (code: Code) => code === 'STORE_UNAVAILABLE' || code === 'STORE_TIMEOUT'

const outcomeOf = (promise: Promise<Cached<number>>): Promise<Cached<number> | Code> =>
  promise.catch((error: GmsaError) => error.code as Code)
const options = { maxAge: MAX_AGE, serveStale: SERVE_STALE, absentAge: ABSENT_AGE }

/** Steps that meet the limits above more often than chance would. */
const passing = fc.constantFrom(0, 1, 4, 5, 25, 29, 30, 70, 99, 100)

const oneByOne = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constant({ step: 'get' as const }) },
    { weight: 3, arbitrary: fc.record({ step: fc.constant('advance' as const), ms: passing }) },
    { weight: 1, arbitrary: fc.constant({ step: 'invalidate' as const }) },
    { weight: 2, arbitrary: fc.record({ step: fc.constant('fail' as const), code: fc.constantFrom(...CODES) }) },
    { weight: 2, arbitrary: fc.constant({ step: 'change' as const }) },
  ),
  { maxLength: 40 },
)

test('one call after the other, it does what the rules say', async () => {
  await fc.assert(
    fc.asyncProperty(oneByOne, async (steps) => {
      const clock = movableClock()
      const cache = makeCache<number>({ clock, ...options })
      let version = 0
      let failing: Code | undefined
      // The model: what was last said, when, and whether it may be given without asking.
      let said: { value: number } | { code: Code } | undefined
      let at = 0
      let mustAsk = true
      const now = () => clock.monotonic()

      function expected(): Cached<number> | Code {
        if (said && !mustAsk && 'value' in said && now() - at < MAX_AGE) return { value: said.value }
        if (said && !mustAsk && 'code' in said && now() - at < ABSENT_AGE) return said.code
        if (failing !== undefined && isOutage(failing)) {
          if (!said || !('value' in said) || now() - at >= SERVE_STALE) return failing
          return { value: said.value, staleFor: now() - at }
        }
        at = now()
        mustAsk = failing !== undefined && failing !== 'ACCOUNT_NOT_FOUND'
        said = failing === undefined ? { value: version } : { code: failing }
        return failing ?? { value: version }
      }

      for (const each of steps) {
        if (each.step === 'advance') await clock.advance(each.ms)
        else if (each.step === 'fail') failing = each.code
        else if (each.step === 'change') {
          version += 1
          failing = undefined
        } else if (each.step === 'invalidate') {
          cache.invalidate()
          mustAsk = true
        } else {
          const load = async () => {
            if (failing !== undefined) throw new GmsaError(failing, 'as told')
            return version
          }
          const wanted = expected()
          expect(await outcomeOf(cache.get('key', true, load))).toEqual(wanted)
        }
      }
    }),
    { numRuns: 1_000 },
  )
})

interface Load {
  readonly id: number
  readonly started: number
  /** How many invalidations there were when it started. */
  readonly epoch: number
  readonly settle: (code: Code | undefined) => void
  ended?: { readonly at: number; readonly order: number; readonly code: Code | undefined }
}

const meeting = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constant({ step: 'get' as const }) },
    { weight: 2, arbitrary: fc.record({ step: fc.constant('advance' as const), ms: passing }) },
    { weight: 2, arbitrary: fc.constant({ step: 'invalidate' as const }) },
    {
      weight: 4,
      arbitrary: fc.record({
        step: fc.constant('end' as const),
        which: fc.nat(5),
        code: fc.option(fc.constantFrom(...CODES), { nil: undefined }),
      }),
    },
  ),
  { maxLength: 40 },
)

test('however reads, announcements and calls meet, no answer is older than it says, and none outlives a refusal', async () => {
  await fc.assert(
    fc.asyncProperty(meeting, async (steps) => {
      const clock = movableClock()
      const cache = makeCache<number>({ clock, ...options })
      const loads: Load[] = []
      const calls: Promise<void>[] = []
      let epoch = 0
      let order = 0

      function load(): Promise<number> {
        const running = loads.filter((each) => !each.ended && each.epoch === epoch)
        expect(running, 'one read at a time between announcements').toEqual([])
        const { promise, resolve, reject } = Promise.withResolvers<number>()
        const id = loads.length
        const settle = (code: Code | undefined) =>
          code === undefined ? resolve(id) : reject(new GmsaError(code, 'as told'))
        loads.push({ id, started: clock.monotonic(), epoch, settle })
        return promise
      }

      function end(each: Load, code: Code | undefined): void {
        order += 1
        each.ended = { at: clock.monotonic(), order, code }
        each.settle(code)
      }

      async function get(): Promise<void> {
        const called = { at: clock.monotonic(), epoch, order }
        const outcome = await outcomeOf(cache.get('key', true, load))
        if (typeof outcome === 'string') return
        const source = loads[outcome.value]
        if (!source?.ended) return expect.unreachable('a value that no read brought')
        if (outcome.staleFor === undefined) {
          const during = source.ended.order > called.order
          expect(during || called.at - source.started < MAX_AGE, 'fresh enough').toBe(true)
          expect(source.epoch, 'read after the last announcement before the call').toBeGreaterThanOrEqual(called.epoch)
          return
        }
        expect(outcome.staleFor).toBe(clock.monotonic() - source.started)
        expect(outcome.staleFor).toBeLessThan(SERVE_STALE)
        const failed = loads.some(({ ended }) => ended?.code && isOutage(ended.code) && ended.order > called.order)
        expect(failed, 'an outage during the call').toBe(true)
        const refused = loads.filter(({ id, ended }) => ended?.code && !isOutage(ended.code) && id > source.id)
        expect(refused, 'no refusal since').toEqual([])
      }

      for (const each of steps) {
        if (each.step === 'advance') await clock.advance(each.ms)
        else if (each.step === 'get') calls.push(get())
        else if (each.step === 'invalidate') {
          cache.invalidate()
          epoch += 1
        } else {
          const running = loads.filter(({ ended }) => !ended)
          const chosen = running[each.which % Math.max(1, running.length)]
          if (chosen) end(chosen, each.code)
          await clock.advance(0)
        }
      }
      for (const each of loads) if (!each.ended) end(each, undefined)
      await Promise.all(calls)
    }),
    { numRuns: 1_000 },
  )
})

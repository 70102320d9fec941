import { afterEach, describe, expect, test } from 'vitest'
import { type ErrorCode, GmsaError, toGmsaError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { type AccountEntry, type Broker, type BrokerEvents, openBroker } from '../../src/broker/broker.ts'
import type { Grant } from '../../src/broker/policy.ts'
import { movableClock } from '../fakes/clock.ts'
import { fakeDirectory } from '../fakes/directory.ts'
import { CREDENTIAL, type MemoryStore, memoryStore } from '../fakes/memory-provider.ts'
import { keepingLog } from '../fakes/rig.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const TIMEOUT = 5 * SECOND
const MAX_AGE = 30 * SECOND
const SERVE_STALE = 5 * MINUTE
/** Between two rounds in which every account is asked for. */
const ROUND = 250
const REFUSED = new GmsaError('STORE_UNAVAILABLE', 'connection refused', { reason: 'refused' })
const everything: Grant = { allows: () => true }

const ignore = () => {}
const NO_EVENTS: BrokerEvents = {
  cacheRead: ignore,
  providerRead: ignore,
  providerUp: ignore,
  accountRead: ignore,
  accountKeys: ignore,
  directoryRead: ignore,
  logOn: ignore,
}

interface Answered {
  readonly provider: string
  readonly name: string
  readonly asked: number
  readonly answered: number
  readonly stale?: number
  readonly code?: ErrorCode
  readonly retryAfter?: number | undefined
}

let broker: Broker | undefined
afterEach(async () => {
  await broker?.[Symbol.asyncDispose]()
  broker = undefined
})

function rig(stores: readonly MemoryStore[], accountsOfEach = 10) {
  const clock = movableClock()
  const { log, lines } = keepingLog()
  const accounts = new Map<string, AccountEntry>()
  for (const { provider, put } of stores) {
    for (let index = 0; index < accountsOfEach; index += 1) {
      accounts.set(`${provider.name}-${index}`, { provider: provider.name, options: {} })
      put(`${provider.name}-${index}`, CREDENTIAL)
    }
  }
  const opened = openBroker({
    accounts,
    providers: new Map(stores.map(({ provider }) => [provider.name, provider])),
    cache: { maxAge: MAX_AGE, serveStale: SERVE_STALE },
    timeout: TIMEOUT,
    clock,
    log,
    random: () => 0.5,
    events: NO_EVENTS,
  })
  broker = opened
  const all: Answered[] = []

  async function ask(name: string): Promise<void> {
    const { provider } = accounts.get(name) ?? expect.unreachable()
    const asked = clock.monotonic()
    const outcome = await opened.read(everything, name, 'credential').then(
      ({ stale }) => (stale === undefined ? {} : { stale }),
      (thrown) => {
        const { code, retryAfter } = toGmsaError(thrown)
        return { code, retryAfter }
      },
    )
    all.push({ provider, name, asked, answered: clock.monotonic(), ...outcome })
  }

  /** Every account is asked for in each round; `meanwhile` is called before it. */
  async function load(ms: number, meanwhile = ignore, names: Iterable<string> = accounts.keys()): Promise<void> {
    const known = [...names]
    for (const until = clock.monotonic() + ms; clock.monotonic() < until; await clock.advance(ROUND)) {
      meanwhile()
      for (const name of known) void ask(name)
    }
  }

  return {
    clock,
    lines,
    load,
    ask,
    names: [...accounts.keys()],
    /** Those of one store that were asked for in a time, by the monotonic clock. */
    of: (provider: string, from = 0, to = Number.POSITIVE_INFINITY) =>
      all.filter((each) => each.provider === provider && each.asked >= from && each.asked < to),
    messages: (provider: string) => lines.filter((line) => line['provider'] === provider).map(({ message }) => message),
  }
}

/** Notes when a store is read and probed, beside what it does. */
function timesOf(store: MemoryStore, clock: { monotonic(): number }) {
  const seen = { reads: store.reads.length, probes: store.probes }
  const times: { at: number; reads: number; probes: number }[] = []
  return {
    times,
    look() {
      const now = { reads: store.reads.length, probes: store.probes }
      if (now.reads !== seen.reads || now.probes !== seen.probes) {
        times.push({ at: clock.monotonic(), reads: now.reads - seen.reads, probes: now.probes - seen.probes })
      }
      Object.assign(seen, now)
    },
  }
}

const longest = (answers: readonly Answered[]) => Math.max(...answers.map(({ asked, answered }) => answered - asked))

test('ten minutes without two of three stores, one refusing and one hanging, under load', async () => {
  const stores = [memoryStore('good'), memoryStore('refuses'), memoryStore('hangs')] as const
  const [good, refuses, hangs] = stores
  const { clock, load, of, messages, names } = rig(stores)
  const known = names.filter((name) => !name.endsWith('-9'))
  await load(MINUTE, undefined, known)

  const from = clock.monotonic()
  const before = stores.map(({ reads, probes }) => ({ reads: reads.length, probes }))
  refuses.fail(REFUSED)
  const release = hangs.hold()
  let rounds = 0
  await load(10 * MINUTE, () => {
    rounds += 1
    // The clock of the day is of no account: nothing here goes by it.
    if (rounds === 600) clock.stepWall(60 * MINUTE)
    if (rounds === 1_200) clock.stepWall(-120 * MINUTE)
  })
  const to = clock.monotonic()
  const after = stores.map(({ reads, probes }) => ({ reads: reads.length, probes }))

  for (const provider of ['refuses', 'hangs']) {
    const answers = of(provider, from, to)
    expect(answers, 'everybody is answered').toHaveLength((10 * 10 * MINUTE) / ROUND)
    expect(longest(answers), 'within the deadline').toBeLessThanOrEqual(TIMEOUT)
    // Found out by the account that nobody had asked for before, or by the others when they are due.
    const held = answers.filter(({ asked, answered }) => answered > asked)
    const open = Math.max(...held.map(({ answered }) => answered))
    expect(open - from, 'soon nobody waits at all').toBeLessThanOrEqual(MAX_AGE + TIMEOUT)
    for (const { asked, name, stale, code, retryAfter } of answers) {
      if (asked < from + MAX_AGE) continue
      const isKnown = known.includes(name)
      if (isKnown && stale !== undefined) expect(stale * SECOND).toBeLessThanOrEqual(SERVE_STALE)
      if (stale !== undefined || asked <= open) continue
      expect(code, 'never old and unmarked').toBe('STORE_UNAVAILABLE')
      expect(retryAfter).toBeGreaterThanOrEqual(1)
      expect(retryAfter).toBeLessThanOrEqual(5)
      if (isKnown) expect(asked - from, 'older answers as long as they may').toBeGreaterThan(SERVE_STALE - MAX_AGE - 1)
    }
    expect(of(provider, to - 4 * MINUTE, to).some(({ stale }) => stale !== undefined)).toBe(false)
    expect(messages(provider)).toEqual(['store is out', 'store is left alone'])
  }

  const [, ...spent] = after.map(({ reads, probes }, index) => ({
    reads: reads - (before[index]?.reads ?? 0),
    probes: probes - (before[index]?.probes ?? 0),
  }))
  for (const { reads, probes } of spent) {
    // Ten accounts with three attempts until it opens; then a trial and a probe every five seconds less the jitter.
    expect(reads).toBeLessThanOrEqual(10 * 3 + 3 + 600 / 4)
    expect(probes).toBeLessThanOrEqual(3 + 600 / 5)
  }
  const fine = of('good', from, to)
  expect(fine.every(({ stale, code }) => stale === undefined && code === undefined)).toBe(true)
  expect(longest(fine)).toBe(0)
  expect(good.reads.length - (before[0]?.reads ?? 0)).toBeLessThanOrEqual(10 * (600 / 30 + 1))

  refuses.fail(undefined)
  release()
  await load(20 * SECOND)
  for (const provider of ['refuses', 'hangs']) {
    const late = of(provider, to + 6 * SECOND)
    expect(
      late.every(({ stale, code }) => stale === undefined && code === undefined),
      'back',
    ).toBe(true)
    expect(messages(provider).slice(2).toSorted()).toEqual(['store answers again', 'store is asked again'])
  }
}, 60_000)

test('a store that nobody asks is noticed to be back as soon', async () => {
  const store = memoryStore('idle')
  const { clock, ask, of, names } = rig([store])
  store.fail(REFUSED)
  for (const name of names) void ask(name)
  await clock.advance(10 * MINUTE)
  store.fail(undefined)
  await clock.advance(6 * SECOND)
  const back = clock.monotonic()
  for (const name of names) void ask(name)
  await clock.advance(0)
  expect(of('idle', back).map(({ code }) => code)).toEqual(names.map(() => undefined))
})

describe('a store that comes and goes', () => {
  test.each([1, 3, 7, 20])(
    'every %i s does no harm',
    async (seconds) => {
      const store = memoryStore('flaps')
      const { clock, load, of, messages } = rig([store])
      await load(SECOND)
      const watch = timesOf(store, clock)
      await load(10 * MINUTE, () => {
        watch.look()
        store.fail(Math.floor(clock.monotonic() / SECOND / seconds) % 2 === 0 ? undefined : REFUSED)
      })
      const answers = of('flaps')
      expect(longest(answers)).toBeLessThan(TIMEOUT)
      expect(
        answers.every(({ code }) => code === undefined),
        'there is an older answer always',
      ).toBe(true)
      // Older than maxAge by the time it is away and the longest rest at most, twice where both meet badly.
      const worst = MAX_AGE / SECOND + 2 * (seconds + 6)
      expect(Math.max(...answers.map(({ stale = 0 }) => stale))).toBeLessThanOrEqual(worst)
      const reads = watch.times.reduce((sum, each) => sum + each.reads, 0)
      const probes = watch.times.reduce((sum, each) => sum + each.probes, 0)
      expect(reads, 'reads in ten minutes').toBeLessThan(10 * 20 * 3)
      expect(probes).toBeLessThan(600)
      expect(messages('flaps').length).toBeLessThan((4 * 600) / 5)
    },
    60_000,
  )

  test('whose probe is answered while every read fails is not asked more often for that', async () => {
    const store = memoryStore('half')
    const provider = { ...store.provider, probe: async () => {} }
    const { clock, load, messages } = rig([{ ...store, provider, put: store.put }])
    store.fail(REFUSED)
    await load(10 * MINUTE)
    expect(clock.monotonic()).toBe(10 * MINUTE)
    // All ten at each opening, with their attempts until it opens again; one opening in a rest.
    expect(store.reads.length).toBeLessThan(10 * 3 * (600 / 4))
    expect(messages('half').length).toBeLessThan((4 * 600) / 4)
  }, 60_000)

  test('whose probe fails while reads are answered is found by a trial', async () => {
    const store = memoryStore('half')
    const provider = {
      ...store.provider,
      probe: async () => {
        throw REFUSED
      },
    }
    const { clock, load, of } = rig([{ ...store, provider, put: store.put }])
    store.fail(REFUSED)
    await load(MINUTE)
    store.fail(undefined)
    const back = clock.monotonic()
    await load(20 * SECOND)
    expect(of('half', back + 6 * SECOND).every(({ code }) => code === undefined)).toBe(true)
  })
})

describe('a store that throttles', () => {
  test('everybody is not read before the time it names', async () => {
    const store = memoryStore('busy')
    const { clock, load, of } = rig([store])
    await load(MINUTE)
    store.fail(new GmsaError('STORE_UNAVAILABLE', 'throttled', { retryAfter: 40 }))
    const watch = timesOf(store, clock)
    const from = clock.monotonic()
    await load(4 * MINUTE, watch.look)
    const asked = watch.times.map(({ at }) => at)
    const gaps = asked.slice(1).map((at, index) => at - (asked[index] ?? 0))
    expect(asked.length).toBeGreaterThan(4)
    // What comes together is seen in one round or the next; a probe waits for its second.
    expect(gaps.filter((gap) => gap > 2 * SECOND && gap < 38 * SECOND)).toEqual([])
    expect(of('busy', from).every(({ code }) => code === undefined)).toBe(true)
    expect(longest(of('busy', from))).toBe(0)
    store.fail(undefined)
    const back = clock.monotonic()
    await load(MINUTE)
    expect(of('busy', back + 42 * SECOND).every(({ stale }) => stale === undefined)).toBe(true)
  })

  test('one account answers for the others, though that one is asked for all the time and they are seldom', async () => {
    const store = memoryStore('busy')
    const reads: typeof store.provider.reads = {
      credential: async (account, signal) => {
        if (account.name === 'busy-0') throw new GmsaError('STORE_UNAVAILABLE', 'throttled', { retryAfter: 3 })
        return (store.provider.reads.credential ?? expect.unreachable())(account, signal)
      },
    }
    const { load, of, ask, clock } = rig([{ ...store, provider: { ...store.provider, reads } }])
    for (let time = 0; time < 30; time += 1) {
      await load(41 * SECOND, undefined, ['busy-0'])
      void ask(`busy-${1 + (time % 9)}`)
      await clock.advance(0)
    }
    const others = of('busy').filter(({ name }) => name !== 'busy-0')
    expect(others).toHaveLength(30)
    expect(others.filter(({ code }) => code === undefined).length).toBeGreaterThan(15)
  }, 60_000)
})

describe('two hundred gMSAs', () => {
  test.each([
    ['without anybody asking', false],
    ['while everybody asks all the time', true],
  ])(
    'are read again after an outage %s: soon, and not all at once',
    async (_how, asking) => {
      const start = Date.UTC(2026, 10, 19, 21)
      const clock = movableClock(start)
      const directory = fakeDirectory({ clock, created: start - 400 * 24 * 60 * MINUTE })
      const names = Array.from({ length: 200 }, (_, index) => `web${index}`)
      let drawn = 0
      const opened = openBroker({
        accounts: new Map(names.map((name) => [name, { provider: 'ad', options: {} }])),
        providers: new Map([['ad', directory.provider]]),
        cache: { maxAge: MAX_AGE, serveStale: SERVE_STALE },
        timeout: TIMEOUT,
        clock,
        log: silentLog,
        // Evenly spread, and the same at every run.
        random: () => (drawn++ * 0.618034) % 1,
        events: NO_EVENTS,
      })
      broker = opened
      const passwords = () => Promise.all(names.map((name) => opened.managedPassword(everything, name)))
      async function pass(ms: number): Promise<void> {
        for (const until = clock.monotonic() + ms; clock.monotonic() < until; await clock.advance(SECOND)) {
          if (asking) await passwords()
        }
      }
      await passwords()
      directory.fail(new GmsaError('STORE_UNAVAILABLE', 'no domain controller answers', { reason: 'hang' }))
      directory.announce()
      await pass(3 * MINUTE)
      const tried = directory.reads.length
      // One each at first, at most one each until it was found out, and then trials.
      expect(tried).toBeLessThanOrEqual(200 + 200 + 3 + 180 / 4)
      directory.fail(undefined)
      const perSecond: number[] = []
      for (let second = 0; second < 20; second += 1) {
        const before = directory.reads.length
        await pass(SECOND)
        perSecond.push(directory.reads.length - before)
      }
      expect(Math.max(...perSecond)).toBeLessThanOrEqual(asking ? 70 : 30)
      expect(directory.reads.length - tried, 'all of them by now').toBeGreaterThanOrEqual(200)
      const answers = await passwords()
      expect(answers.filter(({ stale }) => stale !== undefined)).toEqual([])
      // Each once, and the trial that found the directory back.
      expect(directory.reads.length - tried).toBeLessThanOrEqual(201)
    },
    60_000,
  )
})

test('a directory that is back sets off no read of accounts it refused, nor of other directories', async () => {
  const clock = movableClock()
  const created = clock.now() - 400 * 24 * 60 * MINUTE
  const [back, other] = [fakeDirectory({ clock, created }), fakeDirectory({ clock, created })]
  const opened = openBroker({
    accounts: new Map(
      ['web1', 'web2', 'web3', 'denied', 'elsewhere'].map((name) => {
        return [name, { provider: name === 'elsewhere' ? 'other' : 'ad', options: {} }]
      }),
    ),
    providers: new Map([
      ['ad', back.provider],
      ['other', { ...other.provider, name: 'other' }],
    ]),
    cache: { maxAge: MAX_AGE, serveStale: SERVE_STALE },
    timeout: TIMEOUT,
    clock,
    log: silentLog,
    random: () => 0,
    events: NO_EVENTS,
  })
  broker = opened
  const ask = (name: string) => opened.managedPassword(everything, name).catch(toGmsaError)
  for (const name of ['web1', 'web2', 'web3', 'denied', 'elsewhere']) await ask(name)
  const hung = new GmsaError('STORE_UNAVAILABLE', 'no domain controller answers', { reason: 'hang' })
  for (const directory of [back, other]) directory.announce()
  back.fail(new GmsaError('STORE_DENIED', 'not for us'))
  await ask('denied')
  for (const directory of [back, other]) directory.fail(hung)
  for (const name of ['web1', 'web2', 'web3', 'elsewhere']) await ask(name)
  for (const directory of [back, other]) directory.fail(undefined)
  const before = [back.reads.length, other.reads.length]
  await clock.advance(20 * SECOND)
  expect(back.reads.slice(before[0]).toSorted()).toEqual(['web1', 'web2', 'web3'])
  expect(other.reads.slice(before[1])).toEqual([])
})

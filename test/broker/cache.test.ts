import { describe, expect, test, vi } from 'vitest'
import { type ErrorCode, GmsaError } from '../../src/base/errors.ts'
import { type CacheOptions, type CacheResult, makeCache } from '../../src/broker/cache.ts'
import { failure } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'

const MAX_AGE = 30_000
const SERVE_STALE = 3_600_000

function rig(options: Partial<CacheOptions> = {}) {
  const clock = movableClock()
  const results: CacheResult[] = []
  const onResult = (result: CacheResult) => void results.push(result)
  const cache = makeCache<string>({ clock, maxAge: MAX_AGE, serveStale: SERVE_STALE, onResult, ...options })
  let answer: string | Error = 'first'
  const load = vi.fn(async () => {
    if (answer instanceof Error) throw answer
    return answer
  })
  return {
    clock,
    cache,
    results,
    load,
    get: (key = 'key', pinned = true) => cache.get(key, pinned, load),
    /** The store's answer from now on: a value, or the code of an error. */
    store(next: string | { code: ErrorCode }) {
      answer = typeof next === 'string' ? next : new GmsaError(next.code, 'as told')
    },
  }
}

/** A load that ends when the test says so. */
function heldLoad() {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  return { load: () => promise, resolve, reject: (code: ErrorCode) => reject(new GmsaError(code, 'as told')) }
}

describe('while the store answers', () => {
  test('a value is read once, and again when it is as old as maxAge', async () => {
    const { clock, get, load, store, results } = rig()
    expect(await get()).toEqual({ value: 'first' })
    store('second')
    await clock.advance(MAX_AGE - 1)
    expect(await get()).toEqual({ value: 'first' })
    await clock.advance(1)
    expect(await get()).toEqual({ value: 'second' })
    expect(load).toHaveBeenCalledTimes(2)
    expect(results).toEqual(['miss', 'fresh', 'miss'])
  })

  test('a hundred calls at one time are one read', async () => {
    const { cache, results } = rig()
    const held = heldLoad()
    const load = vi.fn(held.load)
    const calls = Array.from({ length: 100 }, () => cache.get('key', true, load))
    held.resolve('value')
    expect(new Set((await Promise.all(calls)).map(({ value }) => value))).toEqual(new Set(['value']))
    expect(load).toHaveBeenCalledTimes(1)
    expect(results.filter((result) => result === 'joined')).toHaveLength(99)
    expect(results.filter((result) => result === 'miss')).toHaveLength(1)
  })

  test('a hundred calls that fail together are one read and a hundred rejections', async () => {
    const { cache } = rig()
    const held = heldLoad()
    const load = vi.fn(held.load)
    const calls = Array.from({ length: 100 }, () => failure(cache.get('key', true, load), 'STORE_DENIED'))
    held.reject('STORE_DENIED')
    await Promise.all(calls)
    expect(load).toHaveBeenCalledTimes(1)
  })

  test('the age counts from when the store was asked, and a step of the wall clock changes nothing', async () => {
    const { clock, cache, load } = rig()
    const held = heldLoad()
    const first = cache.get('key', true, held.load)
    await clock.advance(20_000)
    held.resolve('value')
    await first
    clock.stepWall(86_400_000)
    await clock.advance(9_999)
    expect(await cache.get('key', true, load)).toEqual({ value: 'value' })
    clock.stepWall(-2 * 86_400_000)
    await clock.advance(1)
    expect(await cache.get('key', true, load)).toEqual({ value: 'first' })
  })

  test('keys know nothing of each other', async () => {
    const { get, store } = rig()
    await get('one')
    store('second')
    expect(await get('two')).toEqual({ value: 'second' })
    expect(await get('one')).toEqual({ value: 'first' })
  })

  test('absence is remembered for five seconds', async () => {
    const { clock, get, load, store, results } = rig()
    store({ code: 'ACCOUNT_NOT_FOUND' })
    await failure(get(), 'ACCOUNT_NOT_FOUND')
    store('there now')
    await clock.advance(4_999)
    await failure(get(), 'ACCOUNT_NOT_FOUND')
    expect(load).toHaveBeenCalledTimes(1)
    await clock.advance(1)
    expect(await get()).toEqual({ value: 'there now' })
    expect(results).toEqual(['miss', 'fresh', 'miss'])
  })

  test.each(['STORE_DENIED', 'MATERIAL_MALFORMED', 'STORE_UNAVAILABLE'] as const)(
    '%s is not remembered',
    async (code) => {
      const { get, load, store } = rig()
      store({ code })
      await failure(get(), code)
      store('mended')
      expect(await get()).toEqual({ value: 'mended' })
      expect(load).toHaveBeenCalledTimes(2)
    },
  )

  test('a load that throws at once, and throws what is no error of ours, is INTERNAL', async () => {
    const { cache, get } = rig()
    const load = () => {
      throw new TypeError('bug')
    }
    await failure(cache.get('key', true, load), 'INTERNAL')
    expect(await get()).toEqual({ value: 'first' })
  })

  test('maxAge 0 keeps nothing fresh', async () => {
    const { get, load } = rig({ maxAge: 0 })
    await get()
    await get()
    expect(load).toHaveBeenCalledTimes(2)
  })
})

describe('when the store is out', () => {
  test.each(['STORE_UNAVAILABLE', 'STORE_TIMEOUT'] as const)(
    '(%s) the last answer is given, with its age',
    async (code) => {
      const { clock, get, store, results } = rig()
      await get()
      await clock.advance(MAX_AGE)
      store({ code })
      expect(await get()).toEqual({ value: 'first', staleFor: MAX_AGE })
      await clock.advance(1_000)
      expect(await get()).toEqual({ value: 'first', staleFor: MAX_AGE + 1_000 })
      expect(results).toEqual(['miss', 'stale', 'stale'])
    },
  )

  test('it is given below serveStale and not beyond, and an outage does not make it younger', async () => {
    const { clock, get, store } = rig()
    await get()
    store({ code: 'STORE_UNAVAILABLE' })
    await clock.advance(SERVE_STALE - 1)
    expect(await get()).toMatchObject({ value: 'first', staleFor: SERVE_STALE - 1 })
    await clock.advance(1)
    await failure(get(), 'STORE_UNAVAILABLE')
  })

  test('serveStale 0 gives nothing, even in the same instant', async () => {
    const { cache, get, store } = rig({ serveStale: 0 })
    await get()
    cache.invalidate()
    store({ code: 'STORE_UNAVAILABLE' })
    await failure(get(), 'STORE_UNAVAILABLE')
  })

  test('every call asks the store, so that its return is seen at once', async () => {
    const { clock, get, store } = rig()
    await get()
    await clock.advance(MAX_AGE)
    store({ code: 'STORE_UNAVAILABLE' })
    await get()
    store('back')
    expect(await get()).toEqual({ value: 'back' })
  })

  test.each(['STORE_DENIED', 'MATERIAL_MALFORMED', 'ACCOUNT_NOT_FOUND', 'KIND_NOT_OFFERED', 'INTERNAL'] as const)(
    'nothing older is given after %s, nor when an outage follows that',
    async (code) => {
      const { clock, get, store } = rig()
      await get()
      await clock.advance(MAX_AGE)
      store({ code })
      await failure(get(), code)
      await clock.advance(5_000)
      store({ code: 'STORE_UNAVAILABLE' })
      await failure(get(), 'STORE_UNAVAILABLE')
    },
  )

  test('calls that meet share the older answer', async () => {
    const { clock, cache, get } = rig()
    await get()
    await clock.advance(MAX_AGE)
    const held = heldLoad()
    const calls = [1, 2, 3].map(() => cache.get('key', true, held.load))
    held.reject('STORE_TIMEOUT')
    expect(await Promise.all(calls)).toEqual(Array(3).fill({ value: 'first', staleFor: MAX_AGE }))
  })
})

describe('after a change was announced', () => {
  test('the value is read again, though it was fresh', async () => {
    const { cache, get, store } = rig()
    await get()
    store('second')
    cache.invalidate((key) => key === 'other')
    expect(await get()).toEqual({ value: 'first' })
    cache.invalidate((key) => key === 'key')
    expect(await get()).toEqual({ value: 'second' })
  })

  test('absence is forgotten', async () => {
    const { cache, get, store } = rig()
    store({ code: 'ACCOUNT_NOT_FOUND' })
    await failure(get(), 'ACCOUNT_NOT_FOUND')
    store('there now')
    cache.invalidate()
    expect(await get()).toEqual({ value: 'there now' })
  })

  test('absence from before is forgotten, whatever the store says next', async () => {
    const { cache, get, store } = rig()
    store({ code: 'ACCOUNT_NOT_FOUND' })
    await failure(get(), 'ACCOUNT_NOT_FOUND')
    cache.invalidate()
    store({ code: 'STORE_DENIED' })
    await failure(get(), 'STORE_DENIED')
    await failure(get(), 'STORE_DENIED')
  })

  test('a read that began before is not kept, and not joined', async () => {
    const { cache, get, load, store } = rig()
    const held = heldLoad()
    const before = cache.get('key', true, held.load)
    cache.invalidate()
    store('second')
    expect(await get()).toEqual({ value: 'second' })
    held.resolve('old')
    expect(await before).toEqual({ value: 'old' })
    expect(await get()).toEqual({ value: 'second' })
    expect(load).toHaveBeenCalledTimes(1)
  })

  test('a read that began before and ends first leaves the later one to be joined', async () => {
    const { cache, get, load } = rig()
    const [first, second] = [heldLoad(), heldLoad()]
    const before = cache.get('key', true, first.load)
    cache.invalidate()
    const later = cache.get('key', true, second.load)
    first.resolve('old')
    await before
    const joined = get()
    second.resolve('new')
    expect(await Promise.all([later, joined])).toEqual([{ value: 'new' }, { value: 'new' }])
    expect(load).not.toHaveBeenCalled()
  })

  test('a read that began before and ends first does not make the entry fresh', async () => {
    const { cache, get, load } = rig()
    const held = heldLoad()
    const before = cache.get('key', true, held.load)
    cache.invalidate()
    held.resolve('old')
    await before
    expect(await get()).toEqual({ value: 'first' })
    expect(load).toHaveBeenCalledTimes(1)
  })

  test('while the store is out, the older answer stays marked until the store is back', async () => {
    const { clock, cache, get, store } = rig()
    await get()
    await clock.advance(1_000)
    cache.invalidate()
    store({ code: 'STORE_UNAVAILABLE' })
    for (const staleFor of [1_000, 1_000]) expect(await get()).toEqual({ value: 'first', staleFor })
    store('second')
    expect(await get()).toEqual({ value: 'second' })
  })

  test('a refusal to a read from before still ends the older answer', async () => {
    const { clock, cache, get, store } = rig()
    await get()
    await clock.advance(MAX_AGE)
    const held = heldLoad()
    const before = failure(cache.get('key', true, held.load), 'STORE_DENIED')
    cache.invalidate()
    held.reject('STORE_DENIED')
    await before
    store({ code: 'STORE_UNAVAILABLE' })
    await failure(get(), 'STORE_UNAVAILABLE')
  })

  test('a refusal to a read from before does not end a younger answer', async () => {
    const { clock, cache, get, store } = rig()
    const held = heldLoad()
    const before = failure(cache.get('key', true, held.load), 'STORE_DENIED')
    await clock.advance(1)
    cache.invalidate()
    store('second')
    await get()
    held.reject('STORE_DENIED')
    await before
    store({ code: 'STORE_UNAVAILABLE' })
    expect(await get()).toEqual({ value: 'second' })
    await clock.advance(MAX_AGE)
    expect(await get()).toEqual({ value: 'second', staleFor: MAX_AGE })
  })
})

describe('names that are not configured', () => {
  test('are kept up to a bound, those used last', async () => {
    const { get, load } = rig({ bound: 3 })
    for (const key of ['a', 'b', 'c']) await get(key, false)
    await get('a', false)
    await get('d', false)
    load.mockClear()
    for (const key of ['a', 'c', 'd']) await get(key, false)
    expect(load).not.toHaveBeenCalled()
    await get('b', false)
    expect(load).toHaveBeenCalledTimes(1)
  })

  test('are a thousand at most, and never push out configured ones', async () => {
    const { get, load } = rig()
    await get('configured', true)
    for (let index = 0; index < 3_000; index += 1) await get(`any-${index}`, false)
    load.mockClear()
    await get('configured', true)
    for (let index = 2_000; index < 3_000; index += 1) await get(`any-${index}`, false)
    expect(load).not.toHaveBeenCalled()
    await get('any-1999', false)
    expect(load).toHaveBeenCalledTimes(1)
  })

  test('pushed out during their read still get their answer', async () => {
    const { cache, get } = rig({ bound: 1 })
    const held = heldLoad()
    const first = cache.get('a', false, held.load)
    await get('b', false)
    held.resolve('value')
    expect(await first).toEqual({ value: 'value' })
  })
})

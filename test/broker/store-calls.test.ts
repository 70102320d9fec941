import { describe, expect, test, vi } from 'vitest'
import { type ErrorCode, GmsaError, type GmsaErrorOptions } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { makeBreaker } from '../../src/broker/breaker.ts'
import { pause } from '../../src/broker/deadline.ts'
import { StoreCalls } from '../../src/broker/store-calls.ts'
import { makeThrottle } from '../../src/broker/throttle.ts'
import { failure, rejection } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'

const TIMEOUT = 5_000
const out = (options: GmsaErrorOptions = {}, code: ErrorCode = 'STORE_UNAVAILABLE') =>
  new GmsaError(code, 'as told', options)
/** Not tried again. */
const HUNG = out({ reason: 'hang' })

function rig() {
  const clock = movableClock()
  const breaker = makeBreaker({
    provider: 'vault',
    clock,
    log: silentLog,
    random: () => 0,
    onOpened() {},
    onClosed() {},
  })
  const note = vi.fn()
  const onAttempt = vi.fn()
  const calls = new StoreCalls({
    timeout: TIMEOUT,
    clock,
    random: () => 0,
    note,
    breakers: new Map([['vault', breaker]]),
    onAttempt,
  })
  /** What the store does, call by call; the last one again and again. */
  let script: (string | Error | 'hang')[] = ['value']
  const asked: number[] = []
  const read = async (signal: AbortSignal) => {
    asked.push(clock.monotonic())
    const next = (script.length > 1 ? script.shift() : script[0]) ?? ''
    if (next instanceof Error) throw next
    if (next !== 'hang') return next
    return new Promise<string>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  }
  return {
    clock,
    calls,
    breaker,
    note,
    onAttempt,
    asked,
    make: (record = 'one') => calls.make({ provider: 'vault', record, read }),
    does(...next: typeof script) {
      script = next
    },
  }
}

describe('a read that fails', () => {
  test('is tried again, and its success is all that anybody hears of but the count of attempts', async () => {
    const { clock, make, does, asked, note, onAttempt, breaker } = rig()
    does(out(), out(), 'third')
    const value = make()
    await clock.advance(1_000)
    expect(await value).toBe('third')
    expect(asked).toEqual([0, 200, 600])
    expect(note.mock.calls).toEqual([['vault', undefined]])
    expect(onAttempt.mock.calls.map(([, , error]) => error?.code)).toEqual([
      'STORE_UNAVAILABLE',
      'STORE_UNAVAILABLE',
      undefined,
    ])
    expect(breaker.refusal()).toBeUndefined()
    expect(clock.pending).toBe(0)
  })

  test('is given up after three attempts, with the last error, and counts as one', async () => {
    const { clock, make, does, asked, note, breaker } = rig()
    does(out(), out(), out({ retryAfter: 9 }))
    const failed = failure(make(), 'STORE_UNAVAILABLE')
    await clock.advance(1_000)
    expect(await failed).toMatchObject({ retryAfter: 9 })
    expect(asked).toHaveLength(3)
    expect(note).toHaveBeenCalledTimes(1)
    expect(breaker.refusal()).toBeUndefined()
  })

  test.each<ErrorCode>(['STORE_DENIED', 'ACCOUNT_NOT_FOUND', 'MATERIAL_MALFORMED', 'KIND_NOT_OFFERED', 'INTERNAL'])(
    'with %s is not tried again',
    async (code) => {
      const { make, does, asked, note } = rig()
      does(out({}, code))
      const error = await failure(make(), code)
      expect(asked).toEqual([0])
      expect(note.mock.calls).toEqual([['vault', error]])
    },
  )

  test('ends at its deadline, whichever attempt hangs', async () => {
    for (const script of [['hang'], [out(), 'hang'], [out(), out({ retryAfter: 2 }), 'hang']] as const) {
      const { clock, make, does } = rig()
      does(...script)
      const started = clock.monotonic()
      const failed = failure(make(), 'STORE_TIMEOUT').then(() => clock.monotonic() - started)
      await clock.advance(TIMEOUT)
      expect(await failed).toBe(TIMEOUT)
      expect(clock.pending).toBe(0)
    }
  })

  test('waits as long as the store asks for, where there is time, and not less', async () => {
    const { clock, make, does, asked } = rig()
    does(out({ retryAfter: 2 }), 'second')
    const value = make()
    await clock.advance(TIMEOUT)
    expect(await value).toBe('second')
    expect(asked).toEqual([0, 2_000])
  })

  test('is not tried again once others have found the store out', async () => {
    const { clock, make, does, asked } = rig()
    does(out(), HUNG)
    const first = failure(make(), 'STORE_UNAVAILABLE')
    for (const record of ['two', 'three', 'four']) await rejection(make(record))
    await clock.advance(1_000)
    await first
    expect(asked).toEqual([0, 0, 0, 0])
  })
})

describe('while the store is left alone', () => {
  async function openRig() {
    const all = rig()
    all.does(HUNG)
    for (const record of ['one', 'two', 'three']) await rejection(all.make(record))
    all.asked.length = 0
    return all
  }

  test('reads are refused at once, without any that reaches it', async () => {
    const { clock, make, asked, note } = await openRig()
    note.mockClear()
    for (let count = 0; count < 100; count += 1) {
      expect(await failure(make(), 'STORE_UNAVAILABLE')).toMatchObject({ retryAfter: 1 })
    }
    expect(clock.monotonic()).toBe(0)
    expect(asked).toEqual([])
    expect(note).not.toHaveBeenCalled()
  })

  test('one read goes out when its rest is over; nobody waits for it, and its success lets all others pass', async () => {
    const { clock, make, does, asked } = await openRig()
    await clock.advance(1_000)
    does('back')
    await failure(make(), 'STORE_UNAVAILABLE')
    await clock.advance(0)
    expect(asked).toEqual([1_000])
    expect(await make()).toBe('back')
  })

  test('a trial that hangs ends at the deadline, once, and holds up nobody', async () => {
    const { clock, make, does, asked, note } = await openRig()
    await clock.advance(1_000)
    note.mockClear()
    does('hang')
    for (let second = 0; second < 5; second += 1) {
      const started = clock.monotonic()
      await failure(make(), 'STORE_UNAVAILABLE')
      expect(clock.monotonic()).toBe(started)
      await clock.advance(1_000)
    }
    expect(asked).toEqual([1_000])
    expect(note.mock.calls).toEqual([['vault', expect.objectContaining({ code: 'STORE_TIMEOUT' })]])
    await clock.advance(1_999)
    await rejection(make())
    expect(asked).toHaveLength(1)
    await clock.advance(1)
    await rejection(make())
    expect(asked).toHaveLength(2)
    await clock.advance(TIMEOUT)
  })

  test('a trial is not tried again', async () => {
    const { clock, make, does, asked } = await openRig()
    await clock.advance(1_000)
    does(out())
    await rejection(make())
    await clock.advance(999)
    expect(asked).toHaveLength(1)
  })
})

describe('a burst of reads', () => {
  const burst = (length: number, make: (record: string) => Promise<string>) =>
    Array.from({ length }, (_, index) => make(String(index)).catch((error: GmsaError) => error.code))

  test('reaches the store thirty-two at a time, and each in its turn', async () => {
    const { clock, calls, onAttempt } = rig()
    let running = 0
    let most = 0
    const read = async () => {
      most = Math.max(most, ++running)
      await pause(100, clock)
      running -= 1
      return 'value'
    }
    const values = burst(100, (record) => calls.make({ provider: 'vault', record, read }))
    await clock.advance(350)
    expect(onAttempt).toHaveBeenCalledTimes(96)
    await clock.advance(50)
    expect(new Set(await Promise.all(values))).toEqual(new Set(['value']))
    expect(most).toBe(32)
    // The wait is not the store's.
    expect(onAttempt.mock.calls.at(-1)?.[1]).toBe(0.1)
    expect(clock.pending).toBe(0)
  })

  test('holds up no other store', async () => {
    const { calls, make, does } = rig()
    does('hang')
    void burst(40, make)
    expect(await calls.make({ provider: 'other', record: 'one', read: async () => 'value' })).toBe('value')
  })

  test('is answered for at the deadline, and whoever got no turn says nothing against the store', async () => {
    const { clock, calls, onAttempt, note } = rig()
    let asked = 0
    const read = async () => {
      asked += 1
      await pause(3_000, clock)
      return 'value'
    }
    const outcomes = burst(100, (record) => calls.make({ provider: 'vault', record, read }))
    await clock.advance(TIMEOUT)
    const counts = Map.groupBy(await Promise.all(outcomes), (each) => each)
    expect(counts.get('value')).toHaveLength(32)
    expect([...counts.keys()].toSorted()).toEqual(['STORE_TIMEOUT', 'STORE_UNAVAILABLE', 'value'])
    expect(asked).toBeLessThan(100)
    expect(onAttempt).toHaveBeenCalledTimes(asked)
    expect(note).toHaveBeenCalledTimes(asked)
  })

  test('does not go on once those before it have found the store out', async () => {
    const { clock, make, does, asked } = rig()
    does(HUNG)
    const codes = new Set(await Promise.all(burst(100, make)))
    expect(codes).toEqual(new Set(['STORE_UNAVAILABLE']))
    // The next ones were on their way when the third failure was counted.
    expect(asked.length).toBeLessThanOrEqual(64)
    expect(clock.pending).toBe(0)
  })
})

describe('a store that throttles one record', () => {
  test('is not asked for that one before its time, and for all others as ever', async () => {
    const { clock, make, does, asked, breaker } = rig()
    does(out({ retryAfter: 30 }))
    await rejection(make('busy'))
    does('value')
    for (let second = 0; second < 30; second += 1) {
      const left = await failure(make('busy'), 'STORE_UNAVAILABLE')
      expect(left.retryAfter).toBe(30 - second)
      expect(await make('other')).toBe('value')
      await clock.advance(1_000)
    }
    expect(asked).toHaveLength(1 + 30)
    expect(await make('busy')).toBe('value')
    expect(breaker.refusal()).toBeUndefined()
  })

  test('that names a day is asked again after a minute', async () => {
    const { clock, make, does, asked } = rig()
    does(out({ retryAfter: 86_400 }))
    await rejection(make())
    await clock.advance(59_999)
    await rejection(make())
    expect(asked).toHaveLength(1)
    await clock.advance(1)
    await rejection(make())
    expect(asked).toHaveLength(2)
  })

  test('is remembered for so many records only, those throttled last', () => {
    const throttle = makeThrottle(movableClock(), 3)
    for (const record of ['a', 'b', 'c', 'a', 'd']) throttle.failed(record, out({ retryAfter: 5 }))
    throttle.failed('e', out())
    expect(['a', 'b', 'c', 'd', 'e'].filter((record) => throttle.refusal(record))).toEqual(['a', 'c', 'd'])
  })
})

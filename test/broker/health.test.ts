import { afterEach, describe, expect, test, vi } from 'vitest'
import { type ErrorCode, GmsaError } from '../../src/base/errors.ts'
import { type Health, watchHealth } from '../../src/broker/health.ts'
import { movableClock } from '../fakes/clock.ts'
import { memoryStore } from '../fakes/memory-provider.ts'

const INTERVAL = 15_000
const error = (code: ErrorCode) => new GmsaError(code, 'as told', { reason: 'refused' })
const out = error('STORE_UNAVAILABLE')

let health: Health | undefined
afterEach(() => health?.[Symbol.dispose]())

function rig() {
  const clock = movableClock()
  const stores = [memoryStore('one'), memoryStore('two')] as const
  const lines: string[] = []
  const ignore = () => {}
  const faults: unknown[] = []
  const keep = (fields: object, message: string) => {
    lines.push(`${Reflect.get(fields, 'provider')} ${message}`)
    faults.push(Reflect.get(fields, 'fault'))
  }
  const log = { trace: ignore, debug: ignore, info: keep, warn: keep, error: keep }
  const onChange = vi.fn()
  const onAnswer = vi.fn()
  const providers = new Map(stores.map(({ provider }) => [provider.name, provider]))
  const watched = watchHealth({ providers, clock, log, timeout: 5_000, interval: INTERVAL, onChange, onAnswer })
  health = watched
  const up = () => Object.fromEntries(watched.all().map((each) => [each.provider, each.up]))
  return { clock, one: stores[0], two: stores[1], lines, faults, onChange, onAnswer, health: watched, up }
}

describe('probes', () => {
  test('say nothing before the first answer, and then which stores are up', async () => {
    const { health, one, two, up } = rig()
    expect(up()).toEqual({ one: undefined, two: undefined })
    expect(health.ready()).toBe(false)
    two.fail(out)
    await health.probeAll()
    expect(up()).toEqual({ one: true, two: false })
    expect(health.all()[1]?.error).toBe(out)
    expect(health.ready()).toBe(true)
    expect([one.probes, two.probes]).toEqual([1, 1])
  })

  test('come again after the interval', async () => {
    const { clock, health, one } = rig()
    await health.probeAll()
    await clock.advance(INTERVAL - 1)
    expect(one.probes).toBe(1)
    await clock.advance(1)
    expect(one.probes).toBe(2)
    await clock.advance(INTERVAL)
    expect(one.probes).toBe(3)
  })

  /** The seconds of the next minute at which the first store is probed. */
  async function probedAt({ clock, one }: ReturnType<typeof rig>): Promise<number[]> {
    const at: number[] = []
    for (let second = 1; second <= 60; second += 1) {
      const before = one.probes
      await clock.advance(1_000)
      if (one.probes > before) at.push(second)
    }
    return at
  }

  test('come sooner while a store is out, at growing distances', async () => {
    const all = rig()
    all.one.fail(out)
    await all.health.probeAll()
    expect(await probedAt(all)).toEqual([1, 3, 7, 12, 17, 22, 27, 32, 37, 42, 47, 52, 57])
  })

  test('of a store that refuses us come no more often in the end than of one that is well', async () => {
    const all = rig()
    all.one.fail(error('STORE_DENIED'))
    await all.health.probeAll()
    expect(await probedAt(all)).toEqual([1, 3, 7, 15, 30, 45, 60])
  })

  test('come when the store wants them, if it says', async () => {
    const all = rig()
    all.one.fail(new GmsaError('STORE_UNAVAILABLE', 'throttled', { retryAfter: 20 }))
    await all.health.probeAll()
    expect(await probedAt(all)).toEqual([20, 40, 60])
  })

  test('come soon after a read without an answer, and at the pace of outages from then on', async () => {
    const all = rig()
    await all.health.probeAll()
    await all.clock.advance(2_000)
    all.one.fail(out)
    all.health.note('one', out)
    expect((await probedAt(all)).slice(0, 4)).toEqual([1, 2, 4, 8])
  })

  test('come when the rest is over that a store is given', async () => {
    const all = rig()
    await all.health.probeAll()
    all.health.rests('one', 30_000)
    all.health.rests('none', 1)
    expect(await probedAt(all)).toEqual([30, 45, 60])
  })

  test.each([
    ['nothing', undefined, 1],
    ['a refusal', 'STORE_DENIED', 1],
    ['an outage', 'STORE_UNAVAILABLE', 0],
    ['a fault of ours', 'INTERNAL', 0],
  ] as const)('that end with %s say whether the store answers', async (_what, code, answers) => {
    const { health, one, onAnswer } = rig()
    one.fail(code && error(code))
    await health.probeAll()
    expect(onAnswer.mock.calls.filter(([name]) => name === 'one')).toHaveLength(answers)
  })

  test('find a store that was out at the start within the second', async () => {
    const { clock, health, one, two } = rig()
    one.fail(out)
    two.fail(out)
    await health.probeAll()
    expect(health.ready()).toBe(false)
    one.fail(undefined)
    await clock.advance(1_000)
    expect(health.ready()).toBe(true)
  })

  test('of a store that hangs end at the deadline, hold up no other, and do not pile up', async () => {
    const { clock, health, one, two, up } = rig()
    const release = one.hold({ ignoreSignal: true })
    const rounds = [health.probeAll(), health.probeAll()]
    await clock.advance(0)
    expect(up()).toEqual({ one: undefined, two: true })
    expect(one.probes).toBe(1)
    expect(two.probes).toBe(1)
    await clock.advance(5_000)
    await Promise.all(rounds)
    expect(up()).toEqual({ one: false, two: true })
    expect(health.all()[0]?.error).toMatchObject({ code: 'STORE_TIMEOUT' })
    release()
    await clock.advance(1_000)
    expect(up()).toEqual({ one: true, two: true })
  })

  test('that fail by a bug count as down, and as INTERNAL; the log tells where, and not what', async () => {
    const { health, one, faults } = rig()
    one.fail(new TypeError('canary'))
    await health.probeAll()
    expect(health.all()[0]).toMatchObject({ up: false, error: { code: 'INTERNAL' } })
    expect(faults).toEqual([{ type: 'TypeError', stack: expect.arrayContaining([expect.stringMatching(/^at /)]) }])
    expect(JSON.stringify(faults)).not.toContain('canary')
  })

  test('end with the watch', async () => {
    const { clock, health, one } = rig()
    health[Symbol.dispose]()
    await clock.advance(10 * INTERVAL)
    expect(one.probes).toBe(0)
    expect(clock.pending).toBe(0)
  })
})

describe('what reads meet', () => {
  test.each([undefined, 'ACCOUNT_NOT_FOUND', 'MATERIAL_MALFORMED'] as const)('%s is an answer: up', (code) => {
    const { health, up } = rig()
    health.note('one', code && error(code))
    expect(up()).toEqual({ one: true, two: undefined })
    expect(health.ready()).toBe(true)
  })

  test.each(['STORE_UNAVAILABLE', 'STORE_TIMEOUT'] as const)('%s is none: down', (code) => {
    const { health, up } = rig()
    health.note('one', error(code))
    expect(up()).toEqual({ one: false, two: undefined })
    expect(health.ready()).toBe(false)
  })

  test.each(['STORE_DENIED', 'INTERNAL'] as const)('%s for one record says nothing of the store', (code) => {
    const { health, up, onChange } = rig()
    health.note('one', error(code))
    expect(up()).toEqual({ one: undefined, two: undefined })
    health.note('one')
    health.note('one', error(code))
    expect(up()).toEqual({ one: true, two: undefined })
    health.note('one', out)
    health.note('one', error(code))
    expect(up()).toEqual({ one: false, two: undefined })
    expect(onChange.mock.calls).toEqual([
      ['one', true],
      ['one', false],
    ])
  })

  test('a refusal of the probe is the store refusing us', async () => {
    const { health, one, up } = rig()
    one.fail(error('STORE_DENIED'))
    await health.probeAll()
    expect(up()).toEqual({ one: false, two: true })
  })

  test('once up, readiness stays; and a name that is no store changes nothing', () => {
    const { health, up } = rig()
    health.note('one')
    health.note('one', out)
    health.note('three')
    expect(health.ready()).toBe(true)
    expect(up()).toEqual({ one: false, two: undefined })
  })
})

describe('telling others', () => {
  test('happens once for each change', async () => {
    const { health, onChange } = rig()
    for (const each of [undefined, undefined, out, out, error('STORE_TIMEOUT'), undefined]) health.note('one', each)
    expect(onChange.mock.calls).toEqual([
      ['one', true],
      ['one', false],
      ['one', true],
    ])
  })

  test('in the log is a line when a store goes out and when it is back, none when all is well from the start', async () => {
    const { clock, health, lines } = rig()
    health.note('one')
    expect(lines).toEqual([])
    health.note('one', out)
    await clock.advance(20_000)
    expect(lines).toEqual(['one store is out', 'one store answers again'])
  })

  test('in the log stays readable when a store answers every other call', async () => {
    const { clock, health, one, lines, onChange } = rig()
    const probing = one.hold()
    for (let call = 0; call < 1_000; call += 1) {
      health.note('one', call % 2 === 0 ? out : undefined)
      await clock.advance(1)
    }
    expect(onChange).toHaveBeenCalledTimes(1_000)
    expect(lines.filter((line) => line.startsWith('one'))).toEqual(['one store is out'])
    probing()
    await clock.advance(30_000)
    expect(lines.filter((line) => line.startsWith('one'))).toEqual(['one store is out', 'one store answers again'])
  })
})

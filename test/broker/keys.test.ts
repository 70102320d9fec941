import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import type { AccountEntry, Broker } from '../../src/broker/broker.ts'
import { openBroker } from '../../src/broker/broker.ts'
import type { Grant } from '../../src/broker/policy.ts'
import { aesSha1StringToKey } from '../../src/crypto/string-to-key.ts'
import { rolloverOf } from '../../src/gmsa/cycle.ts'
import { utf16ToUtf8 } from '../../src/gmsa/managed-password.ts'
import { type KeytabEntry, parseKeytab } from '../../src/kerberos/keytab.ts'
import { failure } from '../contract/provider-contract.ts'
import { movableClock } from '../fakes/clock.ts'
import { fakeDirectory } from '../fakes/directory.ts'
import { keepingLog } from '../fakes/rig.ts'

vi.mock('../../src/crypto/string-to-key.ts', { spy: true })

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const KEEP = 10 * HOUR + 5 * MINUTE
const ROLLOVER = rolloverOf(1)
/** An edge of the ten-hour cycles. */
const EDGE = Date.UTC(2026, 10, 19, 20)
const everything: Grant = { allows: () => true }
/** Nothing that is tried again at once: the clock stands still while a test waits for an answer. */
const OUTAGE = new GmsaError('STORE_UNAVAILABLE', 'no domain controller answers', { reason: 'hang' })

interface RigOptions {
  /** When the test starts, in ms since 1970. */
  readonly start: number
  readonly created?: number
  readonly kvno?: number
  readonly accounts?: Readonly<Record<string, AccountEntry>>
  readonly entry?: Readonly<Record<string, unknown>>
}

const brokers: Broker[] = []
afterEach(async () => {
  await Promise.all(brokers.splice(0).map((broker) => broker[Symbol.asyncDispose]()))
})
beforeEach(() => void vi.clearAllMocks())

function rig({ start, created = EDGE - 40 * ROLLOVER, kvno, accounts, entry = {} }: RigOptions) {
  const clock = movableClock(start)
  const directory = fakeDirectory({ clock, created, ...(kvno !== undefined && { kvno }) })
  const { log, lines } = keepingLog()
  const events = {
    cacheRead: vi.fn(),
    providerRead: vi.fn(),
    providerUp: vi.fn(),
    accountRead: vi.fn(),
    accountKeys: vi.fn(),
    directoryRead: vi.fn(),
    logOn: vi.fn(),
  }
  const open = (random = () => 0) => {
    const broker = openBroker({
      accounts: new Map(Object.entries(accounts ?? { web01: { provider: 'ad', options: entry } })),
      providers: new Map([['ad', directory.provider]]),
      cache: { maxAge: 30 * SECOND, serveStale: HOUR },
      timeout: 5 * SECOND,
      clock,
      log,
      events,
      random,
    })
    brokers.push(broker)
    return broker
  }
  const broker = open()
  const keytab = (use: 'acceptor' | 'initiator', of = broker) => of.keytab(everything, 'web01', { use, principals: [] })
  return { clock, directory, broker, open, keytab, events, lines }
}

const keyOf = (password: Buffer) =>
  aesSha1StringToKey(32, utf16ToUtf8(password), Buffer.from('AD.TESThostweb01.ad.test')).then((key) =>
    key.toString('hex'),
  )

/** Which generation each kvno of a keytab is, by its AES-256 key. */
async function generationsIn(
  entries: readonly KeytabEntry[],
  passwordOf: (generation: number) => Buffer,
  around: number,
) {
  const keys = new Map<string, number>()
  for (let each = around - 3; each <= around + 2; each++) keys.set(await keyOf(passwordOf(each)), each)
  return new Map(
    entries
      .filter(({ enctype }) => enctype === 18)
      .map(({ kvno, key }) => [kvno, keys.get(Buffer.from(key.reveal()).toString('hex'))]),
  )
}

describe('a change, minute by minute', () => {
  test('logs on with the key in force, accepts what was, is and will be issued, and tags change with the bytes', async () => {
    const { clock, directory, keytab } = rig({ start: EDGE - 30 * MINUTE, kvno: 7 })
    directory.touch()
    const change = EDGE
    const before = directory.generationAt(change) - 1
    const tags = new Map<string, string>()
    for (let minute = -30; minute <= 30; minute++) {
      const now = clock.now()
      const [initiator, acceptor] = [await keytab('initiator'), await keytab('acceptor')]
      const logsOn = await generationsIn(parseKeytab(initiator.bytes), directory.passwordOf, before)
      const accepts = await generationsIn(parseKeytab(acceptor.bytes), directory.passwordOf, before)
      directory.touch()
      const inForce = directory.generationAt(now)
      // At the very change controllers still take the old one, for five minutes.
      const expected = now === change ? [before, inForce] : [inForce]
      expect([...logsOn.values()], `initiator at ${minute}`).toHaveLength(1)
      expect(expected, `initiator at ${minute}`).toContain([...logsOn.values()][0])
      for (const [kvno, generation] of [...logsOn, ...accepts]) {
        const stored = directory.kvnoOf(generation ?? Number.NaN)
        if (stored !== undefined) expect(kvno, `kvno at ${minute}`).toBe(stored)
      }
      const held = [...accepts.values()]
      expect(held).toContain(inForce)
      if (now >= change) expect(held).toContain(inForce - 1)
      if (now > change - 5 * MINUTE && now < change) expect(held).toContain(inForce + 1)
      for (const { tag, bytes } of [initiator, acceptor]) {
        const known = tags.get(tag)
        expect(known ?? bytes.toString('hex'), `tag at ${minute}`).toBe(bytes.toString('hex'))
        tags.set(tag, bytes.toString('hex'))
      }
      await clock.advance(MINUTE)
    }
    expect(new Set(tags.values()).size).toBe(tags.size)
    // Initiator: before and after; acceptor: before, and from the window on with the next key, whose kvno held.
    expect(tags.size).toBe(4)
    expect(directory.reads.length).toBeLessThan(8)
  })

  test('is seen without anybody asking, and who waits is told when the window opens and when it is over', async () => {
    const { clock, directory, broker, keytab } = rig({ start: EDGE - 30 * MINUTE, kvno: 7 })
    const told: { use: string; at: number }[] = []
    const watch = async (use: 'acceptor' | 'initiator') => {
      let { tag: seen } = await keytab(use)
      const look = async (at: number) => {
        const { tag } = await keytab(use)
        if (tag !== seen) told.push({ use, at })
        seen = tag
      }
      // Keys are derived in other threads, and this clock does not wait for them.
      return broker.onChange('web01', () => void look(clock.now() - EDGE))
    }
    using _acceptor = await watch('acceptor')
    using _initiator = await watch('initiator')
    await clock.advance(HOUR)
    await vi.waitFor(() => expect(told).toHaveLength(2))
    expect(told.map(({ use }) => use)).toEqual(['acceptor', 'initiator'])
    const [opened = 0, changed = 0] = told.map(({ at }) => at)
    expect(opened).toBeGreaterThanOrEqual(-5 * MINUTE)
    expect(opened).toBeLessThan(-5 * MINUTE + 12 * SECOND)
    expect(changed).toBeGreaterThanOrEqual(0)
    expect(changed).toBeLessThan(12 * SECOND)
    expect(directory.reads.length).toBe(3)
  })

  test('equal state gives equal bytes and tags on two replicas that read at different times', async () => {
    const { clock, open, keytab } = rig({ start: EDGE + 30 * MINUTE })
    const one = await keytab('acceptor')
    await clock.advance(3 * HOUR + 1_234)
    const replica = open(() => 0.9)
    const other = await keytab('acceptor', replica)
    expect(other.bytes.equals(one.bytes)).toBe(true)
    expect(other.tag).toBe(one.tag)
    expect((await replica.keys(everything, 'web01')).tag).not.toBe(one.tag)
  })
})

describe('an account of yesterday', () => {
  test('keeps its first key past its first change, though the directory withholds the password', async () => {
    const { clock, directory, keytab } = rig({ start: EDGE + HOUR, created: EDGE + HOUR })
    const first = await keytab('acceptor')
    expect(first.kvno).toBe(1)
    await clock.advance(ROLLOVER)
    const second = await keytab('acceptor')
    const held = await generationsIn(parseKeytab(second.bytes), directory.passwordOf, 1)
    expect([...held]).toEqual([
      [2, 1],
      [1, 0],
    ])
    await clock.advance(KEEP)
    const later = await generationsIn(parseKeytab((await keytab('acceptor')).bytes), directory.passwordOf, 1)
    expect([...later]).toContainEqual([2, 1])
  })

  test('a change slept through counts twice in the kvno', async () => {
    const { clock, directory, keytab, broker } = rig({ start: EDGE + HOUR, kvno: 4, created: EDGE })
    await keytab('acceptor')
    directory.fail(OUTAGE)
    await clock.advance(2 * ROLLOVER)
    directory.fail(undefined)
    await clock.advance(10 * SECOND)
    const { kvno, bytes } = await broker.keytab(everything, 'web01', { use: 'acceptor', principals: [] })
    expect(kvno).toBe(6)
    const held = await generationsIn(parseKeytab(bytes), directory.passwordOf, 2)
    expect(held.get(6)).toBe(2)
    expect(held.get(5)).toBe(1)
  })
})

describe('the directory is out', () => {
  test('for an hour: what is in force is served and marked, and it recovers by itself', async () => {
    const { clock, directory, keytab, broker, lines } = rig({ start: EDGE - 70 * MINUTE })
    const known = await keytab('initiator')
    directory.fail(OUTAGE)
    directory.announce()
    for (let minute = 0; minute < 60; minute += 5) {
      // That it hangs now and refuses then is one outage, and one line in the log.
      directory.fail(minute % 10 === 0 ? new GmsaError('STORE_TIMEOUT', 'no answer') : OUTAGE)
      const { bytes, stale, refreshAt } = await keytab('initiator')
      expect(bytes.equals(known.bytes)).toBe(true)
      expect(stale).toBe(minute * 60)
      expect(refreshAt).toBeGreaterThan(clock.now())
      await clock.advance(5 * MINUTE)
    }
    expect(broker.health.all()[0]).toMatchObject({ up: false })
    expect(lines.filter(({ message }) => message === 'managed password not read')).toHaveLength(1)
    directory.fail(undefined)
    await clock.advance(10 * MINUTE + SECOND)
    expect(await keytab('initiator')).not.toHaveProperty('stale')
  })

  test('leaves the time of the next reading in the past, and moves it on after readings nobody asked for', async () => {
    const { clock, directory, broker, events } = rig({ start: EDGE - 30 * MINUTE, kvno: 7 })
    const nextDue = () => events.accountKeys.mock.calls.findLast(([, keys]) => 'nextDue' in keys)?.[1].nextDue
    await broker.keys(everything, 'web01')
    const first = nextDue()
    expect(first).toBeGreaterThan(clock.now())
    directory.fail(OUTAGE)
    await clock.advance(first - clock.now() + HOUR)
    expect(nextDue()).toBe(first)
    directory.fail(undefined)
    await clock.advance(15 * MINUTE)
    expect(nextDue()).toBeGreaterThan(clock.now())
  })

  test('is asked again after 30 s, then twice as long, up to ten minutes', async () => {
    const { clock, directory, keytab } = rig({ start: EDGE + HOUR })
    await keytab('initiator')
    directory.fail(OUTAGE)
    directory.announce()
    const asked: number[] = []
    for (let second = 0; second < 3_600; second++) {
      const reads = directory.reads.length
      await clock.advance(SECOND)
      if (directory.reads.length > reads) asked.push(second)
    }
    const gaps = asked.slice(1).map((each, index) => each - (asked[index] ?? 0))
    expect(gaps.slice(0, 5).map((gap) => Math.round(gap / 10) * 10)).toEqual([30, 60, 120, 240, 480])
    expect(gaps.slice(5).every((gap) => gap === 600)).toBe(true)
  })

  test('past the change nothing is served for longer than five minutes', async () => {
    const { clock, directory, keytab } = rig({ start: EDGE - 30 * MINUTE })
    await keytab('initiator')
    directory.fail(OUTAGE)
    await clock.advance(34 * MINUTE + 59 * SECOND)
    expect(await keytab('initiator')).toHaveProperty('stale')
    await clock.advance(SECOND)
    await failure(keytab('initiator'), 'STORE_UNAVAILABLE')
    await failure(keytab('acceptor'), 'STORE_UNAVAILABLE')
    directory.fail(undefined)
    await clock.advance(5 * SECOND)
    expect(await keytab('initiator')).not.toHaveProperty('stale')
  })

  test.each(['ACCOUNT_NOT_FOUND', 'STORE_DENIED', 'MATERIAL_MALFORMED'] as const)(
    'nothing stands in for %s, nor after it; earlier keys are known again with the next reading',
    async (code) => {
      const { clock, directory, keytab } = rig({ start: EDGE + HOUR, created: EDGE + HOUR })
      await keytab('acceptor')
      await clock.advance(ROLLOVER)
      directory.fail(new GmsaError(code, 'said so'))
      directory.announce()
      await failure(keytab('acceptor'), code)
      directory.fail(OUTAGE)
      await clock.advance(6 * SECOND)
      await failure(keytab('acceptor'), 'STORE_UNAVAILABLE')
      directory.fail(undefined)
      await clock.advance(6 * SECOND)
      const { bytes } = await keytab('acceptor')
      expect(new Set(parseKeytab(bytes).map(({ kvno }) => kvno))).toEqual(new Set([2, 1]))
    },
  )

  test('a wall clock set back keeps no password in force', async () => {
    const { clock, directory, keytab } = rig({ start: EDGE - 30 * MINUTE })
    await keytab('initiator')
    directory.fail(OUTAGE)
    clock.stepWall(-2 * HOUR)
    await clock.advance(36 * MINUTE)
    await failure(keytab('initiator'), 'STORE_UNAVAILABLE')
  })
})

describe('two hundred accounts', () => {
  test('cost one read each and one derivation for each key, however often they are asked for', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `web${index}`)
    const accounts = Object.fromEntries(names.map((name) => [name, { provider: 'ad', options: {} }]))
    const { directory, broker } = rig({ start: EDGE + HOUR, accounts })
    const all = () =>
      Promise.all(
        names.flatMap((name) => [
          broker.keytab(everything, name, { use: 'acceptor', principals: [] }),
          broker.keytab(everything, name, { use: 'initiator', principals: [] }),
          broker.keys(everything, name),
        ]),
      )
    await all()
    await all()
    expect(directory.reads.toSorted()).toEqual(names.toSorted())
    // Current and previous, AES-256 and AES-128.
    expect(vi.mocked(aesSha1StringToKey).mock.calls).toHaveLength(200 * 4)
  })

  test('that the configuration does not name are kept within bounds', async () => {
    const { directory, broker } = rig({
      start: EDGE + HOUR,
      accounts: { '*': { provider: 'ad', options: { enctypes: ['rc4'] } } },
    })
    directory.says({ supportedEnctypes: 4 })
    const read = (name: string) => broker.managedPassword(everything, name)
    for (let index = 0; index <= 1_000; index++) await read(`web${index}`)
    await read('web1')
    expect(directory.reads).toHaveLength(1_001)
    await read('web0')
    expect(directory.reads).toHaveLength(1_002)
  })
})

describe('the kvno', () => {
  test('that contradicts what is known is read again at once, and believed only when it stays', async () => {
    const { clock, directory, keytab, lines } = rig({ start: EDGE + HOUR, kvno: 9 })
    directory.touch()
    const { kvno } = await keytab('acceptor')
    directory.pretendKvno(3)
    directory.announce()
    const reads = directory.reads.length
    expect((await keytab('acceptor')).kvno).toBe(kvno)
    expect(directory.reads.length).toBe(reads + 2)
    expect(lines.some(({ note }) => note === 'kvno-doubtful')).toBe(true)
    await clock.advance(45 * SECOND)
    expect((await keytab('acceptor')).kvno).toBe(3)
  })

  test('of another account of the same name starts anew', async () => {
    const { directory, keytab } = rig({ start: EDGE + HOUR, kvno: 9 })
    await keytab('acceptor')
    directory.says({ sid: 'S-1-5-21-9-9-9-1200' })
    directory.pretendKvno(2)
    directory.announce()
    expect((await keytab('acceptor')).kvno).toBe(2)
  })
})

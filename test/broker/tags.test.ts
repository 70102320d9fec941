import { afterEach, describe, expect, test } from 'vitest'
import { silentLog } from '../../src/base/log.ts'
import { Secret } from '../../src/base/secret.ts'
import { type Broker, openBroker } from '../../src/broker/broker.ts'
import type { Grant } from '../../src/broker/policy.ts'
import { formatManagedPassword } from '../../src/gmsa/managed-password.ts'
import { brokerEvents } from '../fakes/broker-events.ts'
import { movableClock } from '../fakes/clock.ts'
import { CREDENTIAL, memoryStore } from '../fakes/memory-provider.ts'

const HOUR = 3_600_000
const NOW = Date.UTC(2026, 10, 19, 20)
const everything: Grant = { allows: () => true }

const brokers: Broker[] = []
afterEach(async () => {
  await Promise.all(brokers.splice(0).map((broker) => broker[Symbol.asyncDispose]()))
})

/** One of several processes over stores of their own; every read is a new one. */
function replica(options: Readonly<Record<string, unknown>> = {}) {
  const store = memoryStore()
  const clock = movableClock(NOW)
  const broker = openBroker({
    accounts: new Map(['web01', '*'].map((name) => [name, { provider: 'memory', options }])),
    providers: new Map([['memory', store.provider]]),
    cache: { maxAge: 0, serveStale: 0 },
    timeout: 5_000,
    clock,
    log: silentLog,
    events: brokerEvents(),
  })
  brokers.push(broker)
  return {
    store,
    clock,
    credential: async (name = 'web01') => (await broker.read(everything, name, 'credential')).tag,
    password: async () => (await broker.managedPassword(everything, 'web01')).tag,
  }
}

describe('the tag of a credential', () => {
  test.each(Object.keys(CREDENTIAL))(
    'is another with another %s, and the same with the same record',
    async (member) => {
      const { store, credential } = replica()
      store.put('web01', CREDENTIAL)
      const before = await credential()
      expect(await credential()).toBe(before)
      store.put('web01', { ...CREDENTIAL, [member]: 'other.test' })
      const after = await credential()
      expect(after).not.toBe(before)
      expect(await credential()).toBe(after)
    },
  )

  test('is forgotten after two thousand others: only so many are kept in memory', async () => {
    const { store, credential } = replica()
    const names = Array.from({ length: 2_000 }, (_, index) => `a${index}`)
    for (const name of ['web01', ...names]) store.put(name, CREDENTIAL)
    const before = await credential()
    for (const name of names.slice(1)) await credential(name)
    expect(await credential()).toBe(before)
    for (const name of names) await credential(name)
    expect(await credential()).not.toBe(before)
  })
})

describe('the tag of a managed password in a record', () => {
  /** A record of a password that changes so many hours after it was read. */
  const record = (hours: number, readAt: number, fill = 1) => ({
    managedPassword: formatManagedPassword({
      current: new Secret(new Uint8Array(256).fill(fill)),
      queryInterval: BigInt(hours * HOUR) * 10_000n,
      unchangedInterval: BigInt(hours * HOUR - 300_000) * 10_000n,
    }).toString('base64'),
    samAccountName: 'web01$',
    domain: 'ad.test',
    kvno: 5,
    readAt: new Date(readAt).toISOString(),
  })

  test('differs between replicas whose passwords have one kvno, where no interval says when each began', async () => {
    const [one, other, same] = [replica(), replica(), replica()]
    one.store.put('web01', record(20, NOW))
    same.store.put('web01', record(20, NOW))
    other.store.put('web01', record(30, NOW, 2))
    expect(await same.password()).toBe(await one.password())
    expect(await other.password()).not.toBe(await one.password())
  })

  test('is the same for readings at different times, where the interval is known', async () => {
    const [one, other] = [replica({ managedPasswordInterval: 30 }), replica({ managedPasswordInterval: 30 })]
    one.store.put('web01', record(30, NOW - 10 * HOUR))
    other.store.put('web01', record(20, NOW))
    expect(await other.password()).toBe(await one.password())
  })
})

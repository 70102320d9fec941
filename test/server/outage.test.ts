import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { movableClock } from '../fakes/clock.ts'
import { memoryStore } from '../fakes/memory-provider.ts'
import { CREDENTIAL, makeRig, type Reply, type Rig } from '../fakes/rig.ts'
import { CREDENTIAL_BODY, eventually, metric } from './wire.ts'

const SECOND = 1_000
const ALL = [{ match: { commonName: '*' }, allow: ['credential' as const], accounts: ['*'] }]

/** Two stores behind the service, with its clock in our hands. */
async function setUp() {
  const clock = movableClock(Date.now())
  const [store, other] = [memoryStore('vault'), memoryStore('other')] as const
  for (const secret of ['svc', 'late']) store.put(secret, CREDENTIAL)
  other.put('spare', CREDENTIAL)
  const rig = await makeRig({
    clock,
    clients: ALL,
    providers: new Map([
      ['vault', store.provider],
      ['other', other.provider],
    ]),
    config: {
      accounts: new Map([
        ['svc', { provider: 'vault', options: {} }],
        ['late', { provider: 'vault', options: {} }],
        ['spare', { provider: 'other', options: {} }],
      ]),
      cache: { maxAge: 30 * SECOND, serveStale: 300 * SECOND },
    },
  })
  return { clock, store, rig }
}

/** An answer for which the clock has to go on: reads that are tried again, or end at their deadline. */
async function answered(clock: { advance(ms: number): Promise<void> }, reply: Promise<Reply>): Promise<Reply> {
  let done = false
  const ended = reply.finally(() => {
    done = true
  })
  while (!done) await clock.advance(10)
  return ended
}

const credential = (rig: Rig, account: string) => rig.get(`/v1/accounts/${account}/credential`)

describe('a store that is out, over mTLS', () => {
  test.each([
    ['refuses', 'STORE_UNAVAILABLE'],
    ['hangs', 'STORE_TIMEOUT'],
  ] as const)('and %s: older answers at once and marked, then 503 with a time, and recovery', async (how, code) => {
    const { clock, store, rig } = await setUp()
    await using _rig = rig
    expect(await rig.provider('svc')).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    await clock.advance(60 * SECOND)
    const fail = new GmsaError('STORE_UNAVAILABLE', 'connection refused', { reason: 'refused' })
    const release = how === 'hangs' ? store.hold() : () => store.fail(undefined)
    if (how === 'refuses') store.fail(fail)
    // What nobody has asked for is read in vain, until three reads in a row found the store out.
    for (let count = 0; count < 3; count += 1) {
      const late = await answered(clock, rig.provider('late'))
      expect(late).toMatchObject({ body: '', headers: { 'gmsa-error': expect.stringMatching(/^STORE_/) } })
    }

    const started = clock.monotonic()
    const stale = await rig.provider('svc')
    expect(stale).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    const since = Math.ceil(started / SECOND)
    expect(Number(stale.headers['gmsa-stale'])).toBeGreaterThanOrEqual(60)
    expect(Number(stale.headers['gmsa-stale'])).toBeLessThanOrEqual(since)
    expect((await credential(rig, 'svc')).headers['gmsa-stale']).toBe(stale.headers['gmsa-stale'])
    for (const none of [await rig.provider('late'), await credential(rig, 'late')]) {
      expect(none).toMatchObject({ status: 503, headers: { 'gmsa-error': 'STORE_UNAVAILABLE' } })
      expect(Number(none.headers['retry-after'])).toBeGreaterThanOrEqual(1)
      expect(Number(none.headers['retry-after'])).toBeLessThanOrEqual(5)
    }
    expect(clock.monotonic(), 'nobody waited').toBe(started)
    expect(await rig.provider('spare')).toMatchObject({ status: 200 })

    const ready = await rig.admin('/readyz?verbose')
    expect(ready.status).toBe(200)
    expect(ready.body).toContain(`[-]provider-vault failed: ${code}\n`)
    expect(ready.body).toContain('[+]provider-other ok\n')
    expect(await metric(rig, 'provider_up', { provider: 'vault' })).toBe(0)
    expect(await metric(rig, 'provider_up', { provider: 'other' })).toBe(1)
    expect(await metric(rig, 'account_stale', { account: 'svc' })).toBe(1)
    expect(await metric(rig, 'cache_reads_total', { result: 'stale' })).toBe(2)
    expect(rig.lines.filter(({ message }) => message === 'store is left alone')).toMatchObject([
      { level: 'warn', provider: 'vault', code },
    ])

    await clock.advance(300 * SECOND)
    const old = await rig.provider('svc')
    expect(old).toMatchObject({ status: 503, body: '' })
    expect(old.headers).not.toHaveProperty('gmsa-stale')
    expect(Number(old.headers['retry-after'])).toBeGreaterThanOrEqual(1)

    release()
    // The trial under way and the rest after it, in the worst case.
    await clock.advance(11 * SECOND)
    for (const account of ['svc', 'late']) {
      const fresh = await rig.provider(account)
      expect(fresh).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
      expect(fresh.headers).not.toHaveProperty('gmsa-stale')
    }
    expect((await rig.admin('/readyz?verbose')).body).toContain('[+]provider-vault ok\n')
    expect(await metric(rig, 'account_stale', { account: 'svc' })).toBe(0)
  })

  test('a time that the store names is passed on, and kept for that account alone', async () => {
    const { clock, store, rig } = await setUp()
    await using _rig = rig
    store.fail(new GmsaError('STORE_UNAVAILABLE', 'throttled', { retryAfter: 17 }))
    expect((await rig.provider('late')).headers['retry-after']).toBe('17')
    const reads = store.reads.length
    store.fail(undefined)
    await clock.advance(7 * SECOND)
    expect(await rig.provider('late')).toMatchObject({ status: 503, headers: { 'retry-after': '10' } })
    expect(store.reads).toHaveLength(reads)
    expect(await rig.provider('svc')).toMatchObject({ status: 200 })
    await clock.advance(10 * SECOND)
    expect(await rig.provider('late')).toMatchObject({ status: 200 })
  })
})

test('a folder that goes and comes back, with the real file store and the real clock', async () => {
  await using rig = await makeRig({ config: { cache: { maxAge: 0, serveStale: 3_600_000 } } })
  const folder = join(rig.directory, 'secrets')
  expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
  await rename(folder, `${folder}-gone`)
  const isStale = async () => {
    const { status, body, headers } = await rig.provider('test-secret')
    expect({ status, body }).toEqual({ status: 200, body: CREDENTIAL_BODY })
    return headers['gmsa-stale'] !== undefined
  }
  await eventually(isStale, 'an older answer')
  const leftAlone = () => rig.lines.some(({ message }) => message === 'store is left alone')
  await eventually(async () => (await isStale()) && leftAlone(), 'the store is left alone')
  expect((await rig.admin('/readyz?verbose')).body).toContain('[-]provider-local failed: STORE_UNAVAILABLE\n')
  await rename(`${folder}-gone`, folder)
  await eventually(async () => !(await isStale()), 'a fresh answer')
  const isReady = async () => (await rig.admin('/readyz?verbose')).body.includes('[+]provider-local ok\n')
  await eventually(isReady, 'the store is named as well')
})

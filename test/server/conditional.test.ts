import { describe, expect, test } from 'vitest'
import type { ClientRule } from '../../src/broker/policy.ts'
import { rolloverOf } from '../../src/gmsa/cycle.ts'
import { type MovableClock, movableClock } from '../fakes/clock.ts'
import { type FakeDirectory, fakeDirectory } from '../fakes/directory.ts'
import { CREDENTIAL, type MemoryStore, memoryStore } from '../fakes/memory-provider.ts'
import { makePki } from '../fakes/pki.ts'
import { makeRig, type Reply, type Rig, type RigOptions } from '../fakes/rig.ts'
import { eventually, put } from './wire.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const CYCLE = 10 * HOUR
const ROLLOVER = rolloverOf(1)
/** 1601-01-01 lies a whole number of cycles and so many ms before 1970. */
const PHASE = 11_644_473_600_000 % CYCLE
/** The last edge of a ten-hour cycle: the certificates are good then and for the hours after. */
const EDGE = Date.now() - ((Date.now() + PHASE) % CYCLE) + CYCLE
const ALL: ClientRule = {
  match: { commonName: '*' },
  allow: ['credential', 'keys', 'keytab', 'managed-password'],
  accounts: ['*'],
}
const KEYTAB = '/v1/accounts/web01/keytab'

interface Setup {
  readonly rig: Rig
  readonly clock: MovableClock
  readonly directory: FakeDirectory
  /** Holds the account `svc`. */
  readonly store: MemoryStore
}

/** The service half an hour before a change, with its clock in our hands. */
async function setUp(options: RigOptions = {}): Promise<Setup> {
  const clock = movableClock(EDGE - 30 * MINUTE)
  const directory = fakeDirectory({ clock, created: EDGE - 10 * ROLLOVER, kvno: 7 })
  const store = memoryStore('memory')
  store.put('svc', CREDENTIAL)
  const rig = await makeRig({
    clients: [ALL],
    clock,
    providers: new Map([
      ['ad', directory.provider],
      ['memory', store.provider],
    ]),
    ...options,
    config: {
      accounts: new Map([
        ['web01', { provider: 'ad', options: {} }],
        ['sql01', { provider: 'ad', options: {} }],
        ['svc', { provider: 'memory', options: {} }],
      ]),
      ...options.config,
    },
  })
  return { rig, clock, directory, store }
}

/** Sends a request that is to be held; the answer comes later. */
function held(rig: Rig, path: string, etag: string, wait: string, signal?: AbortSignal): Promise<Reply> {
  const answer = rig.get(path, { headers: { 'if-none-match': etag, prefer: wait }, ...(signal && { signal }) })
  answer.catch(() => {})
  return answer
}

const isPending = async (answer: Promise<Reply>) =>
  (await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 80, 'pending'))])) === 'pending'

const etagOf = async (rig: Rig, path: string) => String((await rig.get(path)).headers['etag'])

describe('If-None-Match', () => {
  test.each(['keys', 'keytab', 'keytab?for=initiator', 'managed-password'])(
    '304 for %s that the client has',
    async (kind) => {
      await using rig = (await setUp()).rig
      const path = `/v1/accounts/web01/${kind}`
      const first = await rig.get(path)
      const etag = String(first.headers['etag'])
      expect(etag).toMatch(/^"[\w-]{27}"$/)
      for (const field of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
        const again = await rig.get(path, { headers: { 'if-none-match': field } })
        expect(again, field).toMatchObject({ status: 304, body: '' })
        expect(again.headers).toMatchObject({
          etag,
          'cache-control': 'no-store',
          'gmsa-refresh-at': first.headers['gmsa-refresh-at'],
        })
        expect(again.headers).not.toHaveProperty('preference-applied')
      }
      expect(await rig.get(path, { headers: { 'if-none-match': '"x"' } })).toMatchObject({ status: 200 })
    },
  )

  test('a credential has a tag that changes with the password', async () => {
    const { rig, store } = await setUp()
    await using _rig = rig
    const path = '/v1/accounts/svc/credential'
    const etag = await etagOf(rig, path)
    store.announce()
    expect(await rig.get(path, { headers: { 'if-none-match': etag } })).toMatchObject({ status: 304 })
    store.put('svc', { ...CREDENTIAL, password: 'another' })
    store.announce()
    const changed = await rig.get(path, { headers: { 'if-none-match': etag } })
    expect(changed).toMatchObject({ status: 200 })
    expect(changed.body).toContain('another')
  })

  test('/provider ignores it', async () => {
    await using rig = (await setUp()).rig
    const reply = await rig.provider('svc', { headers: { 'if-none-match': '*', prefer: 'wait=10' } })
    expect(reply).toMatchObject({ status: 200 })
    expect(reply.headers).not.toHaveProperty('etag')
  })
})

describe('Prefer: wait', () => {
  test('holds a 304 until the window opens, and sends the new keytab then', async () => {
    const { rig, clock } = await setUp()
    await using _rig = rig
    const etag = await etagOf(rig, KEYTAB)
    await clock.advance(24 * MINUTE)
    const answer = held(rig, KEYTAB, etag, 'wait=300')
    expect(await isPending(answer)).toBe(true)
    await clock.advance(75_000)
    expect(await answer).toMatchObject({ status: 200 })
    const { headers } = await answer
    expect(headers['preference-applied']).toBe('wait=300')
    expect(headers['etag']).not.toBe(etag)
    expect(rig.lines.findLast(({ route }) => String(route).endsWith('keytab'))).toMatchObject({
      status: 200,
      kvno: expect.any(Number),
      heldMs: expect.any(Number),
    })
  })

  test('ends in 304 when the time is up, of which more than 300 s are not granted', async () => {
    const { rig, clock } = await setUp()
    await using _rig = rig
    const etag = await etagOf(rig, KEYTAB)
    for (const [asked, granted] of [
      [20, 20],
      [9_999, 300],
    ] as const) {
      const answer = held(rig, KEYTAB, etag, `respond-async, wait=${asked}`)
      expect(await isPending(answer)).toBe(true)
      await clock.advance((granted - 1) * 1_000)
      expect(await isPending(answer)).toBe(true)
      await clock.advance(1_000)
      const { status, headers, body } = await answer
      expect({ status, body, applied: headers['preference-applied'] }).toEqual({
        status: 304,
        body: '',
        applied: `wait=${granted}`,
      })
    }
  })

  test.each([{}, { 'if-none-match': '"x"' }, { 'if-none-match': '*' }])('does not hold with %j', async (headers) => {
    await using rig = (await setUp()).rig
    const reply = await rig.get(KEYTAB, { headers: { ...headers, prefer: 'wait=300' } })
    expect(reply.headers).not.toHaveProperty('preference-applied')
  })

  test('wakes for a credential that the store announces', async () => {
    const { rig, store } = await setUp()
    await using _rig = rig
    const path = '/v1/accounts/svc/credential'
    const answer = held(rig, path, await etagOf(rig, path), 'wait=300')
    expect(await isPending(answer)).toBe(true)
    store.announce('another')
    expect(await isPending(answer)).toBe(true)
    store.put('svc', { ...CREDENTIAL, password: 'another' })
    store.announce('svc')
    expect((await answer).body).toContain('another')
  })

  test('an account that has gone meanwhile is told so', async () => {
    const { rig, store } = await setUp()
    await using _rig = rig
    const path = '/v1/accounts/svc/credential'
    const answer = held(rig, path, await etagOf(rig, path), 'wait=300')
    await isPending(answer)
    store.remove('svc')
    store.announce('svc')
    expect(await answer).toMatchObject({ status: 404 })
  })

  test('four requests of a client may be held, a fifth is refused, and one that goes away makes room', async () => {
    const { rig } = await setUp()
    await using _rig = rig
    const etag = await etagOf(rig, KEYTAB)
    const leaving = new AbortController()
    const first = held(rig, KEYTAB, etag, 'wait=300', leaving.signal)
    const others = [1, 2, 3].map(() => held(rig, KEYTAB, etag, 'wait=300'))
    for (const answer of [first, ...others]) expect(await isPending(answer)).toBe(true)
    expect(await held(rig, KEYTAB, etag, 'wait=300')).toMatchObject({
      status: 429,
      headers: { 'gmsa-error': 'RATE_LIMITED', 'retry-after': '1' },
    })
    expect(await rig.get(KEYTAB)).toMatchObject({ status: 200 })
    leaving.abort()
    await expect(first).rejects.toThrow()
    await eventually(() => isPending(held(rig, KEYTAB, etag, 'wait=300')), 'a place for another')
    await rig.service.stop()
  })

  test('a client whose certificate was revoked meanwhile gets nothing new', async () => {
    const pki = await makePki()
    const nextUpdate = new Date(EDGE + 20 * HOUR)
    const { rig, clock } = await setUp({ pki, crl: await pki.ca.crl({ nextUpdate }) })
    await using _rig = rig
    const etag = await etagOf(rig, KEYTAB)
    await clock.advance(24 * MINUTE)
    const answer = held(rig, KEYTAB, etag, 'wait=300')
    expect(await isPending(answer)).toBe(true)
    await put(`${rig.directory}/ca/ca.crl`, await pki.ca.crl({ nextUpdate, revoked: [pki.client] }))
    await rig.service.reloadTls()
    await clock.advance(75_000)
    const { status, body, headers } = await answer
    expect({ status, body, code: headers['gmsa-error'], connection: headers['connection'] }).toEqual({
      status: 403,
      body: '',
      code: 'CERTIFICATE_REFUSED',
      connection: 'close',
    })
    expect(headers).not.toHaveProperty('etag')
  })

  test('all end at once when the service stops', async () => {
    const { rig } = await setUp({ config: { shutdown: { drainDelay: 2_000, grace: 5_000 } } })
    await using _rig = rig
    const etag = await etagOf(rig, KEYTAB)
    const answer = held(rig, KEYTAB, etag, 'wait=300')
    expect(await isPending(answer)).toBe(true)
    const started = performance.now()
    const stopped = rig.service.stop()
    const { status, headers } = await answer
    expect(performance.now() - started).toBeLessThan(1_000)
    expect({ status, connection: headers['connection'] }).toEqual({ status: 304, connection: 'close' })
    await stopped
  })
})

import { once } from 'node:events'
import { createSecureServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { encodePath, openStoreHttp, parseRetryAfter, type StoreHttp, statusError } from '../../src/providers/http.ts'
import { printed } from '../contract/printed.ts'
import { failure, rejection } from '../contract/provider-contract.ts'
import { makeCa } from '../fakes/pki.ts'
import { type Fault, type StandIn, startStandIn } from '../fakes/stand-in.ts'

const SECRET = 'pa55-Kanari'
let server: StandIn
let http: StoreHttp
let ca: string

beforeEach(async () => {
  server = await startStandIn(({ path }) => ({ status: path === '/none' ? 404 : 200, body: { path, secret: SECRET } }))
  ca = server.ca
  http = openStoreHttp('store', { address: server.address, tls: async () => ({ ca }), clock: systemClock })
})
afterEach(async () => {
  await http.close()
  await server[Symbol.asyncDispose]()
})

const get = (path = '/one', signal = AbortSignal.timeout(5_000)) => http.request({ path, signal })

describe('an answer', () => {
  test('has its status and its JSON', async () => {
    expect(await get()).toEqual({ status: 200, body: { path: '/one', secret: SECRET } })
    expect(await get('/none')).toMatchObject({ status: 404 })
  })

  test('that is not JSON has no body', async () => {
    server.fail({ status: 502, body: '<html>', headers: { 'retry-after': '3' } })
    expect(await get()).toEqual({ status: 502, retryAfter: 3, body: undefined })
  })

  test('is not looked for elsewhere: a redirect is an answer like any other', async () => {
    server.fail({ status: 307, headers: { location: '/two' } })
    expect(await get()).toMatchObject({ status: 307 })
    expect(server.seen.map(({ path }) => path)).toEqual(['/one'])
  })

  test('to a body of ours: it is sent as JSON', async () => {
    await http.request({ method: 'POST', path: '/login', body: { role: 'x' }, signal: AbortSignal.timeout(5_000) })
    expect(server.seen.at(-1)).toMatchObject({ method: 'POST', body: '{"role":"x"}' })
    expect(server.seen.at(-1)?.headers['content-type']).toBe('application/json')
  })
})

describe('no whole answer', () => {
  test.each<[Fault]>([['truncated'], ['oversized'], ['reset']])(
    '(%s) is an outage, and shows nothing',
    async (fault) => {
      server.fail(fault)
      const error = await failure(get(), 'STORE_UNAVAILABLE')
      expect(printed(error)).not.toContain(SECRET)
      server.fail()
      expect(await get()).toMatchObject({ status: 200 })
    },
  )

  test('(a head that is no HTTP) keeps nothing of what came', async () => {
    server.fail({ status: 200, headers: { 'transfer-encoding': 'chunked', 'content-length': '3' }, body: SECRET })
    const outcome = await get().catch((error: unknown) => error)
    expect(printed(outcome)).not.toContain(SECRET)
  })

  test('(none at all) lasts as long as the signal', async () => {
    server.fail('hang')
    const reason = new Error('gave up')
    const controller = new AbortController()
    const waiting = rejection(get('/one', controller.signal))
    setTimeout(() => controller.abort(reason), 50)
    expect(await waiting).toBe(reason)
  })

  test.each([
    ['refused', () => server.stop()],
    ['name-mismatch', () => server.show('wrong-name')],
    ['unknown-ca', () => server.show('other-ca')],
  ])('(%s) says why', async (reason, spoil) => {
    await get()
    await spoil()
    expect(await failure(get(), 'STORE_UNAVAILABLE')).toMatchObject({ reason })
  })

  test('(unknown name) says why', async () => {
    const lost = openStoreHttp('store', { address: 'https://nowhere.invalid', clock: systemClock })
    const error = await failure(lost.request({ path: '/', signal: AbortSignal.timeout(10_000) }), 'STORE_UNAVAILABLE')
    expect(error.reason).toBe('not-found')
    await lost.close()
  })
})

test('a connection that ends just as it is used is no outage: a read is repeated, once, and nothing else is', async () => {
  let left = 1
  const ends = () => left-- > 0
  server.fail('reset', ends)
  expect(await get()).toMatchObject({ status: 200 })
  left = 2
  await failure(get(), 'STORE_UNAVAILABLE')
  left = 1
  const post = http.request({ method: 'POST', path: '/', body: {}, signal: AbortSignal.timeout(5_000) })
  await failure(post, 'STORE_UNAVAILABLE')
})

describe('the certificates', () => {
  test('are read for each request: a new CA needs no restart', async () => {
    await get()
    const next = await server.rotateCa()
    expect(await failure(get(), 'STORE_UNAVAILABLE')).toMatchObject({ reason: 'unknown-ca' })
    ca = next
    expect(await get()).toMatchObject({ status: 200 })
  })

  test('connections are kept while they stay the same, and not one request longer', async () => {
    const authority = await makeCa()
    const first = await authority.issue()
    const second = await authority.issue()
    let shown = first
    await using store = await startStandIn(() => ({ status: 200, body: {} }), { clientCa: authority })
    const tls = async () => ({ ca: store.ca, cert: shown.certificate, key: shown.key })
    const client = openStoreHttp('store', { address: store.address, tls, clock: systemClock })
    const ask = () => client.request({ path: '/', signal: AbortSignal.timeout(5_000) })
    await ask()
    shown = second
    await ask()
    expect(store.seen.map(({ clientSerial }) => clientSerial)).toEqual([first, second].map(({ serial }) => serial))
    await client.close()
  })

  test('that change while requests are under way spoil none of them', async () => {
    const all = Array.from({ length: 40 }, (_, index) => {
      ca = server.ca + '\n'.repeat(index % 3)
      return get()
    })
    expect((await Promise.all(all)).every(({ status }) => status === 200)).toBe(true)
  })

  test.each(['', 'no PEM at all', '-----BEGIN PRIVATE KEY-----'])(
    'a file of the CA that holds none (%j) is no permission to trust the public ones',
    async (text) => {
      ca = text
      const error = await failure(get(), 'STORE_UNAVAILABLE')
      expect(error).toMatchObject({ reason: 'unknown-ca', message: expect.stringContaining('holds no certificate') })
      expect(server.seen).toEqual([])
    },
  )

  test('may be for another name than that of the address, where that name is given', async () => {
    await server.show('wrong-name')
    const tls = async () => ({ ca, servername: 'other.test' })
    const client = openStoreHttp('store', { address: server.address, tls, clock: systemClock })
    expect(await client.request({ path: '/', signal: AbortSignal.timeout(5_000) })).toMatchObject({ status: 200 })
    await client.close()
  })

  test('are shown by those who have one, and whoever has none is not turned away for it', async () => {
    const [authority, stranger] = await Promise.all([makeCa(), makeCa()])
    await using store = await startStandIn(() => ({ status: 200, body: {} }), { clientCa: authority })
    const foreign = await stranger.issue()
    for (const shown of [{}, { cert: foreign.certificate, key: foreign.key }]) {
      const tls = async () => ({ ca: store.ca, ...shown })
      const client = openStoreHttp('store', { address: store.address, tls, clock: systemClock })
      await client.request({ path: '/', signal: AbortSignal.timeout(5_000) })
      expect(store.seen.at(-1)).not.toHaveProperty('clientSerial')
      await client.close()
    }
  })
})

test('a server that offers HTTP/2 as well is spoken to in HTTP/1.1', async () => {
  const authority = await makeCa()
  const { certificate: cert, key } = await authority.issueServer()
  const store = createSecureServer({ cert, key, allowHTTP1: true }, ({ httpVersion }, answer) => {
    answer.end(JSON.stringify({ httpVersion }))
  })
  await once(store.listen(0, '127.0.0.1'), 'listening')
  const { port } = store.address() as AddressInfo
  const tls = async () => ({ ca: authority.certificate })
  const client = openStoreHttp('store', { address: `https://localhost:${port}`, tls, clock: systemClock })
  const { body } = await client.request({ path: '/', signal: AbortSignal.timeout(5_000) })
  expect(body).toEqual({ httpVersion: '1.1' })
  await client.close()
  store.close()
})

describe('an address', () => {
  test.each(['ftp://x', 'store.example.com', 'http://store.example.com', 'https://user:word@x', 'https://x/?q', ''])(
    '%j is refused',
    (address) => {
      expect(() => openStoreHttp('vault', { address, clock: systemClock })).toThrow(/^providers\.vault: expected/)
    },
  )

  test.each(['http://127.0.0.1:1', 'http://[::1]:1', 'http://localhost', 'https://x/base/'])(
    '%j is taken',
    (address) => {
      expect(() => openStoreHttp('vault', { address, clock: systemClock })).not.toThrow()
    },
  )

  test('may have a path, which each request then starts with', async () => {
    const client = openStoreHttp('s', {
      address: `${server.address}/base/`,
      tls: async () => ({ ca }),
      clock: systemClock,
    })
    await client.request({ path: '/one', signal: AbortSignal.timeout(5_000) })
    expect(server.seen.at(-1)?.path).toBe('/base/one')
    await client.close()
  })
})

describe('a path', () => {
  test('stays below where it stands, whatever the names are', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', minLength: 1 }), { minLength: 1 }), (names) => {
        const usable = names.filter((name) => name.isWellFormed())
        const { pathname, search, hash } = new URL(`https://x/v1/kv${encodePath(...usable)}`)
        expect(pathname.startsWith('/v1/kv')).toBe(true)
        expect([search, hash]).toEqual(['', ''])
      }),
    )
  })

  test.each([
    [['a/b', 'c d'], '/a/b/c%20d'],
    [['a?x=1#y'], '/a%3Fx%3D1%23y'],
  ])('%j is %s', (names, path) => {
    expect(encodePath(...names)).toBe(path)
  })
})

describe('Retry-After', () => {
  const now = Date.parse('2026-11-23T10:00:00Z')
  test.each([
    ['7', 7],
    ['0', 0],
    ['99999', 3600],
    ['Mon, 23 Nov 2026 10:00:30 GMT', 30],
    ['Mon, 23 Nov 2026 09:00:00 GMT', 0],
    ['soon', undefined],
    ['-1', undefined],
    [undefined, undefined],
  ])('%s is %s s', (value, seconds) => {
    expect(parseRetryAfter(value, now)).toBe(seconds)
  })
})

test.each([
  [401, 'STORE_DENIED', 'not-permitted'],
  [403, 'STORE_DENIED', 'not-permitted'],
  [404, 'ACCOUNT_NOT_FOUND', undefined],
  [418, 'STORE_UNAVAILABLE', 'protocol'],
  [429, 'STORE_UNAVAILABLE', undefined],
  [503, 'STORE_UNAVAILABLE', undefined],
])('status %i is %s', (status, code, reason) => {
  const error = statusError({ status, retryAfter: 5, body: { secret: SECRET } }, 'store', 'secret one')
  expect(error).toMatchObject({ code, reason })
  expect(printed(error)).not.toContain(SECRET)
})

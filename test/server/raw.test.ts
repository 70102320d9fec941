import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { CREDENTIAL_BODY, credential, expectBare, GOOD, LAST, makeStore, metric, openWire } from './wire.ts'

const HOST = 'Host: localhost\r\n'
const get = (target: string, fields = '') => `GET ${target} HTTP/1.1\r\n${HOST}${fields}\r\n`
const provider = (account: string, fields = '') => get('/provider', `object: ${account}\r\n${fields}`)

/** Sends the bytes; after their answer comes the end of the connection, or a good answer to one more request. */
async function expectBareFor(rig: Rig, bytes: string, status: number, code: string): Promise<void> {
  using wire = await openWire(rig)
  wire.write(bytes)
  expectBare(await wire.next(bytes.split(' ')[0]), status, code)
  if (!(await wire.endsWithin(20))) wire.write(LAST)
  const rest = await wire.rest()
  if (rest !== '') expect(rest).toMatch(new RegExp(`^HTTP/1.1 200 OK\r\n[^{}]*\r\n\r\n${CREDENTIAL_BODY}$`))
}

describe('what is no request for a credential', () => {
  let rig: Rig
  beforeAll(async () => {
    const names = ['test-secret', 'malformed', 'slow']
    const store = makeStore(async (name) => {
      if (name === 'slow') await new Promise((resolve) => setTimeout(resolve, 80))
      if (name === 'malformed') throw new GmsaError('MATERIAL_MALFORMED', 'no password')
      return credential()
    })
    rig = await makeRig({
      providers: new Map([['local', store]]),
      config: {
        accounts: new Map(names.map((name) => [name, { provider: 'local', options: {} }])),
        timeouts: { store: 1_000, request: 600 },
        cache: { maxAge: 0, serveStale: 0 },
        limits: { requestsPerSecond: 10_000 },
      },
    })
  })
  afterAll(() => rig[Symbol.asyncDispose]())

  test.each([
    ['a missing object header', get('/provider'), 400, 'REQUEST_INVALID'],
    ['an empty object header', provider(''), 400, 'REQUEST_INVALID'],
    ['an object header of 8 KiB', provider('a'.repeat(8192)), 404, 'REQUEST_INVALID'],
    ['an object header that is no name', provider('../x'), 404, 'REQUEST_INVALID'],
    ['an unknown account', provider('unknown'), 404, 'ACCOUNT_NOT_FOUND'],
    ['a malformed record', provider('malformed'), 404, 'MATERIAL_MALFORMED'],
    ['an unknown path', get('/nothing'), 404, 'ROUTE_NOT_FOUND'],
    ['the path with a slash', get('/provider/', 'object: test-secret\r\n'), 404, 'ROUTE_NOT_FOUND'],
    ['a doubled slash', get('//provider', 'object: test-secret\r\n'), 404, 'ROUTE_NOT_FOUND'],
    ['an asterisk', get('*', 'object: test-secret\r\n'), 404, 'ROUTE_NOT_FOUND'],
    ['OPTIONS *', `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`, 404, 'ROUTE_NOT_FOUND'],
    ['a long path', get(`/${'p'.repeat(8000)}`), 404, 'ROUTE_NOT_FOUND'],
    ['bad percent-encoding', get('/%zz'), 400, 'REQUEST_INVALID'],
    ['bad percent-encoding under /v1/', get('/v1/accounts/%zz/credential'), 400, 'REQUEST_INVALID'],
    ['another method', `PROPFIND /provider HTTP/1.1\r\n${HOST}object: test-secret\r\n\r\n`, 404, 'ROUTE_NOT_FOUND'],
    ['a missing Host', 'GET /provider HTTP/1.1\r\nobject: test-secret\r\n\r\n', 400, 'REQUEST_INVALID'],
    ['a second Host', provider('test-secret', HOST), 400, 'REQUEST_INVALID'],
    ['a second Host, of another name', provider('test-secret', 'hOST: other\r\n'), 400, 'REQUEST_INVALID'],
    ['a bad Expect', provider('test-secret', 'Expect: a-miracle\r\n'), 417, 'REQUEST_INVALID'],
    ['a small body', `${provider('test-secret', 'Content-Length: 3\r\n')}abc`, 413, 'REQUEST_TOO_LARGE'],
    [
      'a large body',
      provider('test-secret', 'Content-Length: 300000\r\n') + 'a'.repeat(300_000),
      413,
      'REQUEST_TOO_LARGE',
    ],
    [
      'a chunked body',
      `${provider('test-secret', 'Transfer-Encoding: chunked\r\n')}1\r\na\r\n0\r\n\r\n`,
      413,
      'REQUEST_TOO_LARGE',
    ],
    [
      'a JSON body',
      `${provider('test-secret', 'Content-Type: application/json\r\nContent-Length: 2\r\n')}{}`,
      413,
      'REQUEST_TOO_LARGE',
    ],
    ['a POST with a body', `POST /provider HTTP/1.1\r\n${HOST}Content-Length: 3\r\n\r\nabc`, 404, 'ROUTE_NOT_FOUND'],
    ['no HTTP', 'hello\r\n\r\n', 400, 'REQUEST_INVALID'],
    ['a malformed request line', 'GET /provider\r\n\r\n', 400, 'REQUEST_INVALID'],
    ['an unknown version', 'GET /provider HTTP/3.7\r\n\r\n', 400, 'REQUEST_INVALID'],
    ['a control character in a header', provider('a\u0001b'), 400, 'REQUEST_INVALID'],
    ['a NUL in a header', provider('a\0b'), 400, 'REQUEST_INVALID'],
    ['a header without a colon', get('/provider', 'object\r\n'), 400, 'REQUEST_INVALID'],
    ['a space before the colon', get('/provider', 'object : test-secret\r\n'), 400, 'REQUEST_INVALID'],
    ['two lengths', provider('test-secret', 'Content-Length: 0\r\nContent-Length: 5\r\n'), 400, 'REQUEST_INVALID'],
    ['a bad length', provider('test-secret', 'Content-Length: x\r\n'), 400, 'REQUEST_INVALID'],
    ['headers of 20 KiB', get('/provider', `x: ${'a'.repeat(20_000)}\r\n`), 431, 'REQUEST_TOO_LARGE'],
    ['an account of 64 KiB', provider('a'.repeat(65_536)), 431, 'REQUEST_TOO_LARGE'],
    ['a path of 64 KiB', get(`/${'p'.repeat(65_536)}`), 431, 'REQUEST_TOO_LARGE'],
    ['CONNECT', `CONNECT localhost:443 HTTP/1.1\r\n${HOST}\r\n`, 404, 'ROUTE_NOT_FOUND'],
  ])('%s is answered without body', async (_what, bytes, status, code) => {
    await expectBareFor(rig, bytes, status, code)
  })

  test.each(['POST', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'])(
    '%s is answered without body',
    async (method) => {
      for (const path of ['/provider', '/', '/nothing']) {
        const bytes = `${method} ${path} HTTP/1.1\r\n${HOST}object: test-secret\r\nContent-Length: 0\r\n\r\n`
        await expectBareFor(rig, bytes, 404, 'ROUTE_NOT_FOUND')
      }
    },
  )

  test('an upgrade is not taken up: the request is answered as any other', async () => {
    using wire = await openWire(rig)
    wire.write(provider('test-secret', 'Connection: upgrade\r\nUpgrade: websocket\r\n'))
    expect(await wire.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    wire.write(get('/nothing', 'Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n'))
    expectBare(await wire.next(), 404, 'ROUTE_NOT_FOUND')
  })

  test.each([
    ['bad chunking', 'zz\r\nabc\r\n'],
    ['a chunk extension that never ends', `1;${'x'.repeat(20_000)}\r\na\r\n0\r\n\r\n`],
    ['bad chunking that comes later', '1\r\na\r\nzz'],
  ])('%s in a body ends the connection after the one answer', async (_what, body) => {
    using wire = await openWire(rig)
    wire.write(provider('test-secret', 'Transfer-Encoding: chunked\r\n') + body)
    expectBare(await wire.next(), 413, 'REQUEST_TOO_LARGE')
    expect(await wire.rest()).toBe('')
    using other = await openWire(rig)
    other.write(`PUT /nothing HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n${body}`)
    expectBare(await other.next(), 404, 'ROUTE_NOT_FOUND')
    expect(await other.rest()).toBe('')
  })

  test('Expect: 100-continue gets its interim answer and then the real one, without body', async () => {
    using wire = await openWire(rig)
    wire.write(provider('test-secret', 'Expect: 100-continue\r\nContent-Length: 3\r\n'))
    const first = await wire.next()
    const answer = first.status === 100 ? await wire.next() : first
    expectBare(answer, 413, 'REQUEST_TOO_LARGE')
  })

  test('headers that never end are answered 408, and counted', async () => {
    using wire = await openWire(rig)
    wire.write('GET /provider HTTP/1.1\r\nobject: test')
    expectBare(await wire.next(), 408, 'REQUEST_TIMEOUT')
    expect(await wire.rest()).toBe('')
    expect(await metric(rig, 'requests_total', { code: '408', reason: 'REQUEST_TIMEOUT' })).toBeGreaterThan(0)
  })

  test('a body that never ends gets its answer, and the connection ends', async () => {
    using wire = await openWire(rig)
    wire.write(provider('test-secret', 'Content-Length: 10\r\n'))
    expectBare(await wire.next(), 413, 'REQUEST_TOO_LARGE')
    expect(await wire.rest()).toBe('')
  })

  test('good requests before a bad one on the same connection are all answered, in order', async () => {
    const bads = [
      ['no HTTP\r\n\r\n', 400, 'REQUEST_INVALID'],
      [`CONNECT x:1 HTTP/1.1\r\n${HOST}\r\n`, 404, 'ROUTE_NOT_FOUND'],
    ] as const
    for (const [bad, status, code] of bads) {
      using wire = await openWire(rig)
      wire.write(provider('slow') + GOOD + get('/nothing') + bad)
      expect(await wire.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
      expect(await wire.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
      expectBare(await wire.next(), 404, 'ROUTE_NOT_FOUND')
      expectBare(await wire.next(), status, code)
      expect(await wire.rest()).toBe('')
    }
  })

  test('a good request is answered before the bad body of the next one ends the connection', async () => {
    using wire = await openWire(rig)
    wire.write(`${provider('slow')}${provider('test-secret', 'Transfer-Encoding: chunked\r\n')}zz\r\n`)
    expect(await wire.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    expectBare(await wire.next(), 413, 'REQUEST_TOO_LARGE')
    expect(await wire.rest()).toBe('')
  })

  test('HTTP/1.0 is answered, with or without Host, and the connection ends', async () => {
    for (const fields of ['', HOST]) {
      using wire = await openWire(rig)
      wire.write(`GET /provider HTTP/1.0\r\n${fields}object: test-secret\r\n\r\n`)
      expect(await wire.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
      expect(await wire.rest()).toBe('')
    }
  })

  test('a target in absolute form is taken by its path; its errors have no body either', async () => {
    using wire = await openWire(rig)
    wire.write(get('http://localhost/provider', 'object: test-secret\r\n'))
    expect(await wire.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    wire.write(get('http://localhost/provider', 'object: unknown\r\n'))
    expectBare(await wire.next(), 404, 'ACCOUNT_NOT_FOUND')
    wire.write(get('/provider?next=/v1/', 'object: unknown\r\n'))
    expectBare(await wire.next(), 404, 'ACCOUNT_NOT_FOUND')
    wire.write(get('/%70rovider', 'object: unknown\r\n'))
    expectBare(await wire.next(), 404, 'ACCOUNT_NOT_FOUND')
  })

  test('of several object headers the first holds', async () => {
    using wire = await openWire(rig)
    wire.write(get('/provider', 'object: test-secret\r\nobject: unknown\r\n'))
    expect(await wire.next()).toMatchObject({ status: 200 })
    wire.write(get('/provider', 'object: unknown\r\nobject: test-secret\r\n'))
    expectBare(await wire.next(), 404, 'ACCOUNT_NOT_FOUND')
    wire.write(get('/provider', 'object:\r\nobject: test-secret\r\n'))
    const answer = await wire.next()
    expect([400, 404]).toContain(answer.status)
    expect(answer.body).toBe('')
  })

  test('a thousand broken requests leave the service as it was', async () => {
    const random = (length: number) => Array.from({ length }, () => String.fromCharCode(Math.random() * 256)).join('')
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        Array.from({ length: 50 }, async (_, index) => {
          using wire = await openWire(rig)
          wire.write(Buffer.from(index % 2 ? random(200) : `${GOOD.slice(0, index)}${random(20)}\r\n\r\n`, 'latin1'))
          if (await wire.endsWithin(60))
            expect(await wire.rest()).toMatch(/^$|^HTTP\/1.1 4\d\d [^{}]*Content-Length: 0/)
        }),
      )
    }
    expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
  })
})

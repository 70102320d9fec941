import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { CREDENTIAL_BODY, credential, LAST, makeStore, openWire } from './wire.ts'

const HOST = 'Host: localhost\r\n'

describe('under /v1/', () => {
  let rig: Rig
  beforeAll(async () => {
    const store = makeStore(async (name) => {
      if (name === 'malformed') throw new GmsaError('MATERIAL_MALFORMED', 'no password')
      return credential()
    })
    const names = ['test-secret', 'malformed']
    rig = await makeRig({
      providers: new Map([['local', store]]),
      config: { accounts: new Map(names.map((name) => [name, { provider: 'local', options: {} }])) },
    })
  })
  afterAll(() => rig[Symbol.asyncDispose]())

  async function expectProblem(path: string, status: number, code: string, method = 'GET'): Promise<void> {
    const { status: got, headers, body } = await rig.get(path, { method })
    expect(got).toBe(status)
    expect(headers['content-type']).toMatch(/^application\/problem\+json(; charset=utf-8)?$/)
    expect(headers['cache-control']).toBe('no-store')
    const problem = JSON.parse(body)
    expect(problem).toMatchObject({
      status,
      code,
      type: 'about:blank',
      instance: expect.stringMatching(/^[\w-]+-\d+$/),
    })
    expect(rig.lines.some(({ id }) => id === problem.instance)).toBe(true)
  }

  test('errors are problem documents that name the code and the request', async () => {
    await expectProblem('/v1/accounts/unknown/credential', 404, 'ACCOUNT_NOT_FOUND')
    await expectProblem('/v1/accounts/malformed/credential', 502, 'MATERIAL_MALFORMED')
    await expectProblem('/v1/nothing', 404, 'ROUTE_NOT_FOUND')
    await expectProblem('/v1/accounts/test-secret/credential/', 404, 'ROUTE_NOT_FOUND')
  })

  test.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'])(
    '%s on a known path is answered 405',
    async (method) => {
      await expectProblem('/v1/accounts', 405, 'METHOD_NOT_ALLOWED', method)
      await expectProblem('/v1/accounts/test-secret/credential', 405, 'METHOD_NOT_ALLOWED', method)
      const { headers } = await rig.get('/v1/accounts', { method })
      expect(headers['allow']).toBe('GET')
    },
  )

  test.each([
    ['of JSON that is broken', 'Content-Type: application/json\r\nContent-Length: 3\r\n\r\n{{{'],
    ['of an unknown type', 'Content-Type: x/y\r\nContent-Length: 3\r\n\r\nabc'],
    ['that is too large', 'Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n{'],
    ['that is badly chunked', 'Transfer-Encoding: chunked\r\n\r\nzz\r\n'],
    ['that never comes', 'Content-Length: 2\r\n\r\n'],
  ])('a body %s changes nothing about the 405', async (_what, rest) => {
    using wire = await openWire(rig)
    wire.write(`POST /v1/accounts HTTP/1.1\r\n${HOST}${rest}`)
    const answer = await wire.next()
    expect(answer.status).toBe(405)
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'METHOD_NOT_ALLOWED' })
  })

  test('HEAD is answered 405 without body', async () => {
    using wire = await openWire(rig)
    wire.write(`HEAD /v1/accounts HTTP/1.1\r\n${HOST}\r\n`)
    expect((await wire.next('HEAD')).status).toBe(405)
    wire.write(LAST)
    expect(await wire.next()).toMatchObject({ status: 200 })
    expect(await wire.rest()).toBe('')
  })

  test('the credential and the list are answered, and must not be stored', async () => {
    const reply = await rig.get('/v1/accounts/test-secret/credential')
    expect(reply).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    expect(reply.headers['cache-control']).toBe('no-store')
    const list = await rig.get('/v1/accounts')
    expect(JSON.parse(list.body).accounts[0]).toEqual({ name: 'test-secret', kinds: ['credential'] })
    expect(list.headers['cache-control']).toBe('no-store')
  })

  test('openapi.json describes every path', async () => {
    const reply = await rig.get('/openapi.json')
    expect(reply.status).toBe(200)
    const document = JSON.parse(reply.body)
    expect(document.openapi).toMatch(/^3\.1\./)
    expect(Object.keys(document.paths).sort()).toEqual(
      [
        '/openapi.json',
        '/provider',
        '/v1/accounts',
        ...['credential', 'credential-spec', 'keys', 'keytab', 'managed-password'].map(
          (kind) => `/v1/accounts/{account}/${kind}`,
        ),
      ].sort(),
    )
    expect(await rig.get('/openapi.json', { method: 'POST' })).toMatchObject({ status: 405, body: '' })
  })
})

import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { type Answer, CREDENTIAL_BODY, credential, expectBare, GOOD, LAST, makeStore, openWire } from './wire.ts'

describe('what goes wrong behind /provider', () => {
  let rig: Rig | undefined
  afterEach(async () => {
    await rig?.[Symbol.asyncDispose]()
    rig = undefined
  })

  test.each([
    ['absent', 'ACCOUNT_NOT_FOUND', 404],
    ['denied by the store', 'STORE_DENIED', 502],
    ['out', 'STORE_UNAVAILABLE', 503],
    ['a record that lacks a member', 'MATERIAL_MALFORMED', 404],
    ['an unexpected error', 'INTERNAL', 500],
  ] as const)('%s has no body', async (_what, code, status) => {
    const fail = async () => {
      throw code === 'INTERNAL' ? new Error('{"username":"x"}') : new GmsaError(code, '{"username":"x"}')
    }
    rig = await makeRig({ providers: new Map([['local', makeStore(fail)]]) })
    await expectNoBody(rig, status, code)
  })

  async function expectNoBody(on: Rig, status: number, code: string): Promise<void> {
    using wire = await openWire(on)
    wire.write(LAST)
    expectBare(await wire.next(), status, code)
    expect(await wire.rest()).toBe('')
  }

  test('a store that ignores its signal is given up after timeouts.store', async () => {
    rig = await makeRig({
      providers: new Map([['local', makeStore(() => new Promise(() => {}))]]),
      config: { timeouts: { store: 50, request: 10_000 }, shutdown: { drainDelay: 0, grace: 100 } },
    })
    await expectNoBody(rig, 504, 'STORE_TIMEOUT')
  })

  test.each([
    ['username', { password: 'p', domainName: 'd' }],
    ['password', { username: 'u', domainName: 'd' }],
    ['domainName', { username: 'u', password: 'p' }],
    ['a string as username', { username: 1, password: 'p', domainName: 'd' }],
    ['a value of password', { username: 'u', password: null, domainName: 'd' }],
    ['a domainName that is not empty', { username: 'u', password: 'p', domainName: '' }],
  ])('a record that lacks %s has no body', async (_member, record) => {
    rig = await makeRig()
    await rig.writeSecret('test-secret.json', JSON.stringify(record))
    await expectNoBody(rig, 404, 'MATERIAL_MALFORMED')
  })

  test('more requests than limits.requestsPerSecond have no body, and a way back', async () => {
    rig = await makeRig({ config: { limits: { requestsPerSecond: 3 } } })
    using wire = await openWire(rig)
    const answers: Answer[] = []
    for (let index = 0; index < 5; index++) {
      wire.write(GOOD)
      answers.push(await wire.next())
    }
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 429, 429])
    for (const answer of answers.slice(3)) {
      expectBare(answer, 429, 'RATE_LIMITED')
      expect(answer.headers.get('retry-after')).toBe('1')
    }
    // Another client is not affected.
    expect(await rig.provider('test-secret', { client: await rig.pki.ca.issue() })).toMatchObject({ status: 200 })
  })

  test('under pressure of a blocked event loop it has no body', async () => {
    rig = await makeRig({ maxEventLoopDelay: 20 })
    using wire = await openWire(rig)
    const statuses = new Set<number>()
    const deadline = performance.now() + 6_000
    while (!statuses.has(503) && performance.now() < deadline) {
      const until = performance.now() + 120
      while (performance.now() < until);
      wire.write(GOOD)
      const answer = await wire.next()
      statuses.add(answer.status)
      if (answer.status !== 200) expectBare(answer, 503, 'OVERLOADED')
    }
    expect(statuses).toContain(503)
  })

  test('while draining it is answered with Connection: close; later requests on a connection are turned away', async () => {
    const store = makeStore(async (_name, signal) => {
      await new Promise((resolve) => setTimeout(resolve, 300))
      signal.throwIfAborted()
      return credential()
    })
    rig = await makeRig({
      providers: new Map([['local', store]]),
      config: { shutdown: { drainDelay: 100, grace: 3_000 }, cache: { maxAge: 0, serveStale: 0 } },
    })
    using early = await openWire(rig)
    using pipelined = await openWire(rig)
    pipelined.write(GOOD)
    const stopping = rig.service.stop()
    early.write(GOOD)
    setTimeout(() => pipelined.write(GOOD), 200)
    const answer = await early.next()
    expect(answer).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    expect(answer.headers.get('connection')).toBe('close')
    expect(await early.rest()).toBe('')
    expect(await pipelined.next()).toMatchObject({ status: 200 })
    const rest = await pipelined.next().catch(() => undefined)
    if (rest) expectBare(rest, 503, 'DRAINING')
    await stopping
  })

  test('with mTLS switched off a CONNECT that is reset does not bring the process down', async () => {
    const faults: unknown[] = []
    const note = (fault: unknown) => void faults.push(fault)
    process.on('uncaughtException', note)
    rig = await makeRig({ plainHttp: true })
    for (let index = 0; index < 5; index++) {
      const socket = connect({ host: '127.0.0.1', port: rig.service.port })
      await new Promise((resolve) => socket.once('connect', resolve))
      socket.on('error', () => {})
      socket.write(`CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n`)
      setTimeout(() => socket.resetAndDestroy(), 5)
      await new Promise((resolve) => socket.once('close', resolve))
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
    process.off('uncaughtException', note)
    expect(faults).toEqual([])
  })
})

import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { type Answer, CREDENTIAL_BODY, eventually, expectBare, GOOD, LAST, makeStore, openWire } from './wire.ts'

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

  test('a store that is out says when to ask again, its own time if it knows one', async () => {
    for (const [options, seconds] of [
      [{}, '5'],
      [{ retryAfter: 17 }, '17'],
    ] as const) {
      const fail = async () => {
        throw new GmsaError('STORE_UNAVAILABLE', 'out', options)
      }
      await using each = await makeRig({ providers: new Map([['local', makeStore(fail)]]) })
      expect((await each.provider('test-secret')).headers['retry-after']).toBe(seconds)
    }
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

  test('after the listener closed a connection gets its first request answered, and later ones 503', async () => {
    const on = await makeRig()
    rig = on
    using first = await openWire(on)
    using second = await openWire(on)
    second.write(GOOD)
    expect(await second.next()).toMatchObject({ status: 200 })
    for (const wire of [first, second]) wire.write(GOOD.slice(0, 30))
    // The service has met these bytes: it answers what came after them.
    expect(await on.provider('test-secret')).toMatchObject({ status: 200 })
    const stopping = on.service.stop()
    const refused = () =>
      on.provider('test-secret').then(
        () => false,
        () => true,
      )
    await eventually(refused, 'the listener is closed')
    for (const wire of [first, second]) wire.write(GOOD.slice(30))
    const answer = await first.next()
    expect(answer).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    expect(answer.headers.get('connection')).toBe('close')
    const late = await second.next()
    expectBare(late, 503, 'DRAINING')
    expect(late.headers.get('connection')).toBe('close')
    expect(late.headers.get('retry-after')).toBe('1')
    for (const wire of [first, second]) expect(await wire.rest()).toBe('')
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

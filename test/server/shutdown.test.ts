import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import { connect as connectPlain } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { CREDENTIAL_BODY, credential, eventually, GOOD, makeStore, openWire, type Wire } from './wire.ts'

const slow = (ms: number) =>
  makeStore(async () => {
    await new Promise((resolve) => setTimeout(resolve, ms))
    return credential()
  })

async function timed(rig: Rig): Promise<number> {
  const started = performance.now()
  await rig.service.stop()
  return performance.now() - started
}

describe('stop()', () => {
  test('answers every request whose head was received, under load', async () => {
    await using rig = await makeRig({
      providers: new Map([['local', slow(100)]]),
      config: {
        cache: { maxAge: 0, serveStale: 0 },
        shutdown: { drainDelay: 150, grace: 5_000 },
        limits: { requestsPerSecond: 10_000 },
      },
    })
    const wires = await Promise.all(Array.from({ length: 40 }, () => openWire(rig)))
    const states = { unanswered: 0, answered: 0, turnedAway: 0 }
    /** Asks again and again until the server ends the connection between two requests. */
    const ask = async (wire: Wire) => {
      for (;;) {
        if (await wire.endsWithin(0)) return
        wire.write(GOOD)
        const answer = await wire.next().catch(() => undefined)
        if (!answer) {
          // Only a request that crossed the server's own goodbye may go without.
          if (!lastSaid.has(wire)) states.unanswered++
          return
        }
        if (answer.headers.get('connection') === 'close') lastSaid.add(wire)
        if (answer.status === 200) states.answered++
        else states.turnedAway++
      }
    }
    const lastSaid = new Set<Wire>()
    const asking = Promise.all(wires.map(ask))
    await new Promise((resolve) => setTimeout(resolve, 250))
    const took = await timed(rig)
    await asking
    expect(states.unanswered).toBe(0)
    expect(states.answered).toBeGreaterThan(40)
    expect(lastSaid.size).toBe(40)
    expect(took).toBeLessThan(2_000)
  })

  test('answers what was asked just before it, though the answer takes longer than the drain', async () => {
    await using rig = await makeRig({ providers: new Map([['local', slow(400)]]) })
    const agent = new Agent({ keepAlive: true })
    const replies = Promise.all(Array.from({ length: 10 }, () => rig.provider('test-secret', { agent })))
    await eventually(async () => (await rig.admin('/metrics')).status === 200, 'time for the heads to arrive')
    await new Promise((resolve) => setTimeout(resolve, 150))
    const took = await timed(rig)
    for (const reply of await replies) {
      expect(reply).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
      expect(reply.headers['connection']).toBe('close')
    }
    expect(took).toBeLessThan(1_500)
    agent.destroy()
  })

  test('is not held up by idle, half-sent, silent and half-open connections', async () => {
    await using rig = await makeRig({ config: { shutdown: { drainDelay: 0, grace: 4_000 } } })
    using idle = await openWire(rig)
    idle.write(GOOD)
    expect(await idle.next()).toMatchObject({ status: 200 })
    using halfSent = await openWire(rig)
    halfSent.write(GOOD.slice(0, 30))
    using secondHalfSent = await openWire(rig)
    secondHalfSent.write(GOOD)
    await secondHalfSent.next()
    secondHalfSent.write(GOOD.slice(0, 30))
    using _silent = await openWire(rig)
    using bodyless = await openWire(rig)
    bodyless.write('PUT /provider HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n')
    await bodyless.next()
    const { port } = rig.service
    const untalkative = connectPlain({ host: '127.0.0.1', port })
    const halfShaken = connectPlain({ host: '::1', port })
    for (const socket of [untalkative, halfShaken]) {
      socket.on('error', () => {})
      await once(socket, 'connect')
    }
    // The first bytes of a TLS record that announces a ClientHello of 512 bytes.
    halfShaken.write(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]))
    await rig.provider('test-secret')
    expect(await timed(rig)).toBeLessThan(1_500)
  })

  test('cuts off within grace what never gets its answer', async () => {
    const store = makeStore(() => new Promise(() => {}))
    await using rig = await makeRig({
      providers: new Map([['local', store]]),
      config: { timeouts: { store: 60_000, request: 10_000 }, shutdown: { drainDelay: 50, grace: 600 } },
    })
    using wire = await openWire(rig)
    wire.write(GOOD)
    await eventually(() => store.asked.length === 1, 'the store is asked')
    const took = await timed(rig)
    expect(took).toBeGreaterThan(400)
    expect(took).toBeLessThan(1_200)
    expect(await wire.rest()).toBe('')
  })

  test('is not held up by a store that does not let itself be closed', async () => {
    const store = { ...makeStore(), [Symbol.asyncDispose]: () => new Promise<void>(() => {}) }
    await using rig = await makeRig({
      providers: new Map([['local', store]]),
      config: { shutdown: { drainDelay: 0, grace: 500 } },
    })
    expect(await timed(rig)).toBeLessThan(1_000)
    expect(rig.lines.some(({ level, message }) => level === 'warn' && message.startsWith('stopped'))).toBe(true)
  })

  test('drains no longer than grace, however long the drain is set', async () => {
    await using rig = await makeRig({ config: { shutdown: { drainDelay: 60_000, grace: 300 } } })
    expect(await timed(rig)).toBeLessThan(900)
  })

  test('called twice stops once', async () => {
    await using rig = await makeRig()
    await Promise.all([rig.service.stop(), rig.service.stop()])
    await rig.service.stop()
    expect(rig.lines.filter(({ message }) => message === 'stopping')).toHaveLength(1)
  })

  test('is told by /readyz while it drains; the port file is gone first, the listener last', async () => {
    await using base = await makeRig()
    const directory = join(base.directory, 'host')
    await using rig = await makeRig({
      pki: base.pki,
      config: {
        shutdown: { drainDelay: 400, grace: 5_000 },
        ccg: { directory, namespace: 'ns', client: base.files.client },
      },
    })
    const portFile = join(directory, 'ns', 'port.txt')
    expect(await readFile(portFile, 'utf8')).toBe(String(rig.service.port))
    await eventually(async () => (await rig.admin('/readyz')).status === 200, 'ready')
    const stopping = rig.service.stop()
    await eventually(() => !existsSync(portFile), 'port file removed')
    const readyz = await rig.admin('/readyz')
    expect(readyz.status).toBe(503)
    expect(readyz.body).toContain('[-]draining failed: stopping')
    expect((await rig.admin('/livez')).status).toBe(200)
    using wire = await openWire(rig)
    wire.write(GOOD)
    const answer = await wire.next()
    expect(answer).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    expect(answer.headers.get('connection')).toBe('close')
    await stopping
    await expect(rig.provider('test-secret')).rejects.toThrow()
    await expect(rig.admin('/livez')).rejects.toThrow()
  })
})

describe('startService', () => {
  test('rejects with a configuration error where the port is taken, and lets go of everything', async () => {
    await using rig = await makeRig()
    const { port } = rig.service
    const config = { listen: { hosts: ['127.0.0.1'], port } }
    await expect(makeRig({ config })).rejects.toMatchObject({ code: 'CONFIG_INVALID', hint: expect.any(String) })
    const admin = { host: '127.0.0.1', port: rig.service.admin.port }
    await expect(makeRig({ config: { admin } })).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
  })

  test('listens on all addresses with one port, and only on these', async () => {
    await using rig = await makeRig()
    for (const host of ['127.0.0.1', '::1'])
      expect(await rig.provider('test-secret', { host })).toMatchObject({ status: 200 })
    await using single = await makeRig({ config: { listen: { hosts: ['::1'], port: 0 } } })
    await expect(single.provider('test-secret')).rejects.toThrow()
  })
})

import { once } from 'node:events'
import { rename, writeFile } from 'node:fs/promises'
import type { RequestListener } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type AgentRig, HOUR, identityOf, MINUTE, makeAgentRig } from '../fakes/agent-rig.ts'
import { eventually } from '../server/wire.ts'

let at: AgentRig
const servers: Server[] = []
beforeEach(async () => {
  at = await makeAgentRig({ services: 2, before: -HOUR })
})
afterEach(async () => {
  for (const server of servers.splice(0)) server.close()
  await at[Symbol.asyncDispose]()
})

const addressOf = (server: Server) => `https://localhost:${(server.address() as AddressInfo).port}`

async function listen(server: Server): Promise<Server> {
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

/** A server that takes connections and says nothing, not even a handshake; `connections` counts them. */
async function silent(): Promise<{ readonly address: string; readonly connections: () => number }> {
  let connections = 0
  const server = await listen(
    createServer((socket) => {
      connections += 1
      socket.on('error', () => {})
    }),
  )
  return { address: addressOf(server), connections: () => connections }
}

/** A server with the service's own certificate that answers as told. */
async function answering(listener: RequestListener): Promise<string> {
  const { certificate: cert, key } = at.rig.pki.server
  return addressOf(await listen(createHttpsServer({ cert, key }, listener)))
}

const good = () => at.rigs.map(({ service }) => `https://localhost:${service.port}`)
const problemOf = async (more: Parameters<AgentRig['once']>[1]) => {
  const [result] = await at.once([{}], more)
  return result?.error && { code: result.error.code, message: result.error.message, reason: result.error.reason }
}

describe('several addresses of the service', () => {
  test('one that refuses connections: the next is asked at once', async () => {
    const [first, second] = good()
    await at.rig.service.stop()
    const results = await at.once([{}], { servers: [first ?? '', second ?? ''] })
    expect(results[0]?.error).toBeUndefined()
  })

  test('one that is silent: the next is asked within ten seconds, and asked first from then on', async () => {
    const { address, connections } = await silent()
    const [, second = ''] = good()
    const agent = at.start([{}], { servers: [address, second], timeout: 9_000, wait: 0 })
    await eventually(() => connections() > 0, 'a connection to the silent one')
    await at.clock.advance(4_500)
    await (await agent).ready
    expect((await agent).status().outputs[0]?.server).toBe(second)
    const before = connections()
    ;(await agent).refresh()
    await eventually(
      () => at.rigs[1]?.lines.filter(({ route }) => String(route).endsWith('/keytab')).length === 2,
      'again',
    )
    expect(connections()).toBe(before)
  })

  test('none that answers: an error within ten seconds that names each', async () => {
    const [one, two] = [await silent(), await silent()]
    const asking = problemOf({ servers: [one.address, two.address], timeout: 9_000 })
    for (const { connections } of [one, two]) {
      await eventually(() => connections() > 0, 'a connection')
      await at.clock.advance(4_500)
    }
    expect(await asking).toMatchObject({
      code: 'STORE_TIMEOUT',
      reason: 'hang',
      message: expect.stringMatching(
        /^localhost:\d+: no answer within 4\.5 s; localhost:\d+: no answer within 4\.5 s$/,
      ),
    })
  })

  test('one that falls silent after the handshake is given up as well', async () => {
    let asked = 0
    const address = await answering(() => {
      asked += 1
    })
    const asking = problemOf({ servers: [address], timeout: 9_000 })
    await eventually(() => asked > 0, 'the question')
    await at.clock.advance(9_000)
    expect(await asking).toMatchObject({ code: 'STORE_TIMEOUT' })
  })

  test('one that answers in drops has no longer than one that is silent', async () => {
    let begin: (() => void) | undefined
    const address = await answering((_request, response) => {
      begin = () => response.writeHead(200, { etag: '"x"' }).flushHeaders()
    })
    const asking = problemOf({ servers: [address], timeout: 9_000 })
    await eventually(() => begin !== undefined, 'the question')
    await at.advance(6_000)
    begin?.()
    await at.advance(1_000)
    await at.advance(2_000)
    expect(await asking).toMatchObject({ code: 'STORE_TIMEOUT', reason: 'hang' })
  })

  test('one that falls silent while it holds a question is given up a little after that', async () => {
    let asked = 0
    const keytab = (await at.rig.get('/v1/accounts/web01/keytab')).bytes
    const address = await answering((request, response) => {
      asked += 1
      if (request.headers['prefer'] === undefined) response.writeHead(200, { etag: '"x"' }).end(keytab)
    })
    const agent = await at.start([{}], { servers: [address], timeout: 9_000, wait: 60_000 })
    await agent.ready
    await at.clock.advance(1_100)
    await eventually(() => asked === 2, 'the question that is to be held')
    await at.clock.advance(MINUTE)
    expect(agent.status().outputs[0]?.problem).toBeUndefined()
    await at.clock.advance(9_000)
    await eventually(() => agent.status().outputs[0]?.problem?.code === 'STORE_TIMEOUT', 'the end of patience')
  })

  test.each([
    [429, 'RATE_LIMITED'],
    [503, 'DRAINING'],
    [502, 'STORE_DENIED'],
    [500, ''],
  ])('one that answers %i %s: the next is asked', async (status, code) => {
    const address = await answering((_request, response) => response.writeHead(status, { 'gmsa-error': code }).end())
    const results = await at.once([{}], { servers: [address, good()[1] ?? ''] })
    expect(results[0]?.error).toBeUndefined()
  })
})

describe('answers that are none', () => {
  test.each<[string, RequestListener, string, RegExp]>([
    [
      'a redirect',
      (_, response) => response.writeHead(302, { location: good()[0] }).end(),
      'STORE_UNAVAILABLE',
      /answers 302/,
    ],
    ['something else than a keytab', (_, response) => response.end('{}'), 'MATERIAL_MALFORMED', /no keytab/],
    ['a keytab without keys', (_, response) => response.end(Buffer.from([5, 2])), 'MATERIAL_MALFORMED', /has no keys/],
    [
      'more than any keytab has',
      (_, response) => response.end(Buffer.alloc(2 << 20)),
      'MATERIAL_MALFORMED',
      /larger than any keytab/,
    ],
    [
      '304 to a first question',
      (_, response) => response.writeHead(304).end(),
      'STORE_UNAVAILABLE',
      /304 to a first question/,
    ],
    ['a cut connection', (_, response) => response.socket?.destroy(), 'STORE_UNAVAILABLE', /ECONNRESET|hang up/],
    [
      'half an answer',
      (_, response) => response.writeHead(200, { 'content-length': 99 }).write('x', () => response.socket?.destroy()),
      'STORE_UNAVAILABLE',
      /./,
    ],
  ])('K14: %s: an error, and the file stays', async (_what, listener, code, said) => {
    await at.once([{}])
    const before = await identityOf(at.path('web01-acceptor'))
    const problem = await problemOf({ servers: [await answering(listener)] })
    expect(problem).toMatchObject({ code, message: expect.stringMatching(said) })
    expect(await identityOf(at.path('web01-acceptor'))).toBe(before)
  })

  test('a service that does not hold questions is not asked in a loop', async () => {
    let asked = 0
    const keytab = (await at.rig.get('/v1/accounts/web01/keytab')).bytes
    const address = await answering((request, response) => {
      asked += 1
      response.writeHead(request.headers['if-none-match'] ? 304 : 200, { etag: '"x"' }).end(keytab)
    })
    const agent = await at.start([{}], { servers: [address] })
    await agent.ready
    await at.advance(50 * MINUTE)
    expect(asked).toBeLessThanOrEqual(3)
  })

  test('a service whose places for held questions are taken is asked by the clock, and that is no failure', async () => {
    const { headers } = await at.rig.get('/v1/accounts/web01/keytab')
    const hold = { headers: { 'if-none-match': String(headers['etag']), prefer: 'wait=300' } }
    const others = at.rigs.flatMap((rig) => Array.from({ length: 4 }, () => rig.get('/v1/accounts/web01/keytab', hold)))
    for (const each of others) each.catch(() => {})
    const refused = async () =>
      (await at.rig.get('/v1/accounts/web01/keytab', { ...hold, timeout: 50 }).catch(() => undefined))?.status === 429
    await eventually(refused, 'all places taken')
    const agent = await at.start([{}])
    await agent.ready
    await at.clock.advance(2_000)
    await eventually(() => at.rig.lines.some(({ status }) => status === 429), 'a refusal')
    await eventually(
      () => at.rig.lines.at(-1)?.['status'] === 304 || at.rigs[1]?.lines.at(-1)?.['status'] === 304,
      'a plain question',
    )
    expect(agent.status()).toMatchObject({ ready: true })
    expect(agent.status().outputs[0]?.problem).toBeUndefined()
  })
})

describe("the client's certificate", () => {
  const put = async (path: string, text: string) => {
    await writeFile(`${path}.new`, text)
    await rename(`${path}.new`, path)
  }
  const serials = () => at.rigs.flatMap(({ lines }) => lines.flatMap(({ serial }) => (serial ? [String(serial)] : [])))

  const kinds = ['ec', 'rsa'] as const
  test.each(kinds)(
    'S4: a new %s one counts from the next question on, and half of the pair is not taken',
    async (kind) => {
      const agent = await at.start([{}], { wait: 0 })
      await agent.ready
      const { certificate, key } = at.rig.files.client
      const next = await at.rig.pki.ca.issue({ commonName: 'next', key: kind })
      await put(certificate, next.certificate)
      agent.refresh()
      await eventually(() => serials().length === 2, 'a question with the old pair')
      expect(serials()).toEqual([at.rig.pki.client.serial, at.rig.pki.client.serial])
      expect(at.lines.filter(({ message }) => message.includes('last good ones stay'))).toHaveLength(1)
      await put(key, next.key)
      agent.refresh()
      await eventually(() => serials().length === 3, 'a question with the new pair')
      expect(serials().at(-1)).toBe(next.serial)
    },
  )

  test.each([
    ['a CA that did not issue the service’s', 'ca', 'unknown-ca'],
    ['a service of another name', 'name', 'name-mismatch'],
  ])('is not shown to %s', async (_what, kind, reason) => {
    const stranger = await makeAgentRig()
    try {
      const ca = kind === 'ca' ? stranger.rig.files.ca : at.rig.files.ca
      const host = kind === 'ca' ? 'localhost' : '127.0.0.2'
      let asked = 0
      const { certificate: cert, key } = at.rig.pki.server
      const server = createHttpsServer({ cert, key }, () => (asked += 1))
      servers.push(server)
      server.listen(0, host === 'localhost' ? '127.0.0.1' : host)
      await once(server, 'listening')
      const address = `https://${host}:${(server.address() as AddressInfo).port}`
      const problem = await problemOf({ servers: [address], tls: { ...at.rig.files.client, ca } })
      expect(problem).toMatchObject({ code: 'STORE_UNAVAILABLE', reason })
      expect(asked).toBe(0)
    } finally {
      await stranger[Symbol.asyncDispose]()
    }
  })

  test('that is missing at the start is an error of the configuration', async () => {
    const tls = { ...at.rig.files.client, ca: join(at.folder, 'none') }
    await expect(at.once([{}], { tls })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('ENOENT'),
    })
    const swapped = { ...at.rig.files.client, key: at.rig.files.server.key, ca: at.rig.files.ca }
    await expect(at.once([{}], { tls: swapped })).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })
})

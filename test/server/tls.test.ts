import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import type { SecureVersion, TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeCa, makePki, type TestCertificate } from '../fakes/pki.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { needs } from '../lab/skip.ts'
import { CREDENTIAL_BODY, eventually, GOOD, LAST, metric, movableClock, openWire, run, sendAndClose } from './wire.ts'

const VERSIONS: SecureVersion[] = ['TLSv1.2', 'TLSv1.3']
const only = (version: SecureVersion) => ({ minVersion: version, maxVersion: version })
const HOUR = 3_600_000

/** Everything the server sends to this client before it cuts it off; no handshake error counts as nothing. */
async function bytesFor(rig: Rig, client: TestCertificate | null, version: SecureVersion): Promise<string> {
  return await sendAndClose(rig, GOOD, { client, ...only(version) }).catch(() => '')
}

/** Expects that the server answers with nothing, and counts it under this reason. */
async function expectRejected(rig: Rig, reason: string, attempt: () => Promise<string>): Promise<void> {
  const before = await metric(rig, 'tls_rejected_total', { reason })
  expect(await attempt()).toBe('')
  await eventually(async () => (await metric(rig, 'tls_rejected_total', { reason })) > before, `rejected as ${reason}`)
}

describe('a handshake', () => {
  let rig: Rig
  beforeAll(async () => {
    rig = await makeRig()
  })
  afterAll(() => rig[Symbol.asyncDispose]())

  describe.each(VERSIONS)('with %s is refused', (version) => {
    test('without a client certificate', async () => {
      await expectRejected(rig, 'no-certificate', () => bytesFor(rig, null, version))
    })

    test('with the certificate of an unknown CA', async () => {
      const client = await (await makeCa({ name: 'Another CA' })).issue()
      await expectRejected(rig, 'untrusted', () => bytesFor(rig, client, version))
    })

    test('with the certificate of a CA that has the same name and another key', async () => {
      const client = await (await makeCa()).issue({ uri: ['spiffe://localhost/client/test'] })
      await expectRejected(rig, 'untrusted', () => bytesFor(rig, client, version))
    })

    test('with the certificate of the CA itself, or of another one', async () => {
      for (const client of [rig.pki.ca, await makeCa({ name: 'test' })])
        await expectRejected(rig, 'wrong-usage', () => bytesFor(rig, client, version))
    })

    test('with an expired certificate', async () => {
      const client = await rig.pki.ca.issue({ notAfter: new Date(Date.now() - 5_000) })
      await expectRejected(rig, 'expired', () => bytesFor(rig, client, version))
    })

    test('with a certificate that is not valid yet', async () => {
      const client = await rig.pki.ca.issue({ notBefore: new Date(Date.now() + HOUR) })
      await expectRejected(rig, 'not-yet-valid', () => bytesFor(rig, client, version))
    })

    test('with a certificate for servers only', async () => {
      const client = await rig.pki.ca.issue({ usages: ['serverAuth'] })
      await expectRejected(rig, 'wrong-usage', () => bytesFor(rig, client, version))
      await expectRejected(rig, 'wrong-usage', () => bytesFor(rig, rig.pki.server, version))
    })
  })

  test('over plain http is refused', async () => {
    await expectRejected(rig, 'plain-http', async () => {
      const socket = createConnection({ host: '127.0.0.1', port: rig.service.port })
      let text = ''
      socket.on('data', (chunk) => {
        text += chunk
      })
      socket.write(GOOD)
      await once(socket, 'close')
      return text.includes('HTTP/') ? text : ''
    })
  })

  test.skipIf(!needs('openssl'))('with TLS 1.1 is refused', async () => {
    const { port } = rig.service
    const { client } = rig.files
    const args = ['-connect', `127.0.0.1:${port}`, '-cert', client.certificate, '-key', client.key, '-tls1_1']
    await expectRejected(rig, 'protocol-version', async () => {
      const { text } = await run('openssl', ['s_client', ...args, '-cipher', 'DEFAULT@SECLEVEL=0', '-quiet'], GOOD)
      expect(text).toMatch(/alert/)
      return /HTTP\/1/.exec(text)?.[0] ?? ''
    })
  })

  test.skipIf(!needs('openssl'))(
    'of openssl s_client with TLS 1.2 is accepted, and it can not renegotiate',
    async () => {
      const { client, ca } = rig.files
      const args = ['-connect', `127.0.0.1:${rig.service.port}`, '-cert', client.certificate, '-key', client.key]
      const { text } = await run('openssl', ['s_client', ...args, '-CAfile', ca, '-tls1_2', '-ign_eof', '-quiet'], LAST)
      expect(text).toContain(CREDENTIAL_BODY)
      const again = await run('openssl', ['s_client', ...args, '-CAfile', ca, '-tls1_2'], `R\n${GOOD}`)
      expect(again.text).not.toContain(CREDENTIAL_BODY)
    },
  )

  test.each(VERSIONS)('with %s is accepted', async (version) => {
    expect(await bytesFor(rig, rig.pki.client, version)).toBe('')
    expect(await rig.provider('test-secret', only(version))).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
  })

  test.each(['ec', 'rsa'] as const)('with a client key of type %s is accepted', async (key) => {
    const client = await rig.pki.ca.issue({ key })
    for (const version of VERSIONS)
      expect(await rig.provider('test-secret', { client, ...only(version) })).toMatchObject({ status: 200 })
  })

  test('with a certificate that states no usages is accepted', async () => {
    const client = await rig.pki.ca.issue({ usages: [] })
    expect(await rig.provider('test-secret', { client })).toMatchObject({ status: 200 })
  })

  test('with an intermediate that the client sends is accepted, also when resumed', async () => {
    const middle = await makeCa({ name: 'Middle', parent: rig.pki.ca })
    const leaf = await middle.issue()
    const client = { ...leaf, certificate: leaf.certificate + middle.chain }
    for (const version of VERSIONS) {
      expect(await rig.provider('test-secret', { client, ...only(version) })).toMatchObject({ status: 200 })
      const session = await takeSession(rig, client, version)
      using wire = await openWire(rig, { client, session, ...only(version) })
      wire.write(LAST)
      expect(await wire.next()).toMatchObject({ status: 200 })
      expect(wire.socket.isSessionReused()).toBe(true)
    }
    await expectRejected(rig, 'untrusted', () => bytesFor(rig, leaf, 'TLSv1.3'))
  })
})

/** A session ticket, taken from a connection on which a request was answered. */
async function takeSession(rig: Rig, client: TestCertificate, version: SecureVersion): Promise<Buffer> {
  using wire = await openWire(rig, { client, ...only(version) })
  const ticket = version === 'TLSv1.3' ? once(wire.socket, 'session') : undefined
  wire.write(GOOD)
  expect(await wire.next()).toMatchObject({ status: 200 })
  const [session] = ticket ? await ticket : [wire.socket.getSession()]
  return session as Buffer
}

async function replace(rig: Rig, path: string, text: string): Promise<void> {
  await writeFile(path, text)
  await rig.service.reloadTls()
}

describe('a revoked certificate', () => {
  async function makeRevokingRig() {
    const pki = await makePki()
    const other = await pki.ca.issue()
    const rig = await makeRig({ pki, crl: await pki.ca.crl() })
    const revoke = async (...revoked: { serial: string }[]) =>
      replace(rig, `${rig.directory}/ca/ca.crl`, await pki.ca.crl({ revoked }))
    return { rig, pki, other, revoke }
  }

  test('is cut off at the handshake without any HTTP bytes', async () => {
    const { rig, pki, other, revoke } = await makeRevokingRig()
    await using _rig = rig
    await revoke(pki.client)
    for (const version of VERSIONS) await expectRejected(rig, 'revoked', () => bytesFor(rig, pki.client, version))
    expect(await rig.provider('test-secret', { client: other })).toMatchObject({ status: 200 })
  })

  test.each(VERSIONS)('is cut off when it resumes a session from before (%s)', async (version) => {
    const { rig, pki, revoke } = await makeRevokingRig()
    await using _rig = rig
    const session = await takeSession(rig, pki.client, version)
    await revoke(pki.client)
    const attempt = () => sendAndClose(rig, GOOD, { session, ...only(version) }).catch(() => '')
    await expectRejected(rig, 'revoked', attempt)
  })

  test.each(VERSIONS)('gains nothing from a ticket that it got while it was refused (%s)', async (version) => {
    const { rig, pki, revoke } = await makeRevokingRig()
    await using _rig = rig
    await revoke(pki.client)
    const tickets: Buffer[] = []
    const wire = await openWire(rig, only(version)).catch(() => undefined)
    wire?.socket.on('session', (ticket: Buffer) => tickets.push(ticket))
    await wire?.rest()
    for (const session of tickets)
      expect(await sendAndClose(rig, GOOD, { session, ...only(version) }).catch(() => '')).toBe('')
    expect(await bytesFor(rig, pki.client, version)).toBe('')
  })

  test('on an open connection is answered 403 without body, and the connection ends', async () => {
    const { rig, pki, revoke } = await makeRevokingRig()
    await using _rig = rig
    using wire = await openWire(rig)
    wire.write(GOOD)
    expect(await wire.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    await revoke(pki.client)
    wire.write(GOOD)
    await expectRefusedAndClosed(wire)
    expect(await metric(rig, 'requests_total', { code: '403', reason: 'CERTIFICATE_REFUSED' })).toBe(1)
  })

  test.each([
    'GET /v1/accounts HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'GET /provider HTTP/1.1\r\nHost: localhost\r\nExpect: something\r\nobject: test-secret\r\n\r\n',
  ])('on an open connection gets nowhere else either: %j', async (request) => {
    const { rig, pki, revoke } = await makeRevokingRig()
    await using _rig = rig
    using wire = await openWire(rig)
    wire.write(GOOD)
    await wire.next()
    await revoke(pki.client)
    wire.write(request)
    await expectRefusedAndClosed(wire)
  })

  test('does not harm the open connections of others', async () => {
    const { rig, pki, other, revoke } = await makeRevokingRig()
    await using _rig = rig
    using wire = await openWire(rig, { client: other })
    wire.write(GOOD)
    expect(await wire.next()).toMatchObject({ status: 200 })
    await revoke(pki.client)
    wire.write(GOOD)
    expect(await wire.next()).toMatchObject({ status: 200 })
  })

  test('may be an intermediate of the CA file: all below it are refused, open connections too', async () => {
    const { rig, pki, revoke } = await makeRevokingRig()
    await using _rig = rig
    const middle = await makeCa({ name: 'Middle', parent: pki.ca })
    const leaf = await middle.issue()
    await replace(rig, rig.files.ca, pki.ca.certificate + middle.certificate)
    const session = await takeSession(rig, leaf, 'TLSv1.3')
    using wire = await openWire(rig, { client: leaf })
    wire.write(GOOD)
    expect(await wire.next()).toMatchObject({ status: 200 })
    await revoke(pki.client)
    wire.write(GOOD)
    expect(await wire.next()).toMatchObject({ status: 200 })
    await revoke(middle)
    wire.write(GOOD)
    await expectRefusedAndClosed(wire)
    for (const version of VERSIONS) await expectRejected(rig, 'revoked', () => bytesFor(rig, leaf, version))
    expect(await sendAndClose(rig, GOOD, { client: leaf, session }).catch(() => '')).toBe('')
  })

  test('may be an intermediate that only the client has: none below it gets in, whatever is sent along', async () => {
    const { rig, pki, revoke } = await makeRevokingRig()
    await using _rig = rig
    const middle = await makeCa({ name: 'Middle', parent: pki.ca })
    const [leaf, stranger] = [await middle.issue(), await makeCa({ name: 'Stranger' })]
    await revoke(middle)
    const chains = [
      middle.chain,
      pki.ca.certificate + middle.chain,
      stranger.certificate + middle.chain,
      stranger.certificate.repeat(20) + middle.chain,
    ]
    for (const chain of chains) {
      const client = { ...leaf, certificate: leaf.certificate + chain }
      for (const version of VERSIONS) await expectRejected(rig, 'undecidable', () => bytesFor(rig, client, version))
    }
    expect(rig.lines.find(({ reason }) => reason === 'undecidable')?.['hint']).toContain('tls.clientCa')
  })

  test('is known by its issuer: the same serial of another CA is not meant', async () => {
    const pki = await makePki()
    const another = await makeCa({ name: 'Another CA' })
    const client = await another.issue({ serial: pki.client.serial })
    await using rig = await makeRig({ pki, crl: await pki.ca.crl({ revoked: [pki.client] }) })
    await replace(rig, rig.files.ca, pki.ca.certificate + another.certificate)
    expect(await rig.provider('test-secret', { client })).toMatchObject({ status: 200 })
    expect(await bytesFor(rig, pki.client, 'TLSv1.3')).toBe('')
  })
})

async function expectRefusedAndClosed(wire: Awaited<ReturnType<typeof openWire>>): Promise<void> {
  const answer = await wire.next()
  expect(answer).toMatchObject({ status: 403, body: '' })
  expect(answer.headers.get('gmsa-error')).toBe('CERTIFICATE_REFUSED')
  expect(answer.headers.get('content-length')).toBe('0')
  expect(answer.headers.get('connection')).toBe('close')
  expect(await wire.rest()).toBe('')
}

describe('the CRL', () => {
  test('that is no CRL, badly signed, of a stranger or expired is a configuration error at start', async () => {
    const pki = await makePki()
    const impostor = await makeCa()
    const stranger = await makeCa({ name: 'Stranger' })
    const past = { thisUpdate: new Date(Date.now() - 2 * HOUR), nextUpdate: new Date(Date.now() - HOUR) }
    const lists = [
      ['garbage', 'not a CRL'],
      [await impostor.crl(), 'bad signature'],
      [await stranger.crl(), 'its issuer is none'],
      [await pki.ca.crl(past), 'past its next update'],
      [await pki.ca.crl({ nextUpdate: null }), 'states no nextUpdate'],
      [(await pki.ca.crl()).slice(0, 200), 'not a CRL'],
    ] as const
    for (const [crl, problem] of lists) {
      const refusal = await makeRig({ pki, crl }).catch((error) => error)
      expect(refusal).toMatchObject({ code: 'CONFIG_INVALID' })
      expect(refusal.message).toContain('ca.crl')
      expect(refusal.message).toContain(problem)
    }
  })

  test('that is missing is a configuration error at start', async () => {
    const pki = await makePki()
    await using rig = await makeRig({ pki })
    const tls = { ...rig.files.server, clientCa: rig.files.ca, crl: '/nowhere/ca.crl', crlExpired: 'refuse' as const }
    await expect(makeRig({ pki, config: { tls } })).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })

  test('that breaks later changes nothing: the last good one holds, with metric and log line', async () => {
    const pki = await makePki()
    const other = await pki.ca.issue()
    await using rig = await makeRig({ pki, crl: await pki.ca.crl({ revoked: [pki.client] }) })
    const failed = () => metric(rig, 'certificate_reload_total', { outcome: 'failed' })
    const past = { thisUpdate: new Date(Date.now() - 2 * HOUR), nextUpdate: new Date(Date.now() - HOUR) }
    const broken = ['garbage', await (await makeCa()).crl(), await pki.ca.crl(past)]
    for (const [index, crl] of broken.entries()) {
      await replace(rig, `${rig.directory}/ca/ca.crl`, crl)
      expect(await failed()).toBe(index + 1)
      await rig.service.reloadTls()
      expect(await failed()).toBe(index + 1)
      expect(await bytesFor(rig, pki.client, 'TLSv1.3')).toBe('')
      expect(await rig.provider('test-secret', { client: other })).toMatchObject({ status: 200 })
    }
    expect(rig.lines.filter(({ level, part }) => level === 'error' && part === 'crl')).toHaveLength(broken.length)
    await replace(rig, `${rig.directory}/ca/ca.crl`, await pki.ca.crl({ revoked: [other] }))
    expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
    expect(await bytesFor(rig, other, 'TLSv1.3')).toBe('')
  })

  test('that is expired is taken with a warning where crlExpired is warn', async () => {
    const pki = await makePki()
    const other = await pki.ca.issue()
    const past = { thisUpdate: new Date(Date.now() - 2 * HOUR), nextUpdate: new Date(Date.now() - HOUR) }
    await using first = await makeRig({ pki })
    const crl = `${first.directory}/ca/ca.crl`
    await writeFile(crl, await pki.ca.crl({ ...past, revoked: [other] }))
    const tls = { ...first.files.server, clientCa: first.files.ca, crl, crlExpired: 'warn' as const }
    await using rig = await makeRig({ pki, config: { tls } })
    expect(rig.lines.some(({ level, file }) => level === 'warn' && file === crl)).toBe(true)
    expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
    expect(await bytesFor(rig, other, 'TLSv1.3')).toBe('')
  })
})

describe('a change of the CA file', () => {
  test('voids old session tickets', async () => {
    await using rig = await makeRig()
    const another = await makeCa({ name: 'Another CA' })
    const tickets = []
    for (const version of VERSIONS) tickets.push([version, await takeSession(rig, rig.pki.client, version)] as const)
    await replace(rig, rig.files.ca, rig.pki.ca.certificate + another.certificate)
    for (const [version, session] of tickets) {
      using wire = await openWire(rig, { session, ...only(version) })
      wire.write(GOOD)
      expect(await wire.next()).toMatchObject({ status: 200 })
      expect(wire.socket.isSessionReused()).toBe(false)
    }
  })

  test('lets an open connection go on whose leaf chains to the new file, and ends the others', async () => {
    await using rig = await makeRig()
    const another = await makeCa({ name: 'Another CA' })
    const middle = await makeCa({ name: 'Middle', parent: rig.pki.ca })
    const leaf = await middle.issue()
    await replace(rig, rig.files.ca, rig.pki.ca.certificate + another.certificate)
    const clients = {
      ours: rig.pki.client,
      another: await another.issue(),
      undecidable: { ...leaf, certificate: leaf.certificate + middle.chain },
    }
    const open = async (client: TestCertificate) => {
      const wire = await openWire(rig, { client })
      wire.write(GOOD)
      expect(await wire.next()).toMatchObject({ status: 200 })
      return wire
    }
    using ours = await open(clients.ours)
    using theirs = await open(clients.another)
    using undecidable = await open(clients.undecidable)
    await replace(rig, rig.files.ca, rig.pki.ca.certificate)
    for (const wire of [ours, theirs, undecidable]) wire.write(GOOD)
    expect(await ours.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    await expectRefusedAndClosed(theirs)
    await expectRefusedAndClosed(undecidable)
    // A new connection shows the intermediate again, and all is well.
    expect(await rig.provider('test-secret', { client: clients.undecidable })).toMatchObject({ status: 200 })
    expect(await bytesFor(rig, clients.another, 'TLSv1.3')).toBe('')
  })

  test('to one that is cut off in the middle, or empty, is not taken', async () => {
    await using rig = await makeRig()
    const another = await makeCa({ name: 'Another CA' })
    const client = await another.issue()
    const both = rig.pki.ca.certificate + another.certificate
    await replace(rig, rig.files.ca, both)
    for (const text of [both.slice(0, -60), '']) {
      const before = await metric(rig, 'certificate_reload_total', { outcome: 'failed' })
      await replace(rig, rig.files.ca, text)
      expect(await metric(rig, 'certificate_reload_total', { outcome: 'failed' })).toBe(before + 1)
      expect(await rig.provider('test-secret', { client })).toMatchObject({ status: 200 })
    }
  })
})

test('a handshake that began before a change of the CA file is judged by the new file', async () => {
  await using rig = await makeRig()
  const another = await makeCa({ name: 'Another CA' })
  const client = await another.issue()
  await replace(rig, rig.files.ca, rig.pki.ca.certificate + another.certificate)
  const raw = createConnection({ host: '127.0.0.1', port: rig.service.port })
  await once(raw, 'connect')
  // Accepted by now: a later connection has been served.
  expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
  await replace(rig, rig.files.ca, rig.pki.ca.certificate)
  await expectRejected(rig, 'untrusted', () => sendAndClose(rig, GOOD, { client, socket: raw }).catch(() => ''))
})

describe('a certificate that expires while its connection is open', () => {
  test('is answered 403 without body from then on', async () => {
    const clock = movableClock()
    await using rig = await makeRig({ clock })
    const client = await rig.pki.ca.issue({ notAfter: new Date(Date.now() + HOUR) })
    using wire = await openWire(rig, { client })
    wire.write(GOOD)
    expect(await wire.next()).toMatchObject({ status: 200 })
    clock.moveTo(Date.now() + HOUR - 10_000)
    wire.write(GOOD)
    expect(await wire.next()).toMatchObject({ status: 200 })
    clock.moveTo(Date.now() + HOUR + 10_000)
    wire.write(GOOD)
    await expectRefusedAndClosed(wire)
  })
})

test('both addresses of the service speak TLS with the same certificate', async () => {
  await using rig = await makeRig()
  for (const host of rig.service.hosts) {
    using wire = await openWire(rig, { host })
    expect((wire.socket as TLSSocket).getPeerX509Certificate()?.serialNumber).toBe(rig.pki.server.serial)
  }
})

import { once } from 'node:events'
import { createConnection } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeCa, type TestCertificate } from '../fakes/pki.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { needs } from '../lab/skip.ts'
import { bytesFor, expectRefusedAndClosed, expectRejected, only, replace, takeSession, VERSIONS } from './handshake.ts'
import { CREDENTIAL_BODY, GOOD, LAST, metric, movableClock, openWire, run, sendAndClose } from './wire.ts'

const HOUR = 3_600_000

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

  test.skipIf(!needs('openssl'))('of openssl s_client with TLS 1.2 is accepted', async () => {
    const { client, ca } = rig.files
    const args = ['-connect', `127.0.0.1:${rig.service.port}`, '-cert', client.certificate, '-key', client.key]
    const { text } = await run('openssl', ['s_client', ...args, '-CAfile', ca, '-tls1_2', '-ign_eof', '-quiet'], LAST)
    expect(text).toContain(CREDENTIAL_BODY)
  })

  test.skipIf(!needs('openssl'))('is made once: a client can not renegotiate, and so not become another', async () => {
    const { client } = rig.files
    const connection = `-connect 127.0.0.1:${rig.service.port} -cert ${client.certificate} -key ${client.key} -tls1_2`
    const ask = (first: string) => {
      const input = `sleep 0.2; printf '${first}'; sleep 0.3; printf '${JSON.stringify(LAST).slice(1, -1)}'; sleep 0.3`
      return run('sh', ['-c', `(${input}) | openssl s_client ${connection}`])
    }
    expect((await ask('')).text).toContain(CREDENTIAL_BODY)
    // A line that begins with R makes this program renegotiate.
    const { text } = await ask('R\\n')
    expect(text).toContain('RENEGOTIATING')
    expect(text).not.toContain(CREDENTIAL_BODY)
  })

  test.each(VERSIONS)('with %s is accepted', async (version) => {
    expect(await bytesFor(rig, rig.pki.client, version)).toContain(CREDENTIAL_BODY)
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
  await expectRejected(rig, 'untrusted', () => sendAndClose(rig, LAST, { client, socket: raw }))
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

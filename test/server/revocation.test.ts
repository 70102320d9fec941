import { describe, expect, test } from 'vitest'
import { makeCa, makePki } from '../fakes/pki.ts'
import { makeRig } from '../fakes/rig.ts'
import { bytesFor, expectRefusedAndClosed, expectRejected, only, replace, takeSession, VERSIONS } from './handshake.ts'
import { CREDENTIAL_BODY, GOOD, LAST, metric, openWire, put, sendAndClose } from './wire.ts'

const HOUR = 3_600_000

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
    const attempt = () => sendAndClose(rig, LAST, { session, ...only(version) })
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
    for (const session of tickets) expect(await sendAndClose(rig, LAST, { session, ...only(version) })).toBe('')
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
    expect(await sendAndClose(rig, LAST, { client: leaf, session })).toBe('')
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
    await put(crl, await pki.ca.crl({ ...past, revoked: [other] }))
    const tls = { ...first.files.server, clientCa: first.files.ca, crl, crlExpired: 'warn' as const }
    await using rig = await makeRig({ pki, config: { tls } })
    expect(rig.lines.some(({ level, file }) => level === 'warn' && file === crl)).toBe(true)
    expect(await rig.provider('test-secret')).toMatchObject({ status: 200 })
    expect(await bytesFor(rig, other, 'TLSv1.3')).toBe('')
  })
})

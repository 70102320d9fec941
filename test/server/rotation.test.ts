import { mkdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { expect, test } from 'vitest'
import { makeCa, makePki, type TestCertificate } from '../fakes/pki.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { CREDENTIAL_BODY, eventually, metric, openWire, put } from './wire.ts'

/** The serial of the certificate that a new handshake shows at this address. */
async function serialAt(rig: Rig, host: string): Promise<string> {
  const options = { host, port: rig.service.port, servername: 'localhost', rejectUnauthorized: false }
  const socket = connect({ ...options, cert: rig.pki.client.certificate, key: rig.pki.client.key })
  try {
    await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject))
    return socket.getPeerX509Certificate()?.serialNumber ?? ''
  } finally {
    socket.destroy()
  }
}

/** Waits until the service has noticed by itself, on both addresses. */
async function expectSerial(rig: Rig, serial: string): Promise<void> {
  expect(rig.service.hosts).toEqual(['127.0.0.1', '::1'])
  for (const host of rig.service.hosts)
    await eventually(async () => (await serialAt(rig, host)) === serial, `new certificate at ${host}`)
}

/** Puts both files in place by a rename each, as an editor or a script would. */
async function putByRename(files: { readonly certificate: string; readonly key: string }, pair: TestCertificate) {
  await put(files.certificate, pair.certificate)
  await put(files.key, pair.key)
}

/** Clients that ask without a pause: some on one connection each, some on a new connection for every request. */
function keepAsking(rig: Rig, clients: () => readonly TestCertificate[], ...more: string[]) {
  const agents = [new Agent({ keepAlive: true, maxSockets: 1 }), new Agent({ keepAlive: true, maxSockets: 1 })]
  const failures: string[] = []
  let count = 0
  let going = true
  // Every client trusts both old and new server CAs, as it would during a rotation.
  const ca = [rig.pki.ca.certificate, ...more]
  const ask = async (index: number) => {
    while (going) {
      const all = clients()
      const client = all[index % all.length]
      const agent = agents[index] ?? false
      const reply = await rig
        .provider('test-secret', { agent, ca, ...(client && { client }) })
        .catch((error) => ({ status: 0, body: String(error) }))
      count++
      if (reply.status !== 200 || reply.body !== CREDENTIAL_BODY)
        failures.push(`${index}: ${reply.status} ${reply.body}`)
    }
  }
  const running = Promise.all(Array.from({ length: 4 }, (_, index) => ask(index)))
  return {
    async more(requests: number) {
      const goal = count + requests
      await eventually(() => count >= goal, `${requests} more requests`)
    },
    async stop() {
      going = false
      await running
      for (const agent of agents) agent.destroy()
      return { count, failures }
    },
  }
}

test('two rotations in a row by rename, noticed by the service itself, fail no request', async () => {
  await using rig = await makeRig({ config: { limits: { requestsPerSecond: 100_000 } } })
  const traffic = keepAsking(rig, () => [rig.pki.client])
  await traffic.more(20)
  for (let round = 0; round < 2; round++) {
    const next = await rig.pki.ca.issueServer({ key: round === 0 ? 'rsa' : 'ec' })
    await putByRename(rig.files.server, next)
    await expectSerial(rig, next.serial)
    await traffic.more(20)
  }
  const { count, failures } = await traffic.stop()
  expect(failures).toEqual([])
  expect(count).toBeGreaterThan(60)
  expect(await metric(rig, 'certificate_reload_total', { outcome: 'ok' })).toBe(2)
})

/** A volume as the kubelet makes it: files are links into `..data`, which is a link to a dated folder. */
async function writeVolume(root: string, version: string, files: Record<string, string>): Promise<void> {
  await mkdir(join(root, `..${version}`), { recursive: true })
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(root, `..${version}`, name), text)
    await symlink(join('..data', name), join(root, name)).catch(() => {})
  }
  const old = await readlink(join(root, '..data')).catch(() => undefined)
  await symlink(`..${version}`, join(root, '..data_tmp'))
  await rename(join(root, '..data_tmp'), join(root, '..data'))
  if (old) await rm(join(root, old), { recursive: true })
}

test('a rotation of the CA by swaps of ..data, noticed by the service itself, fails no request', async () => {
  const pki = await makePki()
  const next = await makeCa({ name: 'Next CA' })
  await using base = await makeRig({ pki })
  const root = join(base.directory, 'volume')
  const volume = (version: string, ca: string, server: TestCertificate) =>
    writeVolume(root, version, { 'ca.crt': ca, 'tls.crt': server.certificate, 'tls.key': server.key })
  await volume('1', pki.ca.certificate, pki.server)
  const paths = { certificate: join(root, 'tls.crt'), key: join(root, 'tls.key'), clientCa: join(root, 'ca.crt') }
  const limits = { requestsPerSecond: 100_000 }
  await using rig = await makeRig({ pki, config: { tls: { ...paths, crlExpired: 'refuse' }, limits } })

  let clients = [pki.client]
  const traffic = keepAsking(rig, () => clients, next.certificate)
  await traffic.more(20)
  const reloads = () => metric(rig, 'certificate_reload_total', { outcome: 'ok' })

  await volume('2', pki.ca.certificate + next.certificate, pki.server)
  await eventually(async () => (await reloads()) === 1, 'both CAs')
  await traffic.more(20)
  const server = await next.issueServer()
  clients = [await next.issue({ uri: ['spiffe://localhost/client/test'] })]
  await volume('3', pki.ca.certificate + next.certificate, server)
  await expectSerial(rig, server.serial)
  await traffic.more(20)
  const { failures, count } = await traffic.stop()
  expect(failures).toEqual([])
  expect(count).toBeGreaterThan(50)

  const onward = keepAsking(rig, () => clients, next.certificate)
  await onward.more(20)
  await volume('4', next.certificate, server)
  await eventually(async () => (await reloads()) === 3, 'the new CA alone')
  await onward.more(20)
  const second = await next.issueServer()
  await volume('5', next.certificate, second)
  await eventually(async () => (await reloads()) === 4, 'another certificate')
  await onward.more(20)
  expect((await onward.stop()).failures).toEqual([])
  await expect(openWire(rig, { client: pki.client }).then((wire) => wire.next())).rejects.toThrow()
})

test('a pair of which only one half is there changes nothing until the second half comes', async () => {
  await using rig = await makeRig()
  const failed = () => metric(rig, 'certificate_reload_total', { outcome: 'failed' })
  const next = await rig.pki.ca.issueServer()
  using open = await openWire(rig)

  await put(rig.files.server.certificate, next.certificate)
  await eventually(async () => (await failed()) === 1, 'a failed reload')
  expect(await serialAt(rig, '127.0.0.1')).toBe(rig.pki.server.serial)
  expect(rig.lines.some(({ level, part }) => level === 'error' && part === 'certificate')).toBe(true)

  await put(rig.files.server.certificate, next.certificate.slice(0, -80))
  await rig.service.reloadTls()
  expect(await failed()).toBe(2)
  await put(rig.files.server.certificate, next.certificate + rig.pki.ca.certificate.slice(0, -80))
  await put(rig.files.server.key, next.key)
  await rig.service.reloadTls()
  expect(await failed()).toBeGreaterThanOrEqual(3)
  expect(await serialAt(rig, '::1')).toBe(rig.pki.server.serial)
  await rm(rig.files.server.certificate)
  await rig.service.reloadTls()
  expect(await serialAt(rig, '::1')).toBe(rig.pki.server.serial)

  await put(rig.files.server.certificate, next.certificate)
  await expectSerial(rig, next.serial)
  open.write('GET /provider HTTP/1.1\r\nHost: localhost\r\nobject: test-secret\r\n\r\n')
  expect(await open.next()).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
})

test('a new certificate that is not valid now does not replace a valid one', async () => {
  await using rig = await makeRig()
  const next = await rig.pki.ca.issueServer({ notBefore: new Date(Date.now() + 3_600_000) })
  await putByRename(rig.files.server, next)
  await rig.service.reloadTls()
  expect(await serialAt(rig, '127.0.0.1')).toBe(rig.pki.server.serial)
  expect(await metric(rig, 'certificate_reload_total', { outcome: 'failed' })).toBe(1)
})

test('the metrics say when the certificates in use began and end', async () => {
  await using rig = await makeRig()
  const notAfter = new Date(Math.floor(Date.now() / 1000) * 1000 + 1_800_000)
  const notBefore = new Date(notAfter.getTime() - 3_600_000)
  await putByRename(rig.files.server, await rig.pki.ca.issueServer({ notBefore, notAfter }))
  await rig.service.reloadTls()
  const expiry = (role: string) => metric(rig, 'certificate_expiry_timestamp_seconds', { role })
  expect(await expiry('server')).toBe(notAfter.getTime() / 1000)
  expect(await expiry('client_ca')).toBeGreaterThan(Date.now() / 1000)
  expect(await metric(rig, 'certificate_start_timestamp_seconds', { role: 'server' })).toBe(notBefore.getTime() / 1000)
})

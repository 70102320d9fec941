import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { describeClient, describeServer } from '../../src/cli/certificate-report.ts'
import { loadTls, type TlsMaterial } from '../../src/server/tls.ts'
import { makeCa, makePki, type Pki, type PkiFiles, type TestCertificate, writePki } from '../fakes/pki.ts'

let directory: string
let pki: Pki
let files: PkiFiles
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'gmsa-report-'))
  pki = await makePki()
  files = await writePki(directory, pki)
})
afterEach(() => rm(directory, { recursive: true, force: true }))

async function load(crl?: string): Promise<TlsMaterial> {
  const path = join(directory, 'ca.crl')
  if (crl) await writeFile(path, crl)
  const more = crl ? { crl: path } : {}
  return loadTls({
    files: { ...files.server, clientCa: files.ca, crlExpired: 'refuse', ...more },
    clock: systemClock,
    log: silentLog,
  })
}

async function describeOf(client: TestCertificate, material: TlsMaterial, chain = ''): Promise<string> {
  const paths = { certificate: join(directory, 'c.crt'), key: join(directory, 'c.key') }
  await writeFile(paths.certificate, client.certificate + chain)
  await writeFile(paths.key, client.key)
  return describeClient(paths, material, Date.now())
}

describe('what check says of certificates', () => {
  test('a good client and server are described', async () => {
    const material = await load()
    expect(describeServer(material, Date.now(), true)).toMatch(/DNS:localhost.* 0 days left; 1 client CA/)
    expect(await describeOf(pki.client, material)).toMatch(/CN=test, 0 days left/)
  })

  test('a server that is not for localhost is refused where the plug-in needs it', async () => {
    const other = await pki.ca.issue({ dns: ['other.example'], usages: ['serverAuth'] })
    await writeFile(files.server.certificate, other.certificate)
    await writeFile(files.server.key, other.key)
    const material = await load()
    expect(() => describeServer(material, Date.now(), true)).toThrow(/not for localhost/)
    expect(describeServer(material, Date.now(), false)).toContain('other.example')
    expect(() => describeServer(material, Date.now() + 30 * 86_400_000, false)).toThrow(/so not now/)
  })

  test('a client of a foreign CA, for servers only, or with another key is refused', async () => {
    const material = await load()
    await expect(describeOf(await (await makeCa()).issue(), material)).rejects.toThrow(/does not chain/)
    await expect(describeOf(await pki.ca.issue({ usages: ['serverAuth'] }), material)).rejects.toThrow(/client auth/)
    const mixed = { ...pki.client, key: pki.server.key }
    await expect(describeOf(mixed, material)).rejects.toThrow(/not the private key/)
  })

  test('with a CRL it judges as the service does: revoked, and chains that the CA file has not', async () => {
    const below = await makeCa({ name: 'Intermediate', parent: pki.ca })
    const leaf = await below.issue()
    expect(await describeOf(leaf, await load(), below.chain)).toContain('CN=test')
    const material = await load(await pki.ca.crl({ revoked: [pki.client] }))
    await expect(describeOf(pki.client, material)).rejects.toThrow(/revoked by tls\.crl/)
    await expect(describeOf(leaf, material, below.chain)).rejects.toThrow(/every intermediate belongs/)
    expect(await describeOf(await pki.ca.issue(), material)).toContain('CN=test')
  })
})

import { execFile } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CertificateRequest, generateKeys, issueCertificate, type KeyPair } from '../../src/crypto/certificate.ts'
import { makeCa, type TestCertificate } from '../fakes/pki.ts'
import { needs } from '../lab/skip.ts'

const run = promisify(execFile)
const notBefore = new Date('2026-01-02T03:04:05.678Z')
const notAfter = new Date('2026-04-02T03:04:05Z')
let keys: KeyPair
let folder: string

beforeAll(async () => {
  keys = await generateKeys('ec')
  folder = await mkdtemp(join(tmpdir(), 'certificate-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const request = (more: Partial<CertificateRequest> = {}): CertificateRequest => ({
  subject: { commonName: 'node-1' },
  keys,
  notBefore,
  notAfter,
  ...more,
})
const issue = async (more?: Partial<CertificateRequest>) =>
  new X509Certificate((await issueCertificate(request(more))).certificate)

describe('an issued certificate', () => {
  test('carries the names asked for, each attribute on its own', async () => {
    const { subject, subjectAltName } = await issue({
      subject: { organization: 'Contoso, Zürich', commonName: 'node-1' },
      names: { dns: ['node-1.contoso.com'], ip: ['10.1.2.3', '2001:db8::7', '::'], uri: ['spiffe://contoso.com/n/1'] },
    })
    expect(subject).toBe('O=Contoso\\, Zürich\nCN=node-1')
    expect(subjectAltName).toBe(
      'DNS:node-1.contoso.com, IP Address:10.1.2.3, IP Address:2001:DB8:0:0:0:0:0:7, IP Address:0:0:0:0:0:0:0:0, URI:spiffe://contoso.com/n/1',
    )
  })

  test('is valid for the dates given, in whole seconds, past 2049 as well', async () => {
    const { validFromDate, validToDate } = await issue({ notAfter: new Date('2050-01-01T00:00:00Z') })
    expect(validFromDate.toISOString()).toBe('2026-01-02T03:04:05.000Z')
    expect(validToDate.toISOString()).toBe('2050-01-01T00:00:00.000Z')
  })

  test('has a positive random serial of 16 bytes unless one is given', async () => {
    const serials = await Promise.all(Array.from({ length: 20 }, async () => (await issue()).serialNumber))
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/)
    expect(new Set(serials).size).toBe(20)
    expect((await issueCertificate(request({ serial: 'ff01' }))).serial).toBe('FF01')
    expect((await issueCertificate(request({ serial: 'A' }))).serial).toBe('0A')
  })

  test.each(['ec', 'rsa'] as const)('is verified by its %s issuer, and by no other', async (key) => {
    const [ca, other] = [await makeCa({ key }), await makeCa({ key })]
    const leaf = await ca.issue({ key })
    const certificate = new X509Certificate(leaf.certificate)
    const root = new X509Certificate(ca.certificate)
    expect(certificate.verify(root.publicKey)).toBe(true)
    expect(certificate.checkIssued(root)).toBe(true)
    expect(certificate.verify(new X509Certificate(other.certificate).publicKey)).toBe(false)
    expect(certificate.checkPrivateKey(createPrivateKey(leaf.key))).toBe(true)
    expect([root.ca, certificate.ca]).toEqual([true, false])
  })

  test('is refused where it could not be valid', async () => {
    const ed25519 = generateKeyPairSync('ed25519')
    const wrong: [Partial<CertificateRequest>, string][] = [
      [{ notAfter: notBefore }, 'notAfter'],
      [{ notBefore: new Date(Number.NaN) }, 'notAfter'],
      [{ serial: '0' }, 'serial'],
      [{ serial: 'xyz' }, 'serial'],
      [{ serial: '1'.repeat(41) }, 'serial'],
      [{ subject: { commonName: '' } }, 'nobody'],
      [{ names: { ip: ['10.0.0.256'] } }, 'IP address'],
      [{ names: { ip: ['fe80::1%eth0'] } }, 'IP address'],
      [{ names: { dns: ['zürich.ch'] } }, 'ASCII'],
      [{ permittedNames: { ip: ['10.0.0.0/33'] } }, 'CIDR'],
      [{ permittedNames: { ip: ['10.0.0.0'] } }, 'CIDR'],
      [{ keys: ed25519 }, 'EC P-256 or RSA'],
    ]
    for (const [more, message] of wrong) await expect(issueCertificate(request(more))).rejects.toThrow(message)
  })
})

describe.skipIf(!needs('openssl'))('OpenSSL, in its strict mode', () => {
  async function verify(leaf: TestCertificate, ca: string, ...options: string[]): Promise<string> {
    await writeFile(join(folder, 'ca.pem'), ca)
    await writeFile(join(folder, 'leaf.pem'), leaf.certificate)
    const command = ['verify', '-x509_strict', '-CAfile', 'ca.pem', ...options, 'leaf.pem']
    return run('openssl', command, { cwd: folder }).then(
      ({ stdout }) => stdout.trim(),
      ({ stderr }) => stderr,
    )
  }

  test.each(['ec', 'rsa'] as const)('accepts a chain of %s keys, each leaf for its own use only', async (key) => {
    const root = await makeCa({ key, name: 'Root' })
    const middle = await makeCa({ key, name: 'Middle', parent: root })
    await writeFile(join(folder, 'chain.pem'), middle.chain)
    const chain = ['-untrusted', 'chain.pem', '-purpose']
    const client = await middle.issue({ key })
    const server = await middle.issueServer({ key })
    expect(await verify(client, root.certificate, ...chain, 'sslclient')).toBe('leaf.pem: OK')
    expect(await verify(client, root.certificate, ...chain, 'sslserver')).toContain('unsuitable certificate purpose')
    expect(await verify(server, root.certificate, ...chain, 'sslserver')).toBe('leaf.pem: OK')
    expect(await verify(server, root.certificate, ...chain, 'sslclient')).toContain('unsuitable certificate purpose')
  })

  test('holds leaves to the names a CA is limited to', async () => {
    const permittedNames = { dns: ['localhost'], ip: ['127.0.0.0/8', '::1/128'], uriHost: ['localhost'] }
    const ca = await issueCertificate(
      request({ ca: true, pathLength: 0, permittedNames, subject: { commonName: 'CA' } }),
    )
    const issuer = { certificate: ca.certificate, privateKey: keys.privateKey }
    const check = async (names: NonNullable<CertificateRequest['names']>) => {
      const leaf = await issueCertificate(request({ issuer, names }))
      return verify({ ...leaf, key: '' }, ca.certificate, '-attime', `${notAfter.getTime() / 1000 - 60}`)
    }
    const inside = { dns: ['localhost'], ip: ['127.0.0.1', '127.255.0.1', '::1'], uri: ['spiffe://localhost/x'] }
    expect(await check(inside)).toBe('leaf.pem: OK')
    for (const outside of [
      { dns: ['contoso.com'] },
      { ip: ['128.0.0.1'] },
      { ip: ['::2'] },
      { uri: ['spiffe://x/y'] },
    ]) {
      expect(await check(outside)).toContain('permitted subtree violation')
    }
  })

  test('finds key identifiers that match, and the usages of an RSA server', async () => {
    const root = await makeCa()
    await writeFile(join(folder, 'root.pem'), root.certificate)
    const server = await root.issueServer({ key: 'rsa' })
    await writeFile(join(folder, 'server.pem'), server.certificate)
    const show = async (file: string, extension: string) =>
      (await run('openssl', ['x509', '-in', join(folder, file), '-noout', '-ext', extension])).stdout
    const identifier = /(?:[0-9A-F]{2}:){19}[0-9A-F]{2}/
    const own = identifier.exec(await show('root.pem', 'subjectKeyIdentifier'))?.[0]
    expect(own).toBeDefined()
    expect(identifier.exec(await show('server.pem', 'authorityKeyIdentifier'))?.[0]).toBe(own)
    expect(await show('server.pem', 'keyUsage')).toMatch(/critical\s+Digital Signature, Key Encipherment\s*$/)
    expect(await show('root.pem', 'keyUsage')).toMatch(/critical\s+Certificate Sign, CRL Sign\s*$/)
  })
})

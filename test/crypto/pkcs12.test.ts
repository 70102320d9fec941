import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, createServer } from 'node:tls'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pkcs12Kdf, writePkcs12 } from '../../src/crypto/pkcs12.ts'
import { makeCa, makePki, type TestCa, type TestCertificate } from '../fakes/pki.ts'
import { needs } from '../lab/skip.ts'
import published from '../vectors/pkcs12-kdf.json' with { type: 'json' }

const run = promisify(execFile)
const PURPOSES = { key: 1, iv: 2, mac: 3 } as const
const hex = (text: string) => Buffer.from(text, 'hex')

describe('the key derivation of PKCS #12', () => {
  test.each(published.vectors)('gives the published $purpose of salt $salt', ({ purpose, ...vector }) => {
    const output = hex(vector.output)
    const { password, salt, iterations } = vector
    const derived = pkcs12Kdf('sha1', purpose as 'key', hex(password), hex(salt), iterations, output.length)
    expect(derived).toEqual(output)
  })

  test.skipIf(!needs('openssl'))('agrees with OpenSSL on the empty password, long outputs and SHA-256', async () => {
    const salt = '000102030405060708090a0b0c0d0e0f'.repeat(5)
    for (const [digest, password, purpose, length] of [
      ['sha256', '0000', 'mac', 32],
      ['sha256', '', 'key', 100],
      ['sha1', '0000', 'key', 24],
      ['sha1', '0061'.repeat(70), 'iv', 61],
    ] as const) {
      const options = [
        `digest:${digest}`,
        `hexpass:${password}`,
        `hexsalt:${salt}`,
        'iter:7',
        `id:${PURPOSES[purpose]}`,
      ]
      const kdf = options.flatMap((option) => ['-kdfopt', option])
      const { stdout } = await run('openssl', ['kdf', '-keylen', `${length}`, ...kdf, 'PKCS12KDF'])
      expect(pkcs12Kdf(digest, purpose, hex(password), hex(salt), 7, length)).toEqual(
        hex(stdout.replaceAll(/[:\s]/g, '')),
      )
    }
  })

  test('refuses a length or count that is none', () => {
    for (const bad of [0, -1, 1.5, Number.NaN]) {
      expect(() => pkcs12Kdf('sha1', 'key', hex('0000'), hex('00'), bad, 8)).toThrow(RangeError)
      expect(() => pkcs12Kdf('sha1', 'key', hex('0000'), hex('00'), 1, bad)).toThrow(RangeError)
    }
  })
})

const forms = [
  { key: 'rsa', encryption: 'compat' },
  { key: 'ec', encryption: 'compat' },
  { key: 'rsa', encryption: 'aes256' },
  { key: 'ec', encryption: 'aes256' },
] as const

describe('a password-less PFX', () => {
  let folder: string
  let ca: TestCa
  let leaves: Record<'rsa' | 'ec', TestCertificate>

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pkcs12-'))
    ca = await makeCa()
    leaves = { rsa: await ca.issue({ key: 'rsa' }), ec: await ca.issue({ key: 'ec' }) }
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  async function write({ key, encryption }: (typeof forms)[number], chain = ''): Promise<string> {
    const { certificate, key: privateKey } = leaves[key]
    const path = join(folder, `${key}-${encryption}.pfx`)
    await writeFile(path, writePkcs12({ certificate: certificate + chain, key: privateKey, encryption }))
    return path
  }

  const openssl = needs('openssl')

  test.skipIf(!openssl).each(forms)('with $key key, $encryption, opens in OpenSSL with the same key', async (form) => {
    const path = await write(form)
    const read = (...more: string[]) => run('openssl', ['pkcs12', '-in', path, '-passin', 'pass:', ...more])
    const { key, certificate } = leaves[form.key]
    expect((await read('-nocerts', '-nodes')).stdout).toContain(key.trim())
    expect((await read('-nokeys')).stdout).toContain(certificate.trim())
    const { stdout, stderr } = await read('-info', '-nodes')
    const used = stderr + stdout
    if (form.encryption === 'compat') {
      expect(used).toContain('MAC: sha1, Iteration 2048')
      expect(used.match(/: pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048/g)).toHaveLength(2)
    } else {
      expect(used).toContain('MAC: sha256, Iteration 2048')
      expect(used.match(/: PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256/g)).toHaveLength(2)
    }
    const ids = [...used.matchAll(/localKeyID: ([0-9A-F ]+)/g)].map(([, id]) => id)
    expect(ids).toHaveLength(2)
    expect(ids[0]).toBe(ids[1])
  })

  test.skipIf(!openssl)('holds the issuers given after the certificate', async () => {
    const path = await write(forms[0], ca.certificate)
    const { stdout } = await run('openssl', ['pkcs12', '-in', path, '-passin', 'pass:', '-nokeys', '-cacerts'])
    expect(stdout).toContain(ca.certificate.trim())
  })

  test.each(forms)('with $key key, $encryption, is a client certificate for Node', async (form) => {
    const { ca: root, server, client } = await makePki({ key: form.key })
    const pfx = writePkcs12({ certificate: client.certificate, key: client.key, encryption: form.encryption })
    const listener = createServer(
      { cert: server.certificate, key: server.key, ca: root.certificate, requestCert: true, rejectUnauthorized: true },
      (socket) => socket.end(socket.getPeerX509Certificate()?.serialNumber ?? 'nobody'),
    )
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    const { port } = listener.address() as AddressInfo
    const seen = await new Promise<string>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', ca: root.certificate, pfx })
      socket.on('data', (data) => resolve(data.toString())).on('error', reject)
    }).finally(() => listener.close())
    expect(seen).toBe(client.serial)
  })

  test.skipIf(!needs('mono'))(
    'in its compat form opens in Mono with its private key, without and with the empty password',
    async () => {
      const source = `using System; using System.Security.Cryptography.X509Certificates;
        class Open { static void Main(string[] files) { foreach (var file in files)
          foreach (var c in new[] { new X509Certificate2(file), new X509Certificate2(file, "") })
            Console.WriteLine(c.SerialNumber + " " + c.HasPrivateKey); } }`
      await writeFile(join(folder, 'open.cs'), source)
      await run('mcs', ['-out:open.exe', 'open.cs'], { cwd: folder })
      const files = [
        await write({ key: 'rsa', encryption: 'compat' }),
        await write({ key: 'ec', encryption: 'compat' }),
      ]
      const { stdout } = await run('mono', ['open.exe', ...files], { cwd: folder })
      const expected = [leaves.rsa, leaves.rsa, leaves.ec, leaves.ec].map(({ serial }) => `${serial} True`)
      expect(stdout.trim().split('\n')).toEqual(expected)
    },
    30_000,
  )

  test('is the same bytes from the same random bytes, and others from others', () => {
    const { certificate, key } = leaves.rsa
    const file = (fill: number) =>
      writePkcs12({ certificate, key, encryption: 'compat', randomBytes: (size) => Buffer.alloc(size, fill) })
    expect(file(1)).toEqual(file(1))
    expect(file(1)).not.toEqual(file(2))
  })

  test('shows no part of the private key in clear', () => {
    const { certificate, key } = leaves.ec
    const pkcs8 = Buffer.from(key.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64')
    const secret = pkcs8.subarray(36, 68)
    expect(pkcs8.includes(secret)).toBe(true)
    for (const encryption of ['compat', 'aes256'] as const) {
      expect(writePkcs12({ certificate, key, encryption }).includes(secret)).toBe(false)
    }
  })

  test('is refused where key and certificate do not belong together, without quoting them', () => {
    const refusal = (certificate: string, key: string) => {
      try {
        writePkcs12({ certificate, key, encryption: 'compat' })
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError)
        expect((error as Error).cause).toBeUndefined()
        return (error as Error).message
      }
      throw new Error('was written')
    }
    const { rsa, ec } = leaves
    expect(refusal(rsa.certificate, ec.key)).toBe('the private key does not belong to the first certificate')
    expect(refusal(ca.certificate + ec.certificate, ec.key)).toContain('does not belong')
    expect(refusal('', ec.key)).toBe('no PEM certificate given')
    expect(refusal(rsa.certificate.replace('MII', 'MIX'), rsa.key)).toBe("certificate 1 can't be parsed")
    expect(refusal(rsa.certificate, 'canary')).toBe("the private key can't be read: PEM without a password is expected")
  })
})

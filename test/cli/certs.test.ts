import { execFile } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, request, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { certsCommand, makeDevelopmentCertificates } from '../../src/cli/commands/certs.ts'
import { needs } from '../lab/skip.ts'

const run = promisify(execFile)
const FILES = [
  'ca/ca.crt',
  'ca/tls.crt',
  'ca/tls.key',
  'client/ca.crt',
  'client/tls.crt',
  'client/tls.key',
  'client/tls.pfx',
  'server/ca.crt',
  'server/tls.crt',
  'server/tls.key',
]

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'certs-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('development certificates', () => {
  const now = new Date('2026-05-06T07:08:09Z')
  let directory: string
  const text = (name: string) => readFile(join(directory, name), 'utf8')
  const certificate = async (name: string) => new X509Certificate(await text(name))

  beforeAll(async () => {
    directory = join(folder, 'deep', 'fixed')
    await makeDevelopmentCertificates(directory, { now })
  })

  test('come in the layout of the three mounted Secrets, and a PFX', async () => {
    const files = await readdir(directory, { recursive: true, withFileTypes: true })
    const names = files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name))
    expect(names.sort()).toEqual(['.gitignore', ...FILES].map((name) => join(directory, name)).sort())
    const ca = await text('ca/ca.crt')
    for (const name of ['ca/tls.crt', 'server/ca.crt', 'client/ca.crt']) expect(await text(name)).toBe(ca)
    expect(await text('.gitignore')).toBe('*\n')
  })

  test.skipIf(process.platform === 'win32')('keep keys to their owner', async () => {
    const mode = async (name: string) => (await stat(join(directory, name))).mode & 0o777
    for (const name of FILES) expect(await mode(name), name).toBe(name.endsWith('.crt') ? 0o644 : 0o600)
    for (const name of ['.', 'ca', 'server', 'client']) expect(await mode(name), name).toBe(0o700)
  })

  test('last 90 days, and begin a little earlier for clocks that differ', async () => {
    for (const name of ['ca/ca.crt', 'server/tls.crt', 'client/tls.crt']) {
      const { validFromDate, validToDate } = await certificate(name)
      expect(validToDate.toISOString()).toBe('2026-08-04T07:08:09.000Z')
      expect(validFromDate.toISOString()).toBe('2026-05-06T07:03:09.000Z')
    }
  })

  test('have one use each, EC keys for CA and server, RSA for the client', async () => {
    const [ca, server, client] = await Promise.all(['ca/ca.crt', 'server/tls.crt', 'client/tls.crt'].map(certificate))
    expect([ca?.ca, server?.ca, client?.ca]).toEqual([true, false, false])
    expect(server?.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1'])
    expect(client?.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2'])
    expect(server?.subjectAltName).toBe('DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1')
    expect(client?.subjectAltName).toBe('URI:spiffe://localhost/client/demo')
    expect(client?.subject).toBe('O=gmsa-account-provider development\nCN=demo-client')
    expect([ca, server, client].map((each) => each?.publicKey.asymmetricKeyType)).toEqual(['ec', 'ec', 'rsa'])
    for (const name of ['ca', 'server', 'client']) {
      const key = createPrivateKey(await text(`${name}/tls.key`))
      expect((await certificate(`${name}/tls.crt`)).checkPrivateKey(key)).toBe(true)
    }
  })

  test('never overwrite a file, whichever it is', async () => {
    const before = await text('ca/tls.key')
    const again = makeDevelopmentCertificates(directory)
    await expect(again).rejects.toBeInstanceOf(GmsaError)
    await expect(again).rejects.toMatchObject({ hint: expect.stringContaining('another directory') })
    expect(await text('ca/tls.key')).toBe(before)
    const other = join(folder, 'other')
    await mkdir(join(other, 'server'), { recursive: true })
    await writeFile(join(other, 'server', 'tls.key'), 'mine')
    await expect(makeDevelopmentCertificates(other)).rejects.toThrow(/server.tls\.key exists/)
    expect(await readdir(other, { recursive: true })).toEqual(['server', join('server', 'tls.key')])
  })

  test('leave a .gitignore alone, and the mode of a folder that was there', async () => {
    const there = join(folder, 'there')
    await mkdir(there, { mode: 0o755 })
    await writeFile(join(there, '.gitignore'), 'mine')
    await makeDevelopmentCertificates(there, { clientKey: 'ec' })
    expect(await readFile(join(there, '.gitignore'), 'utf8')).toBe('mine')
    if (process.platform !== 'win32') expect((await stat(there)).mode & 0o777).toBe(0o755)
    const client = new X509Certificate(await readFile(join(there, 'client', 'tls.crt')))
    expect(client.publicKey.asymmetricKeyType).toBe('ec')
  })

  test('say which directory could not be written', async () => {
    const file = join(folder, 'file')
    await writeFile(file, '')
    await expect(makeDevelopmentCertificates(join(file, 'below'))).rejects.toThrow(
      /below: can't be written \(ENOTDIR\)/,
    )
  })
})

describe.each([
  { clientKey: 'rsa', pfx: 'compat' },
  { clientKey: 'ec', pfx: 'aes256' },
] as const)('a server and a client with these certificates ($clientKey, $pfx)', ({ clientKey, pfx }) => {
  let directory: string
  let server: Server
  let port: number
  const path = (name: string) => join(directory, name)

  beforeAll(async () => {
    directory = join(folder, `live-${clientKey}`)
    await makeDevelopmentCertificates(directory, { clientKey, pfx })
    const [cert, key, ca] = await Promise.all(
      ['server/tls.crt', 'server/tls.key', 'ca/ca.crt'].map((name) => readFile(path(name))),
    )
    server = createServer({ cert, key, ca, requestCert: true, rejectUnauthorized: true }, ({ socket }, response) =>
      response.end((socket as TLSSocket).getPeerCertificate().subjectaltname),
    )
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    port = (server.address() as AddressInfo).port
  })
  afterAll(() => new Promise((resolve) => server.close(resolve)))

  test.skipIf(!needs('curl'))('meet over curl, by name and by address', async () => {
    const pair = ['--cert', path('client/tls.crt'), '--key', path('client/tls.key')]
    for (const host of ['localhost', '127.0.0.1']) {
      const { stdout } = await run('curl', [
        '-sS',
        '--noproxy',
        '*',
        '-m',
        '10',
        '--cacert',
        path('ca/ca.crt'),
        ...pair,
        `https://${host}:${port}/`,
      ])
      expect(stdout).toBe('URI:spiffe://localhost/client/demo')
    }
  })

  test('meet over Node with the PFX, and with nothing but a client certificate', async () => {
    const ca = await readFile(path('ca/ca.crt'))
    const get = (identity: object) =>
      new Promise<string>((resolve, reject) => {
        const call = request({ host: 'localhost', port, ca, agent: false, ...identity }, (response) =>
          response.setEncoding('utf8').on('data', resolve),
        )
        call.on('error', reject).end()
      })
    expect(await get({ pfx: await readFile(path('client/tls.pfx')) })).toBe('URI:spiffe://localhost/client/demo')
    await expect(get({})).rejects.toThrow()
    const asServer = { cert: await readFile(path('server/tls.crt')), key: await readFile(path('server/tls.key')) }
    await expect(get(asServer)).rejects.toThrow()
  })

  test.skipIf(!needs('openssl'))('are held by OpenSSL to their uses, and the CA to this machine', async () => {
    const verify = (purpose: string, name: string) =>
      run('openssl', ['verify', '-x509_strict', '-CAfile', path('ca/ca.crt'), '-purpose', purpose, path(name)])
    await verify('sslserver', 'server/tls.crt')
    await verify('sslclient', 'client/tls.crt')
    await expect(verify('sslclient', 'server/tls.crt')).rejects.toThrow('unsuitable certificate purpose')
    await expect(verify('sslserver', 'client/tls.crt')).rejects.toThrow('unsuitable certificate purpose')
    const { stdout } = await run('openssl', [
      'x509',
      '-in',
      path('ca/ca.crt'),
      '-noout',
      '-ext',
      'nameConstraints,basicConstraints',
    ])
    expect(stdout).toMatch(/Constraints: critical\s+CA:TRUE, pathlen:0/)
    expect(stdout).toMatch(/Name Constraints: critical\s+Permitted:\s+DNS:localhost\s+URI:localhost\s*$/)
    const { stdout: bags } = await run('openssl', [
      'pkcs12',
      '-in',
      path('client/tls.pfx'),
      '-passin',
      'pass:',
      '-nodes',
    ])
    expect(bags).toContain((await readFile(path('client/tls.key'), 'utf8')).trim())
  })

  // Mono can't read the other form.
  if (pfx === 'aes256') return

  test.skipIf(!needs('mono'))(
    'meet over Mono, which trusts the CA as Windows would',
    async () => {
      const home = path('home')
      const trust = join(home, '.config', '.mono', 'new-certs', 'Trust')
      await mkdir(trust, { recursive: true })
      const ca = ['x509', '-in', path('ca/ca.crt'), '-noout']
      const { stdout: hash } = await run('openssl', [...ca, '-subject_hash_old'])
      await writeFile(join(trust, `${hash.trim()}.0`), await readFile(path('ca/ca.crt')))
      const source = `using System; using System.IO; using System.Net; using System.Security.Cryptography.X509Certificates;
      class Call { static void Main(string[] args) {
        ServicePointManager.SecurityProtocol = SecurityProtocolType.Tls12;
        var call = (HttpWebRequest)WebRequest.Create(args[0]);
        call.ClientCertificates.Add(new X509Certificate2(args[1]));
        using (var answer = call.GetResponse()) Console.Write(new StreamReader(answer.GetResponseStream()).ReadToEnd()); } }`
      await writeFile(path('call.cs'), source)
      await run('mcs', ['-out:call.exe', 'call.cs'], { cwd: directory })
      const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: join(home, '.config') }
      const call = ['call.exe', `https://localhost:${port}/`, path('client/tls.pfx')]
      const { stdout } = await run('mono', call, { cwd: directory, env, timeout: 20_000 })
      expect(stdout).toBe('URI:spiffe://localhost/client/demo')
    },
    40_000,
  )
})

describe('the certs command', () => {
  async function certs(...args: string[]): Promise<string> {
    let shown = ''
    const command = certsCommand((text) => {
      shown += text
    })
    await command
      .exitOverride()
      .configureOutput({ writeErr: () => {} })
      .parseAsync(args, { from: 'user' })
    return shown
  }

  test('writes what it lists, and shows no key', async () => {
    const directory = join(folder, 'command')
    const shown = await certs(directory, '--client-key', 'ec', '--pfx', 'aes256')
    for (const name of FILES) expect(shown).toContain(`  ${name}`)
    expect(shown).toContain('spiffe://localhost/client/demo')
    expect(shown).not.toMatch(/-----|[A-Za-z0-9+/]{60}/)
    const client = new X509Certificate(await readFile(join(directory, 'client', 'tls.crt')))
    expect(client.publicKey.asymmetricKeyType).toBe('ec')
    // 2.16.840.1.101.3.4.1.42, AES-256-CBC
    const aes = Buffer.from('060960864801650304012a', 'hex')
    expect((await readFile(join(directory, 'client', 'tls.pfx'))).includes(aes)).toBe(true)
  })

  test('refuses other kinds of key and file', async () => {
    await expect(certs(join(folder, 'x'), '--client-key', 'dsa')).rejects.toThrow('Allowed choices are rsa, ec')
    await expect(certs(join(folder, 'x'), '--pfx', 'rc2')).rejects.toThrow('Allowed choices are compat, aes256')
    await expect(certs()).rejects.toThrow("missing required argument 'directory'")
  })
})

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { removeHostFiles } from '../../src/server/host-files.ts'
import { makeCa, makePki, type Pki, type PkiFiles, writePki } from '../fakes/pki.ts'
import { makeRig, type Rig, type RigOptions } from '../fakes/rig.ts'
import { needs } from '../lab/skip.ts'
import { eventually, metric, put, run } from './wire.ts'

let root: string
let base: string
let pki: Pki
let files: PkiFiles
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'gmsa-host-'))
  base = join(root, 'rancher', 'gmsa', 'ns')
  pki = await makePki({ key: 'rsa' })
  files = await writePki(join(root, 'pki'), pki)
})
afterEach(() => rm(root, { recursive: true, force: true }))

function makeHostRig(options: RigOptions = {}): Promise<Rig> {
  const ccg = { directory: join(root, 'rancher', 'gmsa'), namespace: 'ns', client: files.client }
  const tls = { ...files.server, clientCa: files.ca, crlExpired: 'refuse' as const }
  return makeRig({ pki, ...options, config: { tls, ccg, ...options.config } })
}

/** Every file and folder below, with its permissions. */
async function tree(folder: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const { mode } = await stat(path)
    found.set(path.slice(folder.length + 1), `${entry.isDirectory() ? 'd' : '-'}${(mode & 0o777).toString(8)}`)
  }
  return found
}

const text = (...path: string[]) => readFile(join(base, ...path), 'utf8')
const serialOf = async (...path: string[]) => new X509Certificate(await readFile(join(base, ...path))).serialNumber

describe('the files for the CCG plug-in', () => {
  test('that can not be written end the start, with what to do', async () => {
    await writeFile(join(root, 'rancher'), 'a file where a folder should be')
    const error = await makeHostRig().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', hint: expect.stringContaining('--skip-artifacts') })
    expect(String(error)).toContain(`${base}: can't be made a private folder of ours (ENOTDIR)`)
  })

  test('L1, L2: are these and no others, private to the service', async () => {
    await using rig = await makeHostRig()
    expect(rig.service.port).toBeGreaterThan(0)
    expect(Object.fromEntries(await tree(base))).toEqual({
      'port.txt': '-600',
      ssl: 'd700',
      'ssl/ca': 'd700',
      'ssl/ca/ca.crt': '-600',
      'ssl/ca/tls.crt': '-600',
      'ssl/client': 'd700',
      'ssl/client/ca.crt': '-600',
      'ssl/client/tls.crt': '-600',
      'ssl/client/tls.pfx': '-600',
      'ssl/server': 'd700',
      'ssl/server/ca.crt': '-600',
      'ssl/server/tls.crt': '-600',
    })
    expect((await stat(base)).mode & 0o777).toBe(0o700)
    expect(await serialOf('ssl', 'ca', 'ca.crt')).toBe(pki.ca.serial)
    expect(await serialOf('ssl', 'server', 'tls.crt')).toBe(pki.server.serial)
    expect(await serialOf('ssl', 'client', 'tls.crt')).toBe(pki.client.serial)
  })

  test('L3: the port file holds digits and nothing else, and goes when the service stops', async () => {
    const rig = await makeHostRig()
    expect(await text('port.txt')).toBe(String(rig.service.port))
    expect(await text('port.txt')).toMatch(/^[1-9]\d{0,4}$/)
    await rig[Symbol.asyncDispose]()
    expect(existsSync(join(base, 'port.txt'))).toBe(false)
    expect(existsSync(join(base, 'ssl', 'client', 'tls.pfx'))).toBe(true)
  })

  test('L4: no private key stands under ssl/, also where the operator keeps it in one file with the certificate', async () => {
    await writeFile(files.server.certificate, pki.server.certificate + pki.server.key)
    await writeFile(files.client.certificate, pki.client.key + pki.client.certificate)
    await writeFile(files.ca, pki.ca.certificate + pki.ca.key)
    await using _rig = await makeHostRig()
    for (const [path] of await tree(base)) {
      const bytes = await readFile(join(base, path)).catch(() => Buffer.alloc(0))
      expect(bytes.includes('PRIVATE KEY'), path).toBe(false)
      for (const { key } of [pki.server, pki.client, pki.ca]) {
        const line = key.split('\n')[1] ?? ''
        expect(bytes.includes(line), path).toBe(false)
        expect(bytes.includes(Buffer.from(key.replace(/-----.*-----|\n/g, ''), 'base64').subarray(40, 80)), path).toBe(
          false,
        )
      }
    }
  })

  test.skipIf(!needs('openssl'))(
    'L5: the PFX opens without a password and holds the client certificate and its key',
    async () => {
      await using _rig = await makeHostRig()
      const pfx = join(base, 'ssl', 'client', 'tls.pfx')
      const show = (...args: string[]) => run('openssl', ['pkcs12', '-in', pfx, '-passin', 'pass:', '-nodes', ...args])
      const certificate = await show('-nokeys', '-clcerts')
      expect(certificate.code).toBe(0)
      expect(new X509Certificate(certificate.text.slice(certificate.text.indexOf('-----BEGIN'))).serialNumber).toBe(
        pki.client.serial,
      )
      const key = await show('-nocerts')
      expect(key.text).toContain('BEGIN PRIVATE KEY')
      const privateKey = createPrivateKey(key.text.slice(key.text.indexOf('-----BEGIN')))
      expect(new X509Certificate(pki.client.certificate).checkPrivateKey(privateKey)).toBe(true)
      // Readers of any age: 3DES and SHA-1.
      const info = await run('openssl', ['pkcs12', '-in', pfx, '-passin', 'pass:', '-info', '-noout'])
      expect(info.text).toMatch(/MAC: sha1/)
      expect(info.text).toMatch(/pbeWithSHA1And3-KeyTripleDES-CBC/)
    },
  )

  test('L6: are rewritten when the certificates change, noticed by the service itself', async () => {
    await using rig = await makeHostRig()
    const client = await pki.ca.issue({ key: 'rsa', notAfter: new Date(Date.now() + 1_800_000) })
    const before = await readFile(join(base, 'ssl', 'client', 'tls.pfx'))
    await put(files.client.certificate, client.certificate)
    await eventually(
      () => rig.lines.some(({ message }) => message.startsWith('host files not rewritten')),
      'half a pair refused',
    )
    expect((await readFile(join(base, 'ssl', 'client', 'tls.pfx'))).equals(before)).toBe(true)
    await put(files.client.key, client.key)
    await eventually(
      async () => (await serialOf('ssl', 'client', 'tls.crt')) === client.serial,
      'new client certificate',
    )
    await eventually(async () => !(await readFile(join(base, 'ssl', 'client', 'tls.pfx'))).equals(before), 'new PFX')
    const expiry = Math.floor(new X509Certificate(client.certificate).validToDate.getTime() / 1000)
    await eventually(
      async () => (await metric(rig, 'certificate_expiry_timestamp_seconds', { role: 'ccg_client' })) === expiry,
      'its end in the metrics',
    )
    const server = await pki.ca.issueServer()
    const another = await makeCa({ name: 'Another CA' })
    await put(files.server.certificate, server.certificate)
    await put(files.server.key, server.key)
    await put(files.ca, pki.ca.certificate + another.certificate)
    await eventually(
      async () => (await serialOf('ssl', 'server', 'tls.crt')) === server.serial,
      'new server certificate',
    )
    await eventually(async () => (await text('ssl', 'client', 'ca.crt')).split('BEGIN').length === 3, 'both CAs')
  })

  test('a client certificate that does not fit its key, or is missing, is a configuration error at start', async () => {
    await writeFile(files.client.key, pki.server.key)
    await expect(makeHostRig()).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    await rm(files.client.certificate)
    await expect(makeHostRig()).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    expect(existsSync(join(base, 'port.txt'))).toBe(false)
  })

  test('are not written through a link that somebody else put in their place', async () => {
    const target = join(root, 'target')
    await writeFile(target, 'untouched')
    await mkdir(base, { recursive: true })
    await symlink(target, join(base, 'port.txt'))
    await using rig = await makeHostRig()
    expect(await readFile(target, 'utf8')).toBe('untouched')
    expect(await text('port.txt')).toBe(String(rig.service.port))
  })
})

describe("the plug-in's debug switch", () => {
  test('L7: raises a warning and the gauge while it is there', async () => {
    await mkdir(base, { recursive: true })
    await writeFile(join(base, 'enable-logs.txt'), '')
    await using rig = await makeHostRig()
    const warnings = () =>
      rig.lines.filter(({ level, file }) => level === 'warn' && String(file).endsWith('enable-logs.txt'))
    expect(warnings()).toHaveLength(1)
    expect(await metric(rig, 'ccg_debug_log_enabled')).toBe(1)
    expect(warnings()).toHaveLength(1)
    await rm(join(base, 'enable-logs.txt'))
    expect(await metric(rig, 'ccg_debug_log_enabled')).toBe(0)
    await writeFile(join(base, 'enable-logs.txt'), '')
    await eventually(() => warnings().length === 2, 'the warning, without any scrape')
  })
})

describe('removeHostFiles', () => {
  test('removes what was written, and may be called again', async () => {
    const rig = await makeHostRig()
    await rig[Symbol.asyncDispose]()
    const directory = join(root, 'rancher', 'gmsa')
    for (let times = 0; times < 3; times++) {
      await removeHostFiles(directory, 'ns')
      expect(existsSync(base)).toBe(false)
      expect(existsSync(directory)).toBe(true)
    }
  })

  test('leaves foreign files, and the folders they stand in', async () => {
    const rig = await makeHostRig()
    await writeFile(join(base, 'ssl', 'client', 'notes.txt'), 'mine')
    await writeFile(join(base, 'enable-logs.txt'), '')
    await mkdir(join(root, 'rancher', 'gmsa', 'other', 'ssl'), { recursive: true })
    await rig[Symbol.asyncDispose]()
    await removeHostFiles(join(root, 'rancher', 'gmsa'), 'ns')
    expect([...(await tree(base)).keys()].sort()).toEqual([
      'enable-logs.txt',
      'ssl',
      'ssl/client',
      'ssl/client/notes.txt',
    ])
    expect(existsSync(join(root, 'rancher', 'gmsa', 'other', 'ssl'))).toBe(true)
  })

  test('does nothing where nothing is', async () => {
    await removeHostFiles(join(root, 'nowhere'), 'ns')
    expect(existsSync(join(root, 'nowhere'))).toBe(false)
  })
})

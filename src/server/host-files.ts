import { execFile } from 'node:child_process'
import type { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { makePrivateDirectory, writeFileAtomically } from '../base/atomic-file.ts'
import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { watchFiles } from '../base/watch.ts'
import { digestOf, isValidAt, parseCertificates, type TlsMaterial } from './tls.ts'

export interface HostFilesOptions {
  /** Base folder, for the CCG plug-in `/var/lib/rancher/gmsa`. */
  readonly directory: string
  /** Folder below it, and first part of the plug-in's `PluginInput`. */
  readonly namespace: string
  /** PEM files of the certificate that the plug-in presents. Absent only where mTLS is switched off. */
  readonly client?: { readonly certificate: string; readonly key: string }
  readonly clock: Clock
  readonly log: Log
  readonly onClientCertificate: (certificate: X509Certificate) => void
}

/** The files on the host by which the CCG plug-in finds and trusts this service. */
export interface HostFiles extends Disposable {
  /** Writes the certificates; again whenever they change. Rejects with CONFIG_INVALID at start. */
  writeCertificates(material: TlsMaterial): Promise<void>
  writePort(port: number): Promise<void>
  removePort(): Promise<void>
  /** Whether the plug-in's debug switch is on, with which it writes passwords to the event log. */
  debugLogEnabled(): boolean
}

const PORT_FILE = 'port.txt'
const DEBUG_SWITCH = 'enable-logs.txt'
const CERTIFICATE_FILES = {
  ca: ['ca.crt', 'tls.crt'],
  server: ['ca.crt', 'tls.crt'],
  client: ['ca.crt', 'tls.crt', 'tls.pfx'],
} as const

export async function openHostFiles(options: HostFilesOptions): Promise<HostFiles> {
  const { client, clock, log } = options
  const base = join(options.directory, options.namespace)
  let material: TlsMaterial | undefined
  let written: string | undefined
  let warned = false
  let writing = Promise.resolve()

  await makePrivateDirectory(base).catch(({ code }: NodeJS.ErrnoException) => {
    throw new GmsaError('CONFIG_INVALID', `${base}: can't be made a private folder of ours (${code})`, {
      hint: 'run as the user who owns it; where no plug-in reads host files leave out ccg, in Rancher mode by --skip-artifacts',
    })
  })
  await restrictOnWindows(base)

  /** One after the other: a slow old write must not overtake a new one. */
  function write(): Promise<void> {
    const next = writing.then(writeNow)
    writing = next.catch(() => {})
    return next
  }

  async function writeNow(): Promise<void> {
    if (!material || !client) return
    const { authorities, certificate: server } = material
    const [certificatePem, keyPem] = await Promise.all([readClientFile(client.certificate), readClientFile(client.key)])
    const certificates = parseCertificates(certificatePem, client.certificate)
    const digest = digestOf(Buffer.from(authorities.digest + server.digest), certificatePem, keyPem)
    const [leaf] = certificates
    if (!leaf || digest === written) return
    if (!isValidAt(leaf, clock.now()))
      log.warn({ file: client.certificate }, 'the plug-in certificate is not valid now')
    const pfx = await makePfx(client, certificatePem, keyPem)
    const ca = toPem(authorities.value.certificates)
    await writeAll(join(base, 'ssl'), {
      ca: { 'ca.crt': ca, 'tls.crt': ca },
      server: { 'ca.crt': ca, 'tls.crt': toPem(parseCertificates(server.value.certificatePem, 'server certificate')) },
      client: { 'ca.crt': ca, 'tls.crt': toPem(certificates), 'tls.pfx': pfx },
    })
    written = digest
    options.onClientCertificate(leaf)
  }

  function debugLogEnabled(): boolean {
    const enabled = existsSync(join(base, DEBUG_SWITCH))
    if (enabled && !warned) {
      log.warn(
        { file: join(base, DEBUG_SWITCH) },
        'the plug-in writes passwords to the event log while this file exists',
      )
    }
    warned = enabled
    return enabled
  }

  const look = () => {
    debugLogEnabled()
    write().catch((error) =>
      log.error({ problem: String(error.message) }, 'host files not rewritten; the old ones stay'),
    )
  }
  const watched = [join(base, PORT_FILE), ...(client ? [client.certificate, client.key] : [])]
  const watching = watchFiles(watched, look, { clock, poll: 30_000 })
  debugLogEnabled()

  return {
    async writeCertificates(current) {
      material = current
      await write()
    },
    // The plug-in reads the file whole and untrimmed: digits and nothing else.
    writePort: (port) => writeFileAtomically(join(base, PORT_FILE), String(port)),
    removePort: () => rm(join(base, PORT_FILE), { force: true }),
    debugLogEnabled,
    [Symbol.dispose]: () => watching[Symbol.dispose](),
  }
}

/**
 * Removes what {@link openHostFiles} wrote below `directory`/`namespace`, and the folders that are empty then.
 * Does nothing where nothing is; foreign files stay, and their folders with them.
 */
export async function removeHostFiles(directory: string, namespace: string): Promise<void> {
  const base = join(directory, namespace)
  await rm(join(base, PORT_FILE), { force: true })
  for (const [folder, files] of Object.entries(CERTIFICATE_FILES)) {
    for (const file of files) await rm(join(base, 'ssl', folder, file), { force: true })
    await removeIfEmpty(join(base, 'ssl', folder))
  }
  await removeIfEmpty(join(base, 'ssl'))
  await removeIfEmpty(base)
}

async function removeIfEmpty(path: string): Promise<void> {
  try {
    await rmdir(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'EBUSY') throw error
  }
}

async function readClientFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw new GmsaError('CONFIG_INVALID', `${path}: can't be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

/** Writes folders of files, all of them private. */
async function writeAll(base: string, folders: Record<string, Record<string, string | Uint8Array>>): Promise<void> {
  await makePrivateDirectory(base)
  for (const [folder, files] of Object.entries(folders)) {
    await makePrivateDirectory(join(base, folder))
    for (const [name, bytes] of Object.entries(files)) await writeFileAtomically(join(base, folder, name), bytes)
  }
}

/** Certificates and nothing else: an operator's file may hold the private key as well. */
function toPem(certificates: readonly X509Certificate[]): string {
  return certificates.map(String).join('')
}

/** Rejects with CONFIG_INVALID when certificate and key can't be used together. */
async function makePfx(client: { readonly key: string }, certificate: Buffer, key: Buffer): Promise<Buffer> {
  const { writePkcs12 } = await import('../crypto/pkcs12.ts')
  try {
    return writePkcs12({ certificate: certificate.toString(), key: key.toString(), encryption: 'compat' })
  } catch (error) {
    throw new GmsaError('CONFIG_INVALID', `${client.key}: ${error instanceof RangeError ? error.message : 'unusable'}`)
  }
}

/** SYSTEM in full, NetworkService (the plug-in's COM+ identity) for reading, nobody else. Not tried on Windows. */
async function restrictOnWindows(path: string): Promise<void> {
  if (process.platform !== 'win32') return
  const grants = ['/inheritance:r', '/grant:r', '*S-1-5-18:(OI)(CI)F', '*S-1-5-20:(OI)(CI)R']
  await promisify(execFile)('icacls.exe', [path, ...grants])
}

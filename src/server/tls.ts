import { constants, createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import type { Clock } from '../base/clock.ts'
import { GmsaError, toGmsaError } from '../base/errors.ts'
import { faultOf } from '../base/fault.ts'
import type { Log } from '../base/log.ts'
import { watchFiles } from '../base/watch.ts'
import type { RevokedSerials, Trust } from './trust.ts'

/** Paths of PEM files. */
export interface TlsFiles {
  readonly certificate: string
  readonly key: string
  readonly clientCa: string
  readonly crl?: string
  readonly crlExpired: 'refuse' | 'warn'
}

/** Everything a listener needs, as of the last good load of each part. */
export interface TlsMaterial {
  readonly certificate: Part<ServerPair>
  readonly authorities: Part<Authorities>
  readonly revocations: Part<Revocations> | undefined
  readonly trust: Trust
  /** Complete: node resets whatever is left out when a context is replaced. */
  readonly secureOptions: SecureContextOptions
}

interface ServerPair {
  readonly certificatePem: Buffer
  readonly keyPem: Buffer
  readonly leaf: X509Certificate
}

interface Authorities {
  readonly pem: Buffer
  readonly certificates: readonly X509Certificate[]
}

interface Revocations {
  readonly revoked: readonly RevokedSerials[]
  /** The earliest nextUpdate, ms since 1970. */
  readonly nextUpdate: number
}

/** What one or two files hold, and a digest of their bytes to see that they changed. Stays in memory. */
interface Part<T> {
  readonly digest: string
  readonly value: T
}

export interface TlsEvents {
  reloaded(outcome: 'ok' | 'failed'): void
  /** After start and after each reload. */
  current(material: TlsMaterial): void
}

export interface TlsSource {
  readonly files: TlsFiles
  readonly clock: Clock
  readonly log: Log
}

export interface TlsOptions extends TlsSource {
  readonly events: TlsEvents
  /** How often the files are looked at when nothing announced a change, in ms. */
  readonly poll?: number
}

/** The TLS files, kept up to date. */
export interface TlsStore extends Disposable {
  current(): TlsMaterial
  /** Looks at the files now. Never rejects: what can't be used is logged and counted, and the last good kept. */
  reload(): Promise<void>
}

const POLL = 10_000

/**
 * Loads certificate, key, client CA and CRL, and watches them. Rejects with CONFIG_INVALID when one can't be used.
 * Later a broken or half-written file changes nothing: each part keeps its last good state.
 */
export async function openTls(options: TlsOptions): Promise<TlsStore> {
  const { files, clock, log, events, poll = POLL } = options
  let material = await loadTls(options)
  let failed = new Map<string, string>()
  let running: Promise<void> | undefined
  let again = false
  events.current(material)

  async function lookOnce(): Promise<void> {
    const failures = new Map<string, string>()
    const next = await loadChanged(options, material, failures, failed)
    for (const [part, digest] of failures) if (failed.get(part) !== digest) events.reloaded('failed')
    failed = failures
    warnOfOldCrl()
    if (next === material) return
    material = next
    events.current(material)
    events.reloaded('ok')
    log.info({ certificate: material.certificate.value.leaf.serialNumber }, 'TLS files reloaded')
  }

  let warnedOf: unknown
  function warnOfOldCrl(): void {
    const crl = material.revocations
    if (!crl || crl.value.nextUpdate > clock.now() || warnedOf === crl) return
    warnedOf = crl
    log.warn(
      { file: files.crl, nextUpdate: new Date(crl.value.nextUpdate) },
      'CRL is past its next update; it stays in use',
    )
  }

  /** One look at a time; an event that comes during a look gives one more. */
  async function reload(): Promise<void> {
    again = true
    running ??= (async () => {
      while (again) {
        again = false
        await lookOnce().catch((error) => log.error({ fault: faultOf(error) }, 'TLS reload failed'))
      }
      running = undefined
    })()
    await running
  }

  const paths = [files.certificate, files.key, files.clientCa, ...(files.crl ? [files.crl] : [])]
  const watching = watchFiles(paths, () => void reload(), { clock, poll })
  warnOfOldCrl()
  return { current: () => material, reload, [Symbol.dispose]: () => watching[Symbol.dispose]() }
}

/** Loads everything once. Rejects with CONFIG_INVALID that names the file. */
export async function loadTls(options: TlsSource): Promise<TlsMaterial> {
  const certificate = await loadPair(options.files)
  const authorities = await loadAuthorities(options.files)
  const revocations = await loadRevocations(options, authorities)
  return assemble(certificate, authorities, revocations)
}

/** Loads the parts whose bytes changed. What fails is named in `failures` with its digest and keeps its last state. */
async function loadChanged(
  options: TlsOptions,
  old: TlsMaterial,
  failures: Map<string, string>,
  known: ReadonlyMap<string, string>,
): Promise<TlsMaterial> {
  const attempt = async <T>(part: string, last: T, load: () => Promise<T>): Promise<T> => {
    try {
      return await load()
    } catch (thrown) {
      const error = toGmsaError(thrown)
      failures.set(part, `${error.message}`)
      if (known.get(part) !== error.message) {
        options.log.error(
          { part, problem: error.message, hint: error.hint },
          'TLS files not taken; the last good ones stay',
        )
      }
      return last
    }
  }
  const { files, clock } = options
  const certificate = await attempt('certificate', old.certificate, async () => {
    const loaded = await loadPair(files, old.certificate)
    const now = clock.now()
    if (
      loaded !== old.certificate &&
      !isValidAt(loaded.value.leaf, now) &&
      isValidAt(old.certificate.value.leaf, now)
    ) {
      throw new GmsaError('CONFIG_INVALID', `${files.certificate}: the new certificate is not valid now`)
    }
    return loaded
  })
  const authorities = await attempt('clientCa', old.authorities, () => loadAuthorities(files, old.authorities))
  const revocations = await attempt('crl', old.revocations, () => loadRevocations(options, authorities, old))
  if (certificate === old.certificate && authorities === old.authorities && revocations === old.revocations) return old
  const sameTrust = authorities === old.authorities && revocations === old.revocations
  return assemble(certificate, authorities, revocations, sameTrust ? old.trust : undefined)
}

function assemble(
  certificate: Part<ServerPair>,
  authorities: Part<Authorities>,
  revocations: Part<Revocations> | undefined,
  oldTrust?: Trust,
): TlsMaterial {
  const secureOptions: SecureContextOptions = {
    cert: certificate.value.certificatePem,
    key: certificate.value.keyPem,
    // What was parsed, not the file: TLS knows further kinds of PEM blocks, and must not trust what is not judged.
    ca: authorities.value.certificates.map(String),
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    // Who a client is was decided at its handshake: there is no second one on the same connection.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  }
  createSecureContext(secureOptions)
  const trust = oldTrust ?? {
    authorities: authorities.value.certificates,
    revoked: revocations?.value.revoked ?? [],
  }
  return { certificate, authorities, revocations, trust, secureOptions }
}

async function loadPair(files: TlsFiles, old?: Part<ServerPair>): Promise<Part<ServerPair>> {
  const [certificatePem, keyPem] = await Promise.all([readPem(files.certificate), readPem(files.key)])
  const digest = digestOf(certificatePem, keyPem)
  if (old?.digest === digest) return old
  const [leaf] = parseCertificates(certificatePem, files.certificate)
  const key = parseKey(keyPem, files.key)
  if (!leaf?.checkPrivateKey(key)) {
    throw new GmsaError('CONFIG_INVALID', `${files.key}: not the private key of ${files.certificate}`)
  }
  try {
    createSecureContext({ cert: certificatePem, key: keyPem })
  } catch {
    throw new GmsaError('CONFIG_INVALID', `${files.certificate}: TLS can't use this certificate and key`)
  }
  return { digest, value: { certificatePem, keyPem, leaf } }
}

async function loadAuthorities(files: TlsFiles, old?: Part<Authorities>): Promise<Part<Authorities>> {
  const pem = await readPem(files.clientCa)
  const digest = digestOf(pem)
  if (old?.digest === digest) return old
  return { digest, value: { pem, certificates: parseCertificates(pem, files.clientCa) } }
}

async function loadRevocations(
  { files, clock, log }: TlsSource,
  authorities: Part<Authorities>,
  old?: TlsMaterial,
): Promise<Part<Revocations> | undefined> {
  if (!files.crl) return undefined
  const bytes = await readPem(files.crl)
  const digest = digestOf(bytes, authorities.value.pem)
  if (old?.revocations?.digest === digest) return old.revocations
  // Loaded only where a CRL is configured: the ASN.1 libraries cost start-up time and memory.
  const { parseCrls } = await import('../crypto/crl.ts')
  const { certificates } = authorities.value
  const pems = certificates.map((each) => each.toString())
  const lists = await parseCrls(bytes, pems).catch((error: unknown) => {
    throw new GmsaError('CONFIG_INVALID', `${files.crl}: ${error instanceof RangeError ? error.message : 'not a CRL'}`)
  })
  const revoked = lists.map(({ issuer, revoked: serials }) => {
    return { issuers: certificates.filter(({ subject }) => subject === issuer), serials }
  })
  const nextUpdate = Math.min(...lists.map((list) => list.nextUpdate.getTime()))
  if (nextUpdate <= clock.now()) {
    const problem = `${files.crl}: past its next update (${new Date(nextUpdate).toISOString()})`
    if (files.crlExpired === 'refuse') throw new GmsaError('CONFIG_INVALID', problem, { hint: 'publish a new CRL' })
    log.warn({ file: files.crl }, 'CRL taken although it is past its next update (crlExpired: warn)')
  }
  return { digest, value: { revoked, nextUpdate } }
}

async function readPem(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw new GmsaError('CONFIG_INVALID', `${path}: can't be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g

/** Every certificate of a PEM file, at least one. Throws CONFIG_INVALID that names the file. */
export function parseCertificates(pem: Uint8Array, path: string): X509Certificate[] {
  const text = Buffer.from(pem).toString('latin1')
  const blocks = text.match(PEM_CERTIFICATE) ?? []
  if (blocks.length === 0) throw new GmsaError('CONFIG_INVALID', `${path}: holds no PEM certificate`)
  // A file that is still being written must not pass as one with fewer certificates.
  if (text.split('-----BEGIN CERTIFICATE-----').length - 1 !== blocks.length) {
    throw new GmsaError('CONFIG_INVALID', `${path}: a PEM certificate in it is cut off`)
  }
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block)
    } catch {
      throw new GmsaError('CONFIG_INVALID', `${path}: certificate ${index + 1} can't be parsed`)
    }
  })
}

function parseKey(pem: Uint8Array, path: string) {
  try {
    return createPrivateKey(Buffer.from(pem))
  } catch {
    throw new GmsaError('CONFIG_INVALID', `${path}: holds no private key that can be used without a password`)
  }
}

/** Whether `now` (ms since 1970) lies within the certificate's dates. */
export function isValidAt(certificate: X509Certificate, now: number): boolean {
  return now >= certificate.validFromDate.getTime() && now < certificate.validToDate.getTime() + 1000
}

/** A digest by which changed file contents are noticed. It stays in memory. */
export function digestOf(...parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(String(part.length)).update(part)
  return hash.digest('base64')
}

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type ExtendedKeyUsage,
  generateKeys,
  type Issuer,
  issueCertificate,
  issueCrl,
  type KeyType,
  privateKeyPem,
} from '../../src/crypto/certificate.ts'

/** A leaf: PEM certificate, PEM PKCS#8 key, serial in upper-case hex. */
export interface TestCertificate {
  readonly certificate: string
  readonly key: string
  readonly serial: string
}

export interface LeafOptions {
  /** Absent: `test`. */
  readonly commonName?: string
  readonly dns?: readonly string[]
  readonly uri?: readonly string[]
  readonly ip?: readonly string[]
  /** Absent: client authentication. Empty: the certificate states no usage. */
  readonly usages?: readonly ExtendedKeyUsage[]
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly key?: KeyType
  readonly serial?: string
}

export interface CaOptions {
  readonly name?: string
  readonly key?: KeyType
  /** Absent: a root. */
  readonly parent?: TestCa
  readonly notBefore?: Date
  readonly notAfter?: Date
}

export interface CrlOptions {
  /** Serials, or whatever has one. */
  readonly revoked?: readonly (string | { readonly serial: string })[]
  readonly thisUpdate?: Date
  /** Absent: in an hour. null: the list states none. */
  readonly nextUpdate?: Date | null
}

export interface TestCa extends TestCertificate {
  readonly issuer: Issuer
  /** This CA's certificate and those above it but the root: what a leaf sends along. Empty for a root. */
  readonly chain: string
  issue(options?: LeafOptions): Promise<TestCertificate>
  /** A certificate for `localhost`, 127.0.0.1 and ::1 with server authentication. */
  issueServer(options?: LeafOptions): Promise<TestCertificate>
  crl(options?: CrlOptions): Promise<string>
}

const HOUR = 3_600_000

/** A certificate authority with a fresh key, valid from an hour ago for a day. */
export async function makeCa(options: CaOptions = {}): Promise<TestCa> {
  const keys = await generateKeys(options.key ?? 'ec')
  const self = await issueCertificate({
    subject: { commonName: options.name ?? 'Test CA' },
    keys,
    ...(options.parent && { issuer: options.parent.issuer }),
    ...validity(options),
    ca: true,
  })
  const issuer = { certificate: self.certificate, privateKey: keys.privateKey }
  const issue = (leaf: LeafOptions = {}) => issueLeaf(issuer, leaf)
  return {
    ...self,
    key: privateKeyPem(keys.privateKey),
    issuer,
    chain: options.parent ? self.certificate + options.parent.chain : '',
    issue,
    issueServer: (leaf) =>
      issue({ commonName: 'localhost', dns: ['localhost'], ip: ['127.0.0.1', '::1'], usages: ['serverAuth'], ...leaf }),
    crl: ({ revoked = [], thisUpdate = new Date(Date.now() - HOUR), nextUpdate } = {}) =>
      issueCrl({
        issuer,
        revoked: revoked.map((entry) => (typeof entry === 'string' ? entry : entry.serial)),
        thisUpdate,
        ...(nextUpdate !== null && { nextUpdate: nextUpdate ?? new Date(Date.now() + HOUR) }),
      }),
  }
}

async function issueLeaf(issuer: Issuer, options: LeafOptions): Promise<TestCertificate> {
  const keys = await generateKeys(options.key ?? 'ec')
  const { dns = [], ip = [], uri = [], serial } = options
  const issued = await issueCertificate({
    subject: { commonName: options.commonName ?? 'test' },
    keys,
    issuer,
    ...(serial !== undefined && { serial }),
    ...validity(options),
    names: { dns, ip, uri },
    extendedKeyUsage: options.usages ?? ['clientAuth'],
  })
  return { ...issued, key: privateKeyPem(keys.privateKey) }
}

function validity({ notBefore, notAfter }: { notBefore?: Date; notAfter?: Date }): { notBefore: Date; notAfter: Date } {
  const start = notBefore ?? new Date((notAfter?.getTime() ?? Date.now()) - HOUR)
  return { notBefore: start, notAfter: notAfter ?? new Date(Math.max(Date.now(), start.getTime()) + 24 * HOUR) }
}

/** Paths of a folder that {@link writePki} filled: `ca/ca.crt`, `server/tls.crt`, `server/tls.key`, and so on. */
export interface PkiFiles {
  readonly ca: string
  readonly server: { readonly certificate: string; readonly key: string }
  readonly client: { readonly certificate: string; readonly key: string }
}

export interface Pki {
  readonly ca: TestCa
  readonly server: TestCertificate
  readonly client: TestCertificate
}

/** A root with one server and one client certificate, the client `spiffe://localhost/client/test` unless told. */
export async function makePki(client: LeafOptions = {}): Promise<Pki> {
  const ca = await makeCa()
  return {
    ca,
    server: await ca.issueServer(),
    client: await ca.issue({ uri: ['spiffe://localhost/client/test'], ...client }),
  }
}

/** Writes the folder layout of `certs DIR` under `directory`: `ca/`, `server/`, `client/`, keys with mode 0600. */
export async function writePki(directory: string, { ca, server, client }: Pki): Promise<PkiFiles> {
  for (const [room, leaf] of Object.entries({ ca, server, client })) {
    await mkdir(join(directory, room), { recursive: true, mode: 0o700 })
    await writeFile(join(directory, room, 'ca.crt'), ca.certificate)
    await writeFile(join(directory, room, 'tls.crt'), leaf.certificate)
    await writeFile(join(directory, room, 'tls.key'), leaf.key, { mode: 0o600 })
  }
  const pair = (room: string) => ({
    certificate: join(directory, room, 'tls.crt'),
    key: join(directory, room, 'tls.key'),
  })
  return { ca: join(directory, 'ca', 'ca.crt'), server: pair('server'), client: pair('client') }
}

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Command, Option } from 'commander'
import { makePrivateDirectory, writeFileAtomically } from '../../base/atomic-file.ts'
import { GmsaError } from '../../base/errors.ts'
import type { IssuedCertificate, KeyPair, KeyType, PermittedNames, SubjectName } from '../../crypto/certificate.ts'
import type { Pkcs12Encryption } from '../../crypto/pkcs12.ts'
import { print } from '../print.ts'

export interface DevelopmentCertificatesOptions {
  /** Absent: RSA-2048, which every reader of the CCG plug-in's PFX knows. */
  readonly clientKey?: KeyType
  /** Absent: `compat`. */
  readonly pfx?: Pkcs12Encryption
  /** Absent: the system's clock. */
  readonly now?: Date
}

export interface DevelopmentCertificates {
  readonly directory: string
  /** Paths below `directory`, with `/`. */
  readonly files: readonly string[]
  readonly notAfter: Date
  /** The client's SAN, for `clients[].match.uri`. */
  readonly clientUri: string
}

const LIFETIME_DAYS = 90
/** Clocks of two machines differ: the certificates are already valid a little earlier. */
const BACKDATED = 5 * 60_000
const DAY = 86_400_000

const ORGANIZATION = 'gmsa-account-provider development'
const CLIENT_URI = 'spiffe://localhost/client/demo'

/**
 * A CA key that leaks from a developer's disk vouches for no host name but this. Addresses are left open: BoringSSL,
 * and so Mono, refuses every certificate with an address below a CA that constrains addresses.
 */
const PERMITTED: PermittedNames = { dns: ['localhost'], uriHost: ['localhost'] }

const NOTES: Readonly<Record<string, string>> = {
  'ca/ca.crt': 'tls.clientCa; curl --cacert',
  'ca/tls.key': 'the CA key: remove it when nothing more is to be issued',
  'server/tls.crt': 'tls.certificate: localhost, 127.0.0.1, ::1',
  'server/tls.key': 'tls.key',
  'client/tls.crt': `curl --cert: ${CLIENT_URI}`,
  'client/tls.key': 'curl --key',
  'client/tls.pfx': 'the same pair for the CCG plug-in, no password',
}

/**
 * Makes a development CA, a server certificate for this machine's loopback names and a client certificate, and
 * writes them below `directory` as `ca/`, `server/` and `client/`, each with `ca.crt`, `tls.crt` and `tls.key`, and
 * `client/tls.pfx`. Keys get mode 0600. A `.gitignore` keeps all of it out of git unless one is there.
 *
 * Nothing is overwritten: rejects with REQUEST_INVALID and a hint where one of the files exists, and where the
 * directory can't be written.
 */
export async function makeDevelopmentCertificates(
  directory: string,
  options: DevelopmentCertificatesOptions = {},
): Promise<DevelopmentCertificates> {
  const now = options.now ?? new Date()
  const notAfter = new Date(now.getTime() + LIFETIME_DAYS * DAY)
  const files = await issueAll(options, { notBefore: new Date(now.getTime() - BACKDATED), notAfter })
  const names = Object.keys(files)
  const existing = names.find((name) => existsSync(join(directory, name)))
  if (existing) {
    throw new GmsaError('REQUEST_INVALID', `${join(directory, existing)} exists; certificates are never overwritten`, {
      hint: 'remove the old ca, server and client folders, or choose another directory',
    })
  }
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    if (!existsSync(join(directory, '.gitignore')))
      await writeFileAtomically(join(directory, '.gitignore'), '*\n', 0o644)
    for (const [name, bytes] of Object.entries(files)) await writePrivately(join(directory, name), bytes)
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException
    throw new GmsaError('REQUEST_INVALID', `${directory}: can't be written (${code})`, { cause: error })
  }
  return { directory, files: names, notAfter, clientUri: CLIENT_URI }
}

/** `certs DIR`, for the main program to add. */
export function certsCommand(out: (text: string) => void = print): Command {
  return new Command('certs')
    .description('make a development CA, server and client certificates, valid on this machine for 90 days')
    .argument('<directory>', 'where ca/, server/ and client/ are written; nothing there is overwritten')
    .addOption(
      new Option('--client-key <type>', "the client's key; rsa is what every Windows node can use")
        .choices(['rsa', 'ec'])
        .default('rsa'),
    )
    .addOption(
      new Option('--pfx <encryption>', 'client/tls.pfx: compat opens everywhere, aes256 from Windows Server 2019 on')
        .choices(['compat', 'aes256'])
        .default('compat'),
    )
    .action(async (directory: string, options: { clientKey: KeyType; pfx: Pkcs12Encryption }) => {
      const made = await makeDevelopmentCertificates(directory, options)
      const width = Math.max(...made.files.map((name) => name.length))
      const lines = made.files.map((name) => `  ${name.padEnd(width)}  ${NOTES[name] ?? ''}`.trimEnd())
      const until = made.notAfter.toISOString().slice(0, 10)
      out(`Development certificates in ${directory}, valid until ${until}:\n${lines.join('\n')}\n`)
    })
}

type Validity = Readonly<{ notBefore: Date; notAfter: Date }>

/** The files by name. Certificates and PKCS #12 are imported here: the other commands start without them. */
async function issueAll(options: DevelopmentCertificatesOptions, validity: Validity) {
  const { generateKeys, issueCertificate, privateKeyPem } = await import('../../crypto/certificate.ts')
  const { writePkcs12 } = await import('../../crypto/pkcs12.ts')
  const [caKeys, serverKeys, clientKeys] = await Promise.all([
    generateKeys('ec'),
    generateKeys('ec'),
    generateKeys(options.clientKey ?? 'rsa'),
  ])
  const ca = await issueCertificate({
    // Readers look issuers up by name: two development CAs of one name would be taken for each other.
    subject: named(`development CA ${randomBytes(4).toString('hex')}`),
    keys: caKeys,
    ...validity,
    ca: true,
    pathLength: 0,
    permittedNames: PERMITTED,
  })
  const issuer = { certificate: ca.certificate, privateKey: caKeys.privateKey }
  const server = await issueCertificate({
    subject: named('localhost'),
    keys: serverKeys,
    issuer,
    ...validity,
    names: { dns: ['localhost'], ip: ['127.0.0.1', '::1'] },
    extendedKeyUsage: ['serverAuth'],
  })
  // One URI and nothing else: the form of a SPIFFE ID (X509-SVID 2). A DNS name would read like a host that may serve.
  const client = await issueCertificate({
    subject: named('demo-client'),
    keys: clientKeys,
    issuer,
    ...validity,
    names: { uri: [CLIENT_URI] },
    extendedKeyUsage: ['clientAuth'],
  })
  const clientKey = privateKeyPem(clientKeys.privateKey)
  const pfx = writePkcs12({ certificate: client.certificate, key: clientKey, encryption: options.pfx ?? 'compat' })
  const folder = (name: string, { certificate }: IssuedCertificate, { privateKey }: KeyPair) => ({
    [`${name}/ca.crt`]: ca.certificate,
    [`${name}/tls.crt`]: certificate,
    [`${name}/tls.key`]: privateKeyPem(privateKey),
  })
  return {
    ...folder('ca', ca, caKeys),
    ...folder('server', server, serverKeys),
    ...folder('client', client, clientKeys),
    'client/tls.pfx': pfx,
  } satisfies Record<string, string | Buffer>
}

function named(commonName: string): SubjectName {
  return { organization: ORGANIZATION, commonName }
}

async function writePrivately(path: string, bytes: string | Uint8Array): Promise<void> {
  await makePrivateDirectory(dirname(path))
  await writeFileAtomically(path, bytes, path.endsWith('.crt') ? 0o644 : 0o600)
}

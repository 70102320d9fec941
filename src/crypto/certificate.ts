import {
  createHash,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import { promisify } from 'node:util'
import * as asn1 from 'asn1js'
import {
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  CertificateRevocationList,
  CryptoEngine,
  Extension,
  Extensions,
  ExtKeyUsage,
  GeneralName,
  GeneralNames,
  GeneralSubtree,
  NameConstraints,
  PublicKeyInfo,
  RelativeDistinguishedNames,
  RevokedCertificate,
  Time,
} from 'pkijs'

export type KeyType = 'ec' | 'rsa'

export interface KeyPair {
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

/** One RDN per attribute, UTF-8, in this order. */
export interface SubjectName {
  readonly organization?: string
  readonly commonName: string
}

/** Subject alternative names (RFC 5280 4.2.1.6). Addresses as text, IPv4 or IPv6. */
export interface AlternativeNames {
  readonly dns?: readonly string[]
  readonly ip?: readonly string[]
  readonly uri?: readonly string[]
}

/**
 * What every certificate below this CA is held to (RFC 5280 4.2.1.10). A `dns` name covers itself and what is under
 * it, `ip` is in CIDR notation, `uriHost` is one host and, with a leading dot, the hosts under it.
 */
export interface PermittedNames {
  readonly dns?: readonly string[]
  readonly ip?: readonly string[]
  readonly uriHost?: readonly string[]
}

/** The names of RFC 5280 4.2.1.3, each with its bit. */
const KEY_USAGES = { digitalSignature: 0, keyEncipherment: 2, keyCertSign: 5, cRLSign: 6 } as const
const EXTENDED_KEY_USAGES = { serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2' } as const

export type KeyUsage = keyof typeof KEY_USAGES
export type ExtendedKeyUsage = keyof typeof EXTENDED_KEY_USAGES

export interface Issuer {
  /** One PEM certificate. */
  readonly certificate: string
  readonly privateKey: KeyObject
}

export interface CertificateRequest {
  readonly subject: SubjectName
  /** The subject's keys; the private one signs only where there is no issuer. */
  readonly keys: KeyPair
  /** Absent: self-signed. */
  readonly issuer?: Issuer
  /** Upper-case hex. Absent: 16 random bytes. */
  readonly serial?: string
  /** Whole seconds; a fraction is cut off. */
  readonly notBefore: Date
  readonly notAfter: Date
  readonly ca?: boolean
  /** How many CAs may stand between this CA and a leaf. */
  readonly pathLength?: number
  readonly names?: AlternativeNames
  /** Absent: keyCertSign and cRLSign for a CA, digitalSignature for a leaf, and keyEncipherment for an RSA server. */
  readonly keyUsage?: readonly KeyUsage[]
  readonly extendedKeyUsage?: readonly ExtendedKeyUsage[]
  readonly permittedNames?: PermittedNames
}

export interface IssuedCertificate {
  readonly certificate: string
  /** As X509Certificate.serialNumber prints it. */
  readonly serial: string
}

export interface RevocationListRequest {
  readonly issuer: Issuer
  /** Serials in hex. */
  readonly revoked: readonly string[]
  readonly thisUpdate: Date
  /** Absent: the list states none, which RFC 5280 5.1.2.5 forbids and readers refuse. */
  readonly nextUpdate?: Date
  /** The CRL number (RFC 5280 5.2.3). */
  readonly number?: number
}

const engine = new CryptoEngine({ name: 'node', crypto: webcrypto })
const generate = promisify(generateKeyPair)

/** A fresh key pair: `ec` on P-256, `rsa` of 2,048 bits. */
export async function generateKeys(type: KeyType): Promise<KeyPair> {
  return type === 'ec' ? generate('ec', { namedCurve: 'P-256' }) : generate('rsa', { modulusLength: 2048 })
}

/** The private key as an unencrypted PKCS#8 PEM block. It is a secret. */
export function privateKeyPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/**
 * Issues an X.509 v3 certificate (RFC 5280 4), signed with SHA-256.
 * Throws RangeError where the dates, a name or the serial make no valid certificate, TypeError for a key that is
 * neither EC P-256 nor RSA.
 */
export async function issueCertificate(request: CertificateRequest): Promise<IssuedCertificate> {
  if (!(request.notAfter.getTime() > request.notBefore.getTime())) {
    throw new RangeError('notAfter must be later than notBefore')
  }
  const issuer = request.issuer && parseCertificate(request.issuer.certificate)
  const certificate = new Certificate()
  certificate.version = 2
  certificate.serialNumber = serialNumber(request.serial)
  certificate.subject = distinguishedName(request.subject)
  certificate.issuer = issuer?.subject ?? certificate.subject
  certificate.notBefore = time(request.notBefore)
  certificate.notAfter = time(request.notAfter)
  certificate.subjectPublicKeyInfo = PublicKeyInfo.fromBER(spki(request.keys.publicKey))
  certificate.extensions = [
    ...usageExtensions(request),
    ...nameExtensions(request),
    ...identifierExtensions(request.keys.publicKey, issuer),
  ]
  await certificate.sign(signingKey(request.issuer?.privateKey ?? request.keys.privateKey), 'SHA-256', engine)
  const pem = toPem('CERTIFICATE', certificate.toSchema(true).toBER())
  return { certificate: pem, serial: new X509Certificate(pem).serialNumber }
}

/** Issues a version 2 certificate revocation list (RFC 5280 5), signed with SHA-256, as PEM. Throws as {@link issueCertificate}. */
export async function issueCrl(request: RevocationListRequest): Promise<string> {
  const issuer = parseCertificate(request.issuer.certificate)
  const list = new CertificateRevocationList()
  list.version = 1
  list.issuer = issuer.subject
  list.thisUpdate = time(request.thisUpdate)
  if (request.nextUpdate) list.nextUpdate = time(request.nextUpdate)
  // 5.1.2.6: where nothing is revoked the list of entries must be absent, not empty.
  if (request.revoked.length > 0) {
    const revocationDate = time(request.thisUpdate)
    list.revokedCertificates = request.revoked.map(
      (serial) => new RevokedCertificate({ userCertificate: serialNumber(serial), revocationDate }),
    )
  }
  list.crlExtensions = new Extensions({
    extensions: [
      authorityKeyIdentifier(keyIdentifierOf(issuer)),
      extension('2.5.29.20', false, new asn1.Integer({ value: request.number ?? 1 })),
    ],
  })
  await list.sign(signingKey(request.issuer.privateKey), 'SHA-256', engine)
  return toPem('X509 CRL', list.toSchema(true).toBER())
}

function usageExtensions(request: CertificateRequest): Extension[] {
  const { ca = false, pathLength } = request
  const basic = new BasicConstraints({
    cA: ca,
    ...(ca && pathLength !== undefined && { pathLenConstraint: pathLength }),
  })
  const usages = request.keyUsage ?? defaultKeyUsage(request)
  const extended = request.extendedKeyUsage ?? []
  return [
    extension('2.5.29.19', true, basic.toSchema()),
    extension('2.5.29.15', true, keyUsageBits(usages)),
    ...(extended.length > 0
      ? [
          extension(
            '2.5.29.37',
            false,
            new ExtKeyUsage({ keyPurposes: extended.map((usage) => EXTENDED_KEY_USAGES[usage]) }).toSchema(),
          ),
        ]
      : []),
  ]
}

function defaultKeyUsage({ ca, keys, extendedKeyUsage }: CertificateRequest): readonly KeyUsage[] {
  if (ca) return ['keyCertSign', 'cRLSign']
  // TLS 1.2 with RSA key exchange encrypts to the server's key; nothing else ever encrypts to a leaf.
  const encrypts = keys.publicKey.asymmetricKeyType === 'rsa' && extendedKeyUsage?.includes('serverAuth')
  return encrypts ? ['digitalSignature', 'keyEncipherment'] : ['digitalSignature']
}

/** DER drops trailing zero bits of a named bit list (X.690 11.2.2). */
function keyUsageBits(usages: readonly KeyUsage[]): asn1.BitString {
  const bits: number[] = usages.map((usage) => KEY_USAGES[usage])
  const octet = bits.reduce((sum, bit) => sum | (0x80 >> bit), 0)
  return new asn1.BitString({ valueHex: Uint8Array.of(octet).buffer, unusedBits: 7 - Math.max(...bits) })
}

function nameExtensions({ names = {}, permittedNames, subject }: CertificateRequest): Extension[] {
  const alternative = [
    ...(names.dns ?? []).map((name) => generalName(2, name)),
    ...(names.ip ?? []).map((address) => addressName(addressBytes(address))),
    ...(names.uri ?? []).map((uri) => generalName(6, uri)),
  ]
  const permitted = [
    ...(permittedNames?.dns ?? []).map((name) => generalName(2, name)),
    ...(permittedNames?.ip ?? []).map((block) => addressName(addressBlock(block))),
    ...(permittedNames?.uriHost ?? []).map((host) => generalName(6, host)),
  ]
  if (subject.commonName === '' && alternative.length === 0) throw new RangeError('the certificate names nobody')
  const extensions: Extension[] = []
  if (alternative.length > 0) {
    extensions.push(extension('2.5.29.17', false, new GeneralNames({ names: alternative }).toSchema()))
  }
  if (permitted.length > 0) {
    const permittedSubtrees = permitted.map((base) => new GeneralSubtree({ base }))
    extensions.push(extension('2.5.29.30', true, new NameConstraints({ permittedSubtrees }).toSchema()))
  }
  return extensions
}

function identifierExtensions(publicKey: KeyObject, issuer: Certificate | undefined): Extension[] {
  const own = keyIdentifier(publicKey)
  return [
    extension('2.5.29.14', false, new asn1.OctetString({ valueHex: own })),
    authorityKeyIdentifier(issuer ? keyIdentifierOf(issuer) : own),
  ]
}

function authorityKeyIdentifier(identifier: ArrayBuffer): Extension {
  const keyIdentifier = new asn1.OctetString({ valueHex: identifier })
  return extension('2.5.29.35', false, new AuthorityKeyIdentifier({ keyIdentifier }).toSchema())
}

/** The identifier a certificate states for its own key, else the one it would get here. */
function keyIdentifierOf(certificate: Certificate): ArrayBuffer {
  const stated = certificate.extensions?.find(({ extnID }) => extnID === '2.5.29.14')
  const value = stated && asn1.fromBER(stated.extnValue.valueBlock.valueHexView).result
  if (value instanceof asn1.OctetString) return exact(value.valueBlock.valueHexView)
  const key = createPublicKey({
    key: Buffer.from(certificate.subjectPublicKeyInfo.toSchema().toBER()),
    format: 'der',
    type: 'spki',
  })
  return keyIdentifier(key)
}

/** RFC 7093 2, method 1: the left 160 bits of the SHA-256 of the public key's bits. */
function keyIdentifier(publicKey: KeyObject): ArrayBuffer {
  const bits = PublicKeyInfo.fromBER(spki(publicKey)).subjectPublicKey.valueBlock.valueHexView
  return exact(createHash('sha256').update(bits).digest().subarray(0, 20))
}

function extension(extnID: string, critical: boolean, value: { toBER(): ArrayBuffer }): Extension {
  return new Extension({ extnID, critical, extnValue: value.toBER() })
}

/** pkijs itself would put all attributes into one RDN; it keeps the encoding of a name that it has read. */
function distinguishedName({ organization, commonName }: SubjectName): RelativeDistinguishedNames {
  const attributes = [
    ...(organization ? [{ type: '2.5.4.10', value: organization }] : []),
    ...(commonName ? [{ type: '2.5.4.3', value: commonName }] : []),
  ]
  const names = attributes.map(({ type, value }) => {
    const attribute = [new asn1.ObjectIdentifier({ value: type }), new asn1.Utf8String({ value })]
    return new asn1.Set({ value: [new asn1.Sequence({ value: attribute })] })
  })
  return RelativeDistinguishedNames.fromBER(new asn1.Sequence({ value: names }).toBER())
}

/** dNSName and uniformResourceIdentifier are IA5Strings: an internationalised name comes as its ASCII form. */
function generalName(type: 2 | 6, value: string): GeneralName {
  if (!/^[\x21-\x7e]+$/.test(value)) throw new RangeError(`name ${JSON.stringify(value)} is not printable ASCII`)
  return new GeneralName({ type, value })
}

function addressName(bytes: Uint8Array): GeneralName {
  return new GeneralName({ type: 7, value: new asn1.OctetString({ valueHex: exact(bytes) }) })
}

function addressBytes(address: string): Uint8Array {
  if (isIPv4(address)) return Uint8Array.from(address.split('.'), Number)
  if (!isIPv6(address) || address.includes('%')) throw new RangeError(`${JSON.stringify(address)} is no IP address`)
  // The URL parser writes any IPv6 text as groups of hex, with at most one `::`.
  const [head = '', tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)))
  const left = groups(head)
  const right = tail === undefined ? [] : groups(tail)
  const all = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right]
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]))
}

/** Address and mask side by side, as a name constraint has them (RFC 5280 4.2.1.10). */
function addressBlock(cidr: string): Uint8Array {
  const [address = '', length = ''] = cidr.split('/')
  const bytes = addressBytes(address)
  const prefix = Number(length)
  if (!/^\d{1,3}$/.test(length) || prefix > bytes.length * 8)
    throw new RangeError(`${JSON.stringify(cidr)} is no CIDR block`)
  const mask = bytes.map((_, index) => (0xff00 >> Math.min(8, Math.max(0, prefix - index * 8))) & 0xff)
  return Uint8Array.of(...bytes.map((byte, index) => byte & (mask[index] ?? 0)), ...mask)
}

/** RFC 5280 4.1.2.2: positive, at most 20 octets. 16 random bytes are more than the 64 bits public CAs must have. */
function serialNumber(hex?: string): asn1.Integer {
  const bytes =
    hex === undefined ? randomBytes(16) : Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex')
  if (hex === undefined) bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  else if (!/^[0-9A-Fa-f]{1,40}$/.test(hex) || bytes.every((byte) => byte === 0)) {
    throw new RangeError('the serial must be a positive number of at most 20 bytes, in hex')
  }
  const first = bytes.findIndex((byte) => byte !== 0)
  const trimmed = bytes.subarray(first)
  // A leading zero byte keeps a number positive whose top bit is set (X.690 8.3.3).
  const positive = (trimmed[0] ?? 0) > 0x7f ? Buffer.concat([Buffer.alloc(1), trimmed]) : trimmed
  return new asn1.Integer({ valueHex: exact(positive) })
}

/** RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050, both in whole seconds. */
function time(date: Date): Time {
  const seconds = Math.floor(date.getTime() / 1000)
  if (!Number.isFinite(seconds)) throw new RangeError('the date is invalid')
  const value = new Date(seconds * 1000)
  return new Time({ type: value.getUTCFullYear() < 2050 ? 0 : 1, value })
}

function signingKey(key: KeyObject): webcrypto.CryptoKey {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  if (type === 'rsa') return key.toCryptoKey({ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, false, ['sign'])
  if (type === 'ec' && details?.namedCurve === 'prime256v1') {
    return key.toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
  }
  throw new TypeError('the signing key must be EC P-256 or RSA')
}

function parseCertificate(pem: string): Certificate {
  return Certificate.fromBER(new X509Certificate(pem).raw)
}

function spki(key: KeyObject): Buffer<ArrayBuffer> {
  return Buffer.from(key.export({ type: 'spki', format: 'der' }))
}

/** The bytes in a buffer of exactly their size: asn1js takes whole buffers. */
function exact(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}

function toPem(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

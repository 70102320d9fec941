import { verify, X509Certificate } from 'node:crypto'
import * as asn1 from 'asn1js'

/** What one certificate revocation list says, once its signature held. */
export interface RevocationList {
  /** The issuer's name as X509Certificate prints it: equals `subject` of the CA and `issuer` of its certificates. */
  readonly issuer: string
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  /** Serials in upper-case hex, as X509Certificate.serialNumber prints them. */
  readonly revoked: ReadonlySet<string>
}

/** Signature algorithms accepted, by object identifier: ECDSA (RFC 5758 3.2) and RSA PKCS #1 v1.5 (RFC 4055 5). SHA-1 is not. */
const SIGNATURES: Readonly<Record<string, { readonly key: 'ec' | 'rsa'; readonly hash: string }>> = {
  '1.2.840.10045.4.3.2': { key: 'ec', hash: 'sha256' },
  '1.2.840.10045.4.3.3': { key: 'ec', hash: 'sha384' },
  '1.2.840.10045.4.3.4': { key: 'ec', hash: 'sha512' },
  '1.2.840.113549.1.1.11': { key: 'rsa', hash: 'sha256' },
  '1.2.840.113549.1.1.12': { key: 'rsa', hash: 'sha384' },
  '1.2.840.113549.1.1.13': { key: 'rsa', hash: 'sha512' },
}

const KEY_USAGE = '2.5.29.15'
const REASON_CODE = '2.5.29.21'
const DELTA_CRL_INDICATOR = '2.5.29.27'
const ISSUING_DISTRIBUTION_POINT = '2.5.29.28'
/** CRLReason removeFromCRL, which only a delta CRL may hold (RFC 5280 5.3.1). */
const REMOVE_FROM_CRL = 8
/** The bit cRLSign in the first octet of a key usage (RFC 5280 4.2.1.3). */
const CRL_SIGN = 0x02
const CONTEXT_SPECIFIC = 3

interface Authority {
  readonly certificate: X509Certificate
  /** The subject as encoded: RFC 5280 4.1.2.6 has a CA encode it in its CRLs exactly as here. */
  readonly name: Buffer
  readonly signsCrls: boolean
}

interface Unverified {
  readonly issuer: Buffer
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  readonly revoked: ReadonlySet<string>
  readonly signed: Uint8Array
  readonly algorithm: string
  readonly signature: Uint8Array
}

/**
 * Reads complete, direct certificate revocation lists (RFC 5280 5) and verifies each with one of the issuers' keys.
 *
 * `crls` is PEM, one list or several, or one list in DER; `issuers` are PEM certificates. Whether a list is still
 * current is left to the caller. Rejects with RangeError that says which list is wrong and why: not a CRL, no
 * nextUpdate, issuer unknown, bad signature, a delta or indirect list, or anything critical that is not understood.
 * No list is returned unless all of them hold. Two lists of one issuer may come back; both apply.
 */
export async function parseCrls(crls: string | Uint8Array, issuers: readonly string[]): Promise<RevocationList[]> {
  const authorities = issuers.map(parseAuthority)
  return derBlocks(crls).map((der, index, all) => {
    const which = all.length > 1 ? `CRL ${index + 1}` : 'CRL'
    try {
      return verified(parseCrl(der), authorities)
    } catch (error) {
      if (error instanceof RangeError) throw new RangeError(`${which}: ${error.message}`)
      throw error
    }
  })
}

function verified(crl: Unverified, authorities: readonly Authority[]): RevocationList {
  const named = authorities.filter(({ name }) => name.equals(crl.issuer))
  if (named.length === 0) throw new RangeError('its issuer is none of the given CAs')
  const algorithm = SIGNATURES[crl.algorithm]
  if (!algorithm) throw new RangeError(`signature algorithm ${crl.algorithm} is not accepted`)
  // A renewed CA keeps its name and may change its key, so several can match.
  const signer = named.find(({ certificate: { publicKey }, signsCrls }) => {
    if (!signsCrls || publicKey.asymmetricKeyType !== algorithm.key) return false
    return verify(algorithm.hash, crl.signed, publicKey, crl.signature)
  })
  if (!signer) throw new RangeError(`bad signature: no key of ${oneLine(named)} that may sign CRLs made it`)
  const { thisUpdate, nextUpdate, revoked } = crl
  return { issuer: signer.certificate.subject, thisUpdate, nextUpdate, revoked }
}

function oneLine([first]: readonly Authority[]): string {
  return JSON.stringify(first?.certificate.subject.replaceAll('\n', ', ') ?? '')
}

/** CertificateList and TBSCertList, RFC 5280 5.1. */
function parseCrl(der: Uint8Array): Unverified {
  const outer = items(parseDer(der), 'not a CRL')
  const [list, algorithm, signature] = outer
  if (outer.length !== 3 || !list || !algorithm || !(signature instanceof asn1.BitString)) {
    throw new RangeError('not a CRL')
  }
  const rest = [...items(list, 'not a CRL')]
  const version = rest[0] instanceof asn1.Integer ? integerBytes(rest.shift()) : undefined
  // 5.1.2.1: v2 is written as 1; a v1 list has no version field and no extensions.
  if (version && !(version.length === 1 && version[0] === 1)) throw new RangeError('not a version 2 CRL')
  const [innerAlgorithm, issuer] = [rest.shift(), rest.shift()]
  if (!innerAlgorithm || !issuer) throw new RangeError('not a CRL')
  items(issuer, 'not a CRL')
  // 5.1.1.2: the algorithm outside the signed part must be the one inside.
  if (!raw(innerAlgorithm).equals(raw(algorithm))) throw new RangeError('its two signature algorithms differ')
  const thisUpdate = parseTime(rest.shift(), 'thisUpdate')
  if (!(rest[0] instanceof asn1.UTCTime)) throw new RangeError('it states no nextUpdate')
  const nextUpdate = parseTime(rest.shift(), 'nextUpdate')
  const entries = rest[0] instanceof asn1.Sequence ? items(rest.shift(), 'not a CRL') : []
  const extensions = isTagged(rest[0], 0) ? parseExtensions(onlyItem(rest.shift())) : []
  if (rest.length > 0) throw new RangeError('not a CRL: unknown fields at its end')
  if (!version && extensions.length > 0) throw new RangeError('a version 1 CRL must have no extensions')
  refuseExtensions(extensions)
  return {
    issuer: raw(issuer),
    thisUpdate,
    nextUpdate,
    revoked: new Set(entries.map((entry) => parseEntry(entry))),
    signed: raw(list),
    algorithm: objectIdentifier(items(algorithm, 'not a CRL')[0]),
    signature: bitString(signature),
  }
}

/** The serial of one entry of revokedCertificates (RFC 5280 5.1.2.6), whatever the reason and the date. */
function parseEntry(entry: asn1.BaseBlock): string {
  const [serial, date, extensions, ...more] = items(entry, 'malformed entry')
  if (more.length > 0) throw new RangeError('malformed entry')
  parseTime(date, 'revocationDate')
  for (const { id, critical, value } of extensions ? parseExtensions(extensions) : []) {
    // certificateIssuer (5.3.3), which makes a list indirect, is always critical.
    if (critical) throw new RangeError(`entry with critical extension ${id}, which is not understood`)
    if (id === REASON_CODE && reasonCode(value) === REMOVE_FROM_CRL) {
      throw new RangeError('entry with reason removeFromCRL, which belongs into a delta CRL')
    }
  }
  return serialText(integerBytes(serial))
}

function reasonCode(value: Uint8Array): number | undefined {
  const reason = parseDer(value)
  if (!(reason instanceof asn1.Enumerated)) throw new RangeError('malformed reason code')
  return reason.valueBlock.valueHexView.at(-1)
}

/** As OpenSSL prints a serial: whole bytes in upper-case hex without leading zero bytes, zero itself as `0`. */
function serialText(bytes: Uint8Array): string {
  if ((bytes[0] ?? 0) > 0x7f) throw new RangeError('entry with a negative serial')
  const first = bytes.findIndex((byte) => byte !== 0)
  return first < 0 ? '0' : Buffer.from(bytes.subarray(first)).toString('hex').toUpperCase()
}

interface ParsedExtension {
  readonly id: string
  readonly critical: boolean
  readonly value: Uint8Array
}

function refuseExtensions(extensions: readonly ParsedExtension[]): void {
  const has = (wanted: string) => extensions.some(({ id }) => id === wanted)
  if (has(DELTA_CRL_INDICATOR)) throw new RangeError('it is a delta CRL; give the complete one')
  if (has(ISSUING_DISTRIBUTION_POINT)) {
    throw new RangeError('it has an issuing distribution point: partitioned and indirect CRLs are not supported')
  }
  const unknown = extensions.find(({ critical }) => critical)
  if (unknown) throw new RangeError(`critical extension ${unknown.id}, which is not understood`)
}

function parseExtensions(block: asn1.BaseBlock): ParsedExtension[] {
  return items(block, 'malformed extensions').map((each) => {
    const parts = items(each, 'malformed extension')
    const value = parts.at(-1)
    const critical = parts.length === 3 ? parts[1] : undefined
    const malformed =
      parts.length < 2 || parts.length > 3 || (parts.length === 3 && !(critical instanceof asn1.Boolean))
    if (malformed || !(value instanceof asn1.OctetString)) throw new RangeError('malformed extension')
    return {
      id: objectIdentifier(parts[0]),
      critical: critical instanceof asn1.Boolean && critical.getValue(),
      value: value.valueBlock.valueHexView,
    }
  })
}

function parseAuthority(pem: string): Authority {
  const certificate = new X509Certificate(pem)
  const fields = items(items(parseDer(certificate.raw), 'not a certificate')[0], 'not a certificate')
  // RFC 5280 4.1: the version, in brackets, may be missing; then serial, algorithm, issuer, validity, subject.
  const subject = fields[isTagged(fields[0], 0) ? 5 : 4]
  if (!subject) throw new RangeError('not a certificate')
  const tagged = fields.find((field) => isTagged(field, 3))
  const usage = tagged && parseExtensions(onlyItem(tagged)).find(({ id }) => id === KEY_USAGE)
  return { certificate, name: raw(subject), signsCrls: !usage || signsCrls(usage.value) }
}

function signsCrls(keyUsage: Uint8Array): boolean {
  const bits = parseDer(keyUsage)
  return bits instanceof asn1.BitString && ((bits.valueBlock.valueHexView[0] ?? 0) & CRL_SIGN) !== 0
}

/** RFC 5280 5.1.2.4: UTCTime or GeneralizedTime in whole seconds of UTC, nothing shorter or longer. */
function parseTime(block: asn1.BaseBlock | undefined, field: string): Date {
  if (!(block instanceof asn1.UTCTime)) throw new RangeError(`malformed ${field}`)
  const text = Buffer.from(block.valueBlock.valueHexView).toString('latin1')
  const digits = block instanceof asn1.GeneralizedTime ? /^\d{14}Z$/ : /^\d{12}Z$/
  if (!digits.test(text)) throw new RangeError(`malformed ${field}`)
  // 4.1.2.5.1: two digits of 50 and more are of the 20th century.
  const full = text.length === 15 ? text : `${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text}`
  const date = new Date(full.replace(/^(....)(..)(..)(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z'))
  if (Number.isNaN(date.getTime())) throw new RangeError(`malformed ${field}`)
  return date
}

/** The DER of each list; several only in PEM. */
function derBlocks(crls: string | Uint8Array): Uint8Array[] {
  if (typeof crls !== 'string' && crls[0] === 0x30) return [crls]
  const text = typeof crls === 'string' ? crls : Buffer.from(crls).toString('latin1')
  const begun = text.match(/-----BEGIN [^-\n]*-----/g) ?? []
  const blocks = [...text.matchAll(/-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]*)-----END X509 CRL-----/g)]
  if (blocks.length === 0) throw new RangeError('not a CRL: neither DER nor a PEM block X509 CRL')
  // A block that was cut off or is something else must not pass as one list fewer.
  if (begun.length !== blocks.length) throw new RangeError('not only CRLs: some PEM block is broken or something else')
  return blocks.map(([, base64 = '']) => Buffer.from(base64, 'base64'))
}

function parseDer(bytes: Uint8Array): asn1.BaseBlock {
  // The parser's own bound of 10,000 nodes would end at 3,000 entries; every node takes at least two bytes.
  const { offset, result } = asn1.fromBER(Uint8Array.from(bytes), {
    maxNodes: bytes.length,
    parseEmbedded: false,
    copyInput: false,
  })
  if (offset !== bytes.length || result.error) throw new RangeError('not DER')
  return result
}

function items(block: asn1.BaseBlock | undefined, problem: string): readonly asn1.BaseBlock[] {
  if (!(block instanceof asn1.Sequence)) throw new RangeError(problem)
  return block.valueBlock.value
}

/** The one thing in an explicit tag. */
function onlyItem(block: asn1.BaseBlock | undefined): asn1.BaseBlock {
  const [first, ...more] = block instanceof asn1.Constructed ? block.valueBlock.value : []
  if (!first || more.length > 0) throw new RangeError('malformed extensions')
  return first
}

function isTagged(block: asn1.BaseBlock | undefined, tag: number): boolean {
  return block?.idBlock.tagClass === CONTEXT_SPECIFIC && block.idBlock.tagNumber === tag
}

/** The bytes of an INTEGER as they stand, with sign. */
function integerBytes(block: asn1.BaseBlock | undefined): Uint8Array {
  if (!(block instanceof asn1.Integer) || block.valueBlock.valueHexView.length === 0) {
    throw new RangeError('malformed number')
  }
  return block.valueBlock.valueHexView
}

function bitString(block: asn1.BitString): Uint8Array {
  if (block.valueBlock.isConstructed || block.valueBlock.unusedBits !== 0) throw new RangeError('malformed signature')
  return block.valueBlock.valueHexView
}

function objectIdentifier(block: asn1.BaseBlock | undefined): string {
  if (!(block instanceof asn1.ObjectIdentifier)) throw new RangeError('malformed object identifier')
  return block.valueBlock.toString()
}

/** The block as encoded. */
function raw(block: asn1.BaseBlock): Buffer {
  return Buffer.from(block.valueBeforeDecodeView)
}

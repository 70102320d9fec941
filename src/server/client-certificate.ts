import type { X509Certificate } from 'node:crypto'
import { type ClientIdentity, normalFingerprint } from '../broker/policy.ts'

/** What this service knows of a client: read once from its verified leaf certificate. */
export interface ClientCertificate extends ClientIdentity {
  readonly x509: X509Certificate
  /** First URI SAN, else first DNS SAN, else common name, else fingerprint: the client's name in logs. */
  readonly label: string
  /** Upper-case hexadecimal, as node prints it. */
  readonly serialNumber: string
  /** ms since 1970, both inclusive (RFC 5280 4.1.2.5). */
  readonly notBefore: number
  readonly notAfter: number
}

/** Reads the identity out of a leaf that TLS has verified. Names that can't be read for certain are left out. */
export function readClientCertificate(x509: X509Certificate): ClientCertificate {
  const names = parseSubjectAltName(x509.subjectAltName ?? '')
  const uris = names.filter(({ type }) => type === 'URI').map(({ value }) => value)
  const dnsNames = names.filter(({ type }) => type === 'DNS').map(({ value }) => value)
  const commonName = readCommonName(x509)
  const fingerprint256 = normalFingerprint(x509.fingerprint256)
  return {
    x509,
    uris,
    dnsNames,
    commonName,
    fingerprint256,
    label: uris[0] ?? dnsNames[0] ?? commonName ?? fingerprint256,
    serialNumber: x509.serialNumber,
    notBefore: x509.validFromDate.getTime(),
    notAfter: x509.validToDate.getTime(),
  }
}

/** A subject with two common names has none that could be trusted to be the meant one. */
function readCommonName(x509: X509Certificate): string | undefined {
  const name: unknown = x509.toLegacyObject().subject?.CN
  return typeof name === 'string' && name !== '' ? name : undefined
}

interface AltName {
  readonly type: string
  readonly value: string
}

/**
 * Takes apart node's print of the extension: `URI:…, DNS:…`. Node prints a value as a JSON string whenever it holds a
 * comma, a quote or anything that is not printable ASCII, so a comma outside quotes always separates two names.
 * A print that does not follow this gives no names at all.
 */
export function parseSubjectAltName(printed: string): AltName[] {
  const names: AltName[] = []
  const entry = /([A-Za-z ]+):((?:"(?:[^"\\]|\\.)*"|[^",])*)(?:, (?!$)|$)/y
  while (entry.lastIndex < printed.length) {
    const [, type = '', raw = ''] = entry.exec(printed) ?? []
    const value = type === '' ? undefined : unquote(raw)
    if (value === undefined) return []
    names.push({ type, value })
  }
  return names
}

function unquote(raw: string): string | undefined {
  if (!raw.includes('"')) return raw
  try {
    const value: unknown = JSON.parse(raw)
    return typeof value === 'string' ? value : undefined
  } catch {
    // Names of other kinds (directory names) may be quoted in part. They are no identity of ours.
    return raw
  }
}

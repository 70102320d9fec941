import type { X509Certificate } from 'node:crypto'
import type { ClientCertificate } from './client-certificate.ts'

/** Whom we trust: the certificates of `clientCa` and what their CRLs revoke. Replaced as a whole on reload. */
export interface Trust {
  /** Grows whenever the authorities or the revocations change: what was judged before is judged again. */
  readonly epoch: number
  readonly authorities: readonly X509Certificate[]
  /** Serial numbers by the issuer's name, both as node prints them. */
  readonly revoked: ReadonlyMap<string, ReadonlySet<string>>
}

/** Why a certificate that once passed the handshake is refused; also `reason` of tls_rejected_total. */
export type Refusal = 'revoked' | 'expired' | 'not-yet-valid' | 'untrusted'

/** Deeper chains are refused: no real one has that many links, and the search stays small. */
const MAX_DEPTH = 8

/** Judged at every request, on resumed sessions too: sockets and tickets outlive certificates. */
export function refusalOf(
  client: ClientCertificate,
  intermediates: readonly X509Certificate[],
  trust: Trust,
  now: number,
): Refusal | undefined {
  if (now < client.notBefore) return 'not-yet-valid'
  if (now >= client.notAfter + 1000) return 'expired'
  if (trust.revoked.size === 0) return undefined
  return [client.x509, ...intermediates].some((each) => isRevoked(each, trust)) ? 'revoked' : undefined
}

function isRevoked(certificate: X509Certificate, trust: Trust): boolean {
  return trust.revoked.get(certificate.issuer)?.has(certificate.serialNumber) ?? false
}

/**
 * Whether signatures lead from `leaf` over `others` to a self-signed certificate of `authorities`, all valid at `now`
 * and none revoked (RFC 5280 6.1, as far as names, signatures, dates and the CA flag go). Usages and further
 * constraints were checked at the handshake. False as well where it can't be decided.
 */
export function chainsTo(
  leaf: X509Certificate,
  trust: Trust,
  now: number,
  others: readonly X509Certificate[] = [],
  depth = MAX_DEPTH,
): boolean {
  if (depth === 0) return false
  // A self-signed client certificate may itself be listed as an authority.
  if (isRoot(leaf)) return trust.authorities.some((each) => each.fingerprint256 === leaf.fingerprint256)
  const issuers = [...trust.authorities, ...others.filter((each) => !isRoot(each))].filter((issuer) =>
    issued(issuer, leaf, now),
  )
  return issuers.some((issuer) => {
    if (isRoot(issuer)) return true
    return !isRevoked(issuer, trust) && chainsTo(issuer, trust, now, others, depth - 1)
  })
}

/** Whether it names itself as its issuer. */
function isRoot(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate)
}

function issued(issuer: X509Certificate, subject: X509Certificate, now: number): boolean {
  if (!issuer.ca || !subject.checkIssued(issuer)) return false
  if (now < issuer.validFromDate.getTime() || now > issuer.validToDate.getTime()) return false
  return subject.verify(issuer.publicKey)
}

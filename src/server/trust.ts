import type { X509Certificate } from 'node:crypto'
import type { ClientCertificate } from './client-certificate.ts'

/**
 * Whom we trust: the certificates of `clientCa` and what their CRLs revoke. Replaced as a whole when either changes:
 * what was judged under another object has to be judged again. The array stays the same while the file does.
 */
export interface Trust {
  readonly authorities: readonly X509Certificate[]
  readonly revoked: readonly RevokedSerials[]
}

/** What one CA has revoked: its certificates of the CA file (several when it was re-keyed), and the serial numbers. */
export interface RevokedSerials {
  readonly issuers: readonly X509Certificate[]
  /** Upper-case hexadecimal, as node prints them. */
  readonly serials: ReadonlySet<string>
}

/**
 * Why a certificate that once passed the handshake is refused; also `reason` of tls_rejected_total. `undecidable`:
 * it may have been issued by a revoked intermediate, since its chain can't be followed in the CA file.
 */
export type Refusal = 'revoked' | 'expired' | 'not-yet-valid' | 'untrusted' | 'undecidable'

/** Longer chains are refused: no real one has that many links. */
const MAX_DEPTH = 8

/** Judges the dates alone, at every request: sockets and tickets outlive certificates. `now` in ms since 1970. */
export function dateRefusal({ notBefore, notAfter }: ClientCertificate, now: number): Refusal | undefined {
  if (now < notBefore) return 'not-yet-valid'
  return now >= notAfter + 1000 ? 'expired' : undefined
}

/** Why no good chain leads from `leaf` to a root of ours; undefined when one does. */
export function chainRefusal(leaf: X509Certificate, trust: Trust, now: number): Refusal | undefined {
  if (isRevoked(leaf, trust)) return 'revoked'
  if (chainsTo(leaf, trust, now)) return undefined
  return chainsTo(leaf, { ...trust, revoked: [] }, now) ? 'revoked' : 'untrusted'
}

/**
 * Whether signatures lead from `leaf` over `others` to a self-signed certificate of `authorities`, the issuers valid
 * at `now` and no link revoked (RFC 5280 6.1, as far as names, signatures, dates and the CA flag go). The leaf's own
 * dates, usages and further constraints were checked at the handshake. False as well where it can't be decided.
 */
export function chainsTo(
  leaf: X509Certificate,
  trust: Trust,
  now: number,
  others: readonly X509Certificate[] = [],
): boolean {
  const candidates = [...trust.authorities, ...others]
  const seen = new Set<string>()
  let links = [leaf]
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const good = links.filter((link) => !isRevoked(link, trust))
    if (good.some((link) => isRoot(link, trust))) return true
    links = []
    for (const link of good) {
      for (const issuer of candidates) {
        if (seen.has(issuer.fingerprint256) || !issued(issuer, link, now)) continue
        seen.add(issuer.fingerprint256)
        links.push(issuer)
      }
    }
  }
  return false
}

/** Names are compared as TLS compares them, which takes names that differ in case or white space for the same. */
function isRevoked(certificate: X509Certificate, { revoked }: Trust): boolean {
  return revoked.some(({ issuers, serials }) => {
    return serials.has(certificate.serialNumber) && issuers.some((issuer) => certificate.checkIssued(issuer))
  })
}

/** A self-signed certificate of the file; a client's own may be listed there too. */
function isRoot(certificate: X509Certificate, trust: Trust): boolean {
  if (certificate.subject !== certificate.issuer || !certificate.verify(certificate.publicKey)) return false
  return trust.authorities.some((each) => each.fingerprint256 === certificate.fingerprint256)
}

function issued(issuer: X509Certificate, subject: X509Certificate, now: number): boolean {
  if (!issuer.ca || !subject.checkIssued(issuer)) return false
  if (now < issuer.validFromDate.getTime() || now >= issuer.validToDate.getTime() + 1000) return false
  return subject.verify(issuer.publicKey)
}

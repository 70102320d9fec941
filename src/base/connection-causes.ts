import type { Reason } from './errors.ts'

/** Why no connection to a server came about, or it ended: the reason, the words, and what to do where it is a store's. */
export interface Cause {
  readonly reason: Reason
  readonly meaning: string
  readonly hint: string
}

const UNKNOWN_CA: Cause = {
  reason: 'unknown-ca',
  meaning: 'its certificate comes from a CA that is not trusted here',
  hint: "give the CA's certificate: `ca` of the provider, --ca of doctor",
}
const OUT_OF_DATE: Cause = {
  reason: 'unknown-ca',
  meaning: 'its certificate is not valid at this time',
  hint: "renew the server's certificate, or set the clock of this machine",
}
const REFUSED: Cause = {
  reason: 'refused',
  meaning: 'it refuses the connection',
  hint: 'check the address, the port and that the server runs with TLS',
}
const NO_ROUTE: Cause = {
  reason: 'refused',
  meaning: 'there is no way to it',
  hint: 'check the address and the routes',
}
export const CLOSED: Cause = {
  reason: 'refused',
  meaning: 'it closes the connection',
  hint: 'check that port and transport fit together: TLS or none, and for LDAP ldaps 636, starttls 389',
}
export const SILENT: Cause = {
  reason: 'hang',
  meaning: 'it does not answer',
  hint: 'check the address and the firewall',
}
const NO_NAME: Cause = {
  reason: 'not-found',
  meaning: 'its name is not known',
  hint: 'check the name and the DNS servers',
}

const BY_CODE: Readonly<Record<string, Cause>> = {
  ERR_TLS_CERT_ALTNAME_INVALID: {
    reason: 'name-mismatch',
    meaning: 'its certificate is for another name',
    hint: 'use the name in the certificate',
  },
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_CA,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_CA,
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_CA,
  UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_CA,
  CERT_SIGNATURE_FAILURE: UNKNOWN_CA,
  CERT_HAS_EXPIRED: OUT_OF_DATE,
  CERT_NOT_YET_VALID: OUT_OF_DATE,
  ECONNREFUSED: REFUSED,
  EHOSTUNREACH: NO_ROUTE,
  ENETUNREACH: NO_ROUTE,
  ECONNRESET: CLOSED,
  EPIPE: CLOSED,
  ENOTFOUND: NO_NAME,
  EAI_AGAIN: NO_NAME,
  ETIMEDOUT: SILENT,
}

const TLS_FAULT = /^(?:EPROTO$|ERR_SSL_|ERR_OSSL_|ERR_TLS_)/

/** What an error code of the system, of Node's TLS or of OpenSSL means for a connection; undefined for any other. */
export function connectionCause(code: string): Cause | undefined {
  return BY_CODE[code] ?? (TLS_FAULT.test(code) ? badTls(code) : undefined)
}

/** What OpenSSL says of a peer that speaks no TLS, and of files that hold no PEM. Never what stands in them. */
function badTls(code: string): Cause {
  return {
    reason: 'protocol',
    meaning: `TLS fails: ${code}`,
    hint: 'check that port and transport fit together, and the PEM files of ca, certificate and key',
  }
}

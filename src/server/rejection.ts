import type { TLSSocket } from 'node:tls'

/** Why a handshake failed, for metric and log: few words, whatever the client sent. */
export function rejectionReason(error: NodeJS.ErrnoException, socket: TLSSocket): string {
  // Node ends a socket whose certificate it could not verify without an error of its own; the cause stands here.
  const verification: unknown = socket.authorizationError
  if (typeof verification === 'string') return VERIFICATION[verification] ?? 'untrusted'
  return HANDSHAKE[error.code ?? ''] ?? 'handshake-failed'
}

/** The results of certificate verification that are not simply a missing link to a trusted root. */
const VERIFICATION: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'expired',
  CERT_NOT_YET_VALID: 'not-yet-valid',
  INVALID_PURPOSE: 'wrong-usage',
  CERT_REVOKED: 'revoked',
}

const HANDSHAKE: Readonly<Record<string, string>> = {
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'no-certificate',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'protocol-version',
  ERR_SSL_NO_SHARED_CIPHER: 'no-shared-cipher',
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM: 'no-shared-cipher',
  ERR_SSL_HTTP_REQUEST: 'plain-http',
  ERR_SSL_WRONG_VERSION_NUMBER: 'not-tls',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'timeout',
  ECONNRESET: 'reset',
}

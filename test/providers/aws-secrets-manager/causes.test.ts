import { describe, expect, test } from 'vitest'
import { type ErrorCode, GmsaError, type Reason } from '../../../src/base/errors.ts'
import { remedyFor, secretsManagerError } from '../../../src/providers/aws-secrets-manager/causes.ts'

const NOW = Date.UTC(2026, 0, 1)

/** An error as the library makes it of an answer. */
const thrown = (name: string, status = 400, headers: Record<string, string> = {}, message = 'pa55') =>
  Object.assign(new Error(message), { name, $metadata: { httpStatusCode: status }, $response: { headers } })
const network = (code: string, name = 'Error') => Object.assign(new Error('pa55'), { name, code })

type Case = readonly [error: Error, code: ErrorCode, reason?: Reason, remedy?: 'renew' | 'again']
const AT = { date: new Date(NOW).toUTCString() }
const LATER = { date: new Date(NOW + 300_000).toUTCString() }

describe('an error of the library', () => {
  test.each<Case>([
    [thrown('ResourceNotFoundException'), 'ACCOUNT_NOT_FOUND'],
    [thrown('InvalidRequestException'), 'ACCOUNT_NOT_FOUND'],
    [thrown('InvalidParameterException'), 'ACCOUNT_NOT_FOUND'],
    [thrown('ValidationException'), 'ACCOUNT_NOT_FOUND'],
    [thrown('AccessDeniedException'), 'STORE_DENIED', 'not-permitted'],
    [thrown('AccessDenied', 403), 'STORE_DENIED', 'not-permitted'],
    [thrown('DecryptionFailure'), 'STORE_DENIED', 'not-permitted'],
    [thrown('OptInRequired', 403), 'STORE_DENIED', 'not-permitted'],
    [thrown('ExpiredTokenException'), 'STORE_DENIED', 'expired', 'renew'],
    [thrown('ExpiredToken', 403), 'STORE_DENIED', 'expired', 'renew'],
    [thrown('TokenRefreshRequired'), 'STORE_DENIED', 'expired', 'renew'],
    [thrown('UnrecognizedClientException'), 'STORE_DENIED', 'bad-password', 'renew'],
    [thrown('InvalidClientTokenId', 403), 'STORE_DENIED', 'bad-password', 'renew'],
    [thrown('InvalidSignatureException', 400, AT), 'STORE_DENIED', 'bad-password', 'renew'],
    [thrown('SignatureDoesNotMatch'), 'STORE_DENIED', 'bad-password', 'renew'],
    [thrown('IncompleteSignature'), 'STORE_DENIED', 'bad-password', 'renew'],
    [thrown('MissingAuthenticationToken', 403), 'STORE_DENIED', 'bad-password', 'renew'],
    [thrown('InvalidIdentityToken'), 'STORE_DENIED', 'bad-password', 'renew'],
    [thrown('CredentialsProviderError'), 'STORE_DENIED', 'not-found'],
    [thrown('InvalidSignatureException', 400, LATER), 'STORE_UNAVAILABLE', 'clock', 'again'],
    [thrown('InvalidSignatureException', 400, {}, 'Signature expired: x'), 'STORE_UNAVAILABLE', 'clock', 'again'],
    [thrown('InvalidSignatureException', 400, {}, 'Signature not yet current'), 'STORE_UNAVAILABLE', 'clock', 'again'],
    [thrown('RequestExpired'), 'STORE_UNAVAILABLE', 'clock', 'again'],
    [thrown('RequestTimeTooSkewed', 403), 'STORE_UNAVAILABLE', 'clock', 'again'],
    [thrown('ThrottlingException'), 'STORE_UNAVAILABLE'],
    [thrown('TooManyRequestsException', 429), 'STORE_UNAVAILABLE'],
    [thrown('Unknown', 429), 'STORE_UNAVAILABLE'],
    [thrown('InternalServiceError', 500), 'STORE_UNAVAILABLE'],
    [thrown('SyntaxError', 503), 'STORE_UNAVAILABLE'],
    [thrown('SyntaxError', 200), 'STORE_UNAVAILABLE', 'protocol'],
    [thrown('AnswerTooLarge', 200), 'STORE_UNAVAILABLE', 'protocol'],
    [thrown('constructor', 400), 'STORE_UNAVAILABLE', 'protocol'],
    [network('ECONNREFUSED'), 'STORE_UNAVAILABLE', 'refused'],
    [network('ECONNRESET', 'TimeoutError'), 'STORE_UNAVAILABLE', 'refused'],
    [network('', 'TimeoutError'), 'STORE_UNAVAILABLE', 'hang'],
    [network('ENOTFOUND'), 'STORE_UNAVAILABLE', 'not-found'],
    [network('ERR_TLS_CERT_ALTNAME_INVALID'), 'STORE_UNAVAILABLE', 'name-mismatch'],
    [new Error('pa55', { cause: network('CERT_HAS_EXPIRED') }), 'STORE_UNAVAILABLE', 'unknown-ca'],
  ])('%s is %s, reason %s, and against it helps %s', (error, code, reason, remedy) => {
    const ours = secretsManagerError(error, 'secret of account web01', NOW)
    expect(ours).toMatchObject({ code, reason })
    expect(ours.cause).toBeUndefined()
    expect(ours.message).toMatch(/^AWS Secrets Manager .*: secret of account web01$/)
    expect(ours.message + ours.hint).not.toContain('pa55')
    expect(remedyFor(error, NOW)).toBe(remedy)
  })

  test('that is ours already is left as it is', () => {
    const ours = new GmsaError('MATERIAL_MALFORMED', 'broken')
    expect(secretsManagerError(ours, 'secret', NOW)).toBe(ours)
  })

  test('says when to come back, where the service does', () => {
    const throttled = secretsManagerError(thrown('ThrottlingException', 400, { 'retry-after': '3' }), 'secret', NOW)
    expect(throttled.retryAfter).toBe(3)
    const denied = secretsManagerError(thrown('AccessDeniedException', 400, { 'retry-after': '3' }), 'secret', NOW)
    expect(denied.retryAfter).toBeUndefined()
  })
})

import { describe, expect, test } from 'vitest'
import { healthError, isAboutPolicy, logInError, requestError } from '../../../src/providers/vault/causes.ts'
import { printed } from '../../contract/printed.ts'

const SECRET = 'pa55-Kanari'
const answer = (status: number, ...errors: unknown[]) => ({ status, retryAfter: 7, body: { errors } })

/** The words are those that OpenBao 2.7 was seen to send. */
describe('a log-in refused with', () => {
  test.each([
    [400, 'invalid role or secret ID', 'bad-password', 'secret ID'],
    [400, 'error validating token: invalid expiration time (exp) claim: token is expired', 'expired', 'expired'],
    [403, 'invalid expiration time (exp) claim: token is expired', 'expired', 'expired'],
    [400, 'error validating token: invalid not before (nbf) claim: token not yet valid', 'clock', 'not valid yet'],
    [400, 'error validating token: invalid audience (aud) claim: …', 'not-permitted', 'audience'],
    [400, 'error validating token: invalid subject (sub) claim', 'not-permitted', 'does not take the token'],
    [400, 'error validating token: error verifying token signature: …', 'not-permitted', 'does not take the token'],
    [403, 'namespace not authorized', 'not-permitted', 'service account'],
    [403, 'service account name not authorized', 'not-permitted', 'service account'],
    [400, 'role "gmsa" could not be found', 'not-found', 'no such role'],
    [400, 'invalid role name "gmsa"', 'not-found', 'no such role'],
    [400, 'no client certificate found', 'not-permitted', 'client certificate'],
    [400, 'source address "127.0.0.1" unauthorized by CIDR restrictions on the role', 'not-permitted', 'our address'],
    [404, 'namespace not found', 'not-found', 'no such namespace'],
    [403, 'permission denied', 'not-permitted', 'refuses the log-in'],
    [400, 'something new', 'not-permitted', 'refuses the log-in'],
  ])('%i %s is denied as %s', (status, words, reason, said) => {
    const error = logInError(answer(status, `${words} ${SECRET}`), 'bao:8200', 'auth/x/login')
    expect(error).toMatchObject({ code: 'STORE_DENIED', reason })
    expect(error.message).toContain(said)
    expect(error.message).toContain('bao:8200')
    expect(printed(error)).not.toContain(SECRET)
  })

  test.each([[{}], [{ errors: 'x' }], [{ errors: [1, null] }], [undefined], ['text'], [[]]])(
    'a body that is none of theirs (%j) is a refusal like any other',
    (body) => {
      expect(logInError({ status: 400, body }, 's', 'p').message).toContain('refuses the log-in')
    },
  )
})

describe('a request answered with', () => {
  test.each([
    [403, 'permission denied', 'STORE_DENIED', 'not-permitted', 'does not let us read'],
    [404, '', 'ACCOUNT_NOT_FOUND', undefined, 'has no version 2 of kv/data/one'],
    [404, 'namespace not found', 'STORE_DENIED', 'not-found', 'no such namespace'],
    [404, 'no handler for route "kv/data/one". route entry not found.', 'STORE_DENIED', 'not-found', 'nothing mounted'],
    [400, 'relative paths not supported', 'STORE_UNAVAILABLE', 'protocol', 'answers 400'],
    [412, 'required index state not present', 'STORE_UNAVAILABLE', undefined, 'lags behind'],
    [429, 'rate limit quota exceeded', 'STORE_UNAVAILABLE', undefined, 'slow down'],
    [472, '', 'STORE_UNAVAILABLE', undefined, 'disaster recovery'],
    [473, '', 'STORE_UNAVAILABLE', undefined, 'performance standby'],
    [307, '', 'STORE_UNAVAILABLE', 'protocol', 'another address'],
    [500, 'internal error', 'STORE_UNAVAILABLE', undefined, 'answers 500'],
    [502, '', 'STORE_UNAVAILABLE', undefined, 'answers 502'],
    [503, 'Vault is sealed', 'STORE_UNAVAILABLE', undefined, 'is sealed'],
    [503, 'upstream connect error', 'STORE_UNAVAILABLE', undefined, 'answers 503'],
  ])('%i %s is %s', (status, words, code, reason, said) => {
    const error = requestError(answer(status, words, SECRET), 'bao:8200', 'kv/data/one', 'version 2 of kv/data/one')
    expect(error).toMatchObject({ code, reason })
    expect(error.message).toContain(said)
    expect(printed(error)).not.toContain(SECRET)
    if (status === 429) expect(error.retryAfter).toBe(7)
  })
})

test.each([
  [403, '1 error occurred:\n\t* permission denied\n\n', true],
  [403, '1 error(s) occurred:\n\n* permission denied', true],
  [403, 'permission denied', false],
  [403, '2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n', false],
  [400, '1 error occurred:\n\t* permission denied\n\n', false],
])('%i %j: about the policy: %s', (status, words, expected) => {
  expect(isAboutPolicy(answer(status, words))).toBe(expected)
})

test('a health that explains nothing is no error', () => {
  expect(healthError({ status: 200, body: {} }, 's')).toBeUndefined()
  expect(healthError({ status: 503, body: {} }, 's')).toMatchObject({ code: 'STORE_UNAVAILABLE' })
})

import {
  BusyError,
  ConfidentialityRequiredError,
  InsufficientAccessError,
  InvalidCredentialsError,
  NoSuchObjectError,
  OperationsError,
  StrongAuthRequiredError,
} from 'ldapts'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../../src/base/errors.ts'
import { directoryError, passwordError } from '../../../src/providers/active-directory/causes.ts'

const coded = (code: string, message = code) => Object.assign(new Error(message), { code })
const lockedOut = '80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data '

describe('the cause of a refused log-on', () => {
  test.each([
    ['525', 'not-found'],
    ['52e', 'bad-password'],
    ['530', 'not-permitted'],
    ['531', 'not-permitted'],
    ['532', 'password-expired'],
    ['533', 'disabled'],
    ['701', 'expired'],
    ['773', 'must-change'],
    ['775', 'locked'],
  ])('data %s is %s, with a hint', (data, reason) => {
    const error = directoryError(new InvalidCredentialsError(`${lockedOut}${data}, v4563`), 'dc1')
    expect(error).toMatchObject({ code: 'STORE_DENIED', reason })
    expect(error.hint).toBeTruthy()
    expect(error.message).toContain(data)
  })

  test('one that is not said counts as a wrong password: nothing is tried again', () => {
    expect(directoryError(new InvalidCredentialsError('no'), 'dc1')).toMatchObject({ reason: 'bad-password' })
    const other = new InvalidCredentialsError(`${lockedOut}57, v1`)
    expect(directoryError(other, 'dc1')).toMatchObject({ reason: 'bad-password' })
  })
})

describe('the cause of anything else', () => {
  test.each<[string, unknown, string, string]>([
    ['plain LDAP', new StrongAuthRequiredError('x'), 'STORE_DENIED', 'not-encrypted'],
    ['TLS wanted', new ConfidentialityRequiredError('x'), 'STORE_DENIED', 'not-encrypted'],
    ['TLS wanted for the password', new OperationsError('0000202D: Viewing …'), 'STORE_DENIED', 'not-encrypted'],
    ['a log-on lost', new OperationsError('000004DC: LdapErr: DSID-0C090A71'), 'STORE_UNAVAILABLE', 'protocol'],
    ['no right', new InsufficientAccessError('x'), 'STORE_DENIED', 'not-permitted'],
    ['another base', new NoSuchObjectError('x'), 'STORE_UNAVAILABLE', 'not-found'],
    ['too much to do', new BusyError('x'), 'STORE_UNAVAILABLE', 'protocol'],
    ['nobody there', coded('ECONNREFUSED'), 'STORE_UNAVAILABLE', 'refused'],
    ['another name', coded('ERR_TLS_CERT_ALTNAME_INVALID'), 'STORE_UNAVAILABLE', 'name-mismatch'],
    ['another CA', coded('SELF_SIGNED_CERT_IN_CHAIN'), 'STORE_UNAVAILABLE', 'unknown-ca'],
    ['an old certificate', coded('CERT_HAS_EXPIRED'), 'STORE_UNAVAILABLE', 'unknown-ca'],
    ['no TLS', coded('ERR_SSL_WRONG_VERSION_NUMBER'), 'STORE_UNAVAILABLE', 'protocol'],
    ['no PEM', coded('ERR_OSSL_PEM_NO_START_LINE'), 'STORE_UNAVAILABLE', 'protocol'],
    ['an unknown name', coded('ENOTFOUND'), 'STORE_UNAVAILABLE', 'not-found'],
    ['a firewall', coded('ETIMEDOUT'), 'STORE_UNAVAILABLE', 'hang'],
    ['silence', new Error('SearchRequest: Operation timed out'), 'STORE_UNAVAILABLE', 'hang'],
    ['silence at the start', new Error('Connection timeout'), 'STORE_UNAVAILABLE', 'hang'],
    ['an end', new Error('Connection closed before message response was received.'), 'STORE_UNAVAILABLE', 'refused'],
    ['nonsense', new TypeError('x'), 'STORE_UNAVAILABLE', 'protocol'],
    ['no error', 'x', 'STORE_UNAVAILABLE', 'protocol'],
  ])('%s', (_, error, code, reason) => {
    expect(directoryError(error, 'dc1')).toMatchObject({ code, reason, message: expect.stringContaining('dc1') })
  })

  test('an error of ours stays what it is', () => {
    const ours = new GmsaError('ACCOUNT_NOT_FOUND', 'x')
    expect(directoryError(ours, 'dc1')).toBe(ours)
    expect(passwordError(ours, 'dc1')).toBe(ours)
  })

  test('operationsError means the clock only where a password was asked for', () => {
    const unsaid = new OperationsError('00002020: operational_search_post_process failed')
    expect(directoryError(unsaid, 'dc1')).toMatchObject({ code: 'STORE_UNAVAILABLE', reason: 'protocol' })
    expect(passwordError(unsaid, 'dc1')).toMatchObject({ code: 'STORE_UNAVAILABLE', reason: 'clock' })
    expect(passwordError(new OperationsError('0000202D: x'), 'dc1')).toMatchObject({ reason: 'not-encrypted' })
  })
})

import {
  AdminLimitExceededError,
  AuthMethodNotSupportedError,
  BusyError,
  ConfidentialityRequiredError,
  InappropriateAuthError,
  InsufficientAccessError,
  InvalidCredentialsError,
  NoSuchObjectError,
  OperationsError,
  ResultCodeError,
  StrongAuthRequiredError,
  TimeLimitExceededError,
  TLSNotSupportedError,
  UnavailableError,
  UnwillingToPerformError,
} from 'ldapts'
import { type Cause, CLOSED, connectionCause, SILENT } from '../../base/connection-causes.ts'
import { type ErrorCode, GmsaError, type Reason } from '../../base/errors.ts'

/** What `data XXX` in a refused bind means: the Windows error code in hexadecimal ([MS-ERREF] 2.2). */
const BIND_CAUSES: Readonly<Record<string, Cause>> = {
  '525': {
    reason: 'not-found',
    meaning: 'no such user',
    hint: 'compare username and domainName in the store with the directory',
  },
  '52e': {
    reason: 'bad-password',
    meaning: 'wrong user name or password',
    hint: 'store the current password of the account, without a line break at its end; compare the user name as well',
  },
  '530': {
    reason: 'not-permitted',
    meaning: 'not allowed to log on at this time',
    hint: "look at the account's logonHours",
  },
  '531': {
    reason: 'not-permitted',
    meaning: 'not allowed to log on from here',
    hint: "look at the account's userWorkstations",
  },
  '532': {
    reason: 'password-expired',
    meaning: 'the password has expired',
    hint: 'set a new password in the directory and store it',
  },
  '533': {
    reason: 'disabled',
    meaning: 'the account is disabled',
    hint: 'enable it: userAccountControl has ACCOUNTDISABLE (2) set',
  },
  '568': { reason: 'not-permitted', meaning: 'member of too many groups', hint: 'reduce its group memberships' },
  '701': {
    reason: 'expired',
    meaning: 'the account has expired',
    hint: 'look at accountExpires',
  },
  '773': {
    reason: 'must-change',
    meaning: 'the password must be changed at the next log-on',
    hint: 'set pwdLastSet to -1, or a new password, and store it',
  },
  '775': {
    reason: 'locked',
    meaning: 'the account is locked out',
    hint: 'look at lockoutTime, and for whoever tries wrong passwords',
  },
}

/** Errors of the LDAP library for a connection that ended have no code, only a text. */
const LOST = /^(?:Connection closed before|Socket error|Socket connection not established)/
const TIMED_OUT = /timed? ?out/i

/**
 * An error of the LDAP library as one of ours. The causes are kept: their texts are the server's diagnosis and may hold
 * the name of the bind, never its password.
 */
export function directoryError(error: unknown, host: string): GmsaError {
  if (error instanceof GmsaError) return error
  if (error instanceof InvalidCredentialsError) return refusedBind(error, host)
  if (error instanceof ResultCodeError) return refusedOperation(error, host)
  const { code = '', message = '' } = error as NodeJS.ErrnoException
  const cause = causeOf(code, message)
  return new GmsaError('STORE_UNAVAILABLE', `${host}: ${cause?.meaning ?? (code || 'unexpected answer')}`, {
    cause: error,
    reason: cause?.reason ?? 'protocol',
    ...(cause && { hint: cause.hint }),
  })
}

function causeOf(code: string, message: string): Cause | undefined {
  if (TIMED_OUT.test(message)) return SILENT
  if (LOST.test(message)) return CLOSED
  return connectionCause(code)
}

/** No answer within the time there was for this server. */
export function silentServer(host: string, cause?: unknown): GmsaError {
  return new GmsaError('STORE_UNAVAILABLE', `${host}: ${SILENT.meaning}`, {
    ...(cause === undefined ? {} : { cause }),
    reason: SILENT.reason,
    hint: SILENT.hint,
  })
}

function refusedBind(error: InvalidCredentialsError, host: string): GmsaError {
  const data = /\bdata ([0-9a-f]{1,8})\b/i.exec(error.message)?.[1]?.toLowerCase()
  const cause = BIND_CAUSES[data ?? '']
  const meaning = cause?.meaning ?? 'the log-on fails'
  return new GmsaError('STORE_DENIED', `${host} refuses the log-on: ${meaning} (data ${data ?? 'not given'})`, {
    cause: error,
    reason: cause?.reason ?? 'bad-password',
    ...(cause && { hint: cause.hint }),
  })
}

interface Refusal {
  readonly code: ErrorCode
  readonly reason: Reason
  readonly meaning: string
  readonly hint?: string
}

const NOT_ENCRYPTED: Refusal = {
  code: 'STORE_DENIED',
  reason: 'not-encrypted',
  meaning: 'wants an encrypted connection',
  hint: 'use transport ldaps or starttls, with nothing in between that ends TLS',
}

/** LDAP result codes (RFC 4511 4.1.9) other than invalidCredentials. */
function refusedOperation(error: ResultCodeError, host: string): GmsaError {
  const { code, reason, meaning, hint } = refusalOf(error)
  return new GmsaError(code, `${host} ${meaning}`, { cause: error, reason, ...(hint === undefined ? {} : { hint }) })
}

function refusalOf(error: ResultCodeError): Refusal {
  if (error instanceof StrongAuthRequiredError || error instanceof ConfidentialityRequiredError) return NOT_ENCRYPTED
  if (error instanceof OperationsError) return operationsRefusal(error)
  if (error instanceof InsufficientAccessError) {
    return { code: 'STORE_DENIED', reason: 'not-permitted', meaning: 'does not permit the operation' }
  }
  if (error instanceof AuthMethodNotSupportedError || error instanceof InappropriateAuthError) {
    return {
      code: 'STORE_DENIED',
      reason: 'not-permitted',
      meaning: 'does not take this kind of log-on',
      hint: 'use a bind with a password, or map the certificate to an account (altSecurityIdentities)',
    }
  }
  if (error instanceof NoSuchObjectError) {
    return {
      code: 'STORE_UNAVAILABLE',
      reason: 'not-found',
      meaning: 'does not hold the search base',
      hint: 'check domain, searchBase and servers: each server must be a controller of that domain',
    }
  }
  if (error instanceof TLSNotSupportedError || error instanceof UnwillingToPerformError) {
    return { code: 'STORE_UNAVAILABLE', reason: 'protocol', meaning: 'is unwilling to perform the operation' }
  }
  const busy = [BusyError, UnavailableError, TimeLimitExceededError, AdminLimitExceededError]
  const meaning = busy.some((each) => error instanceof each) ? 'is too busy' : `answers with LDAP result ${error.code}`
  return { code: 'STORE_UNAVAILABLE', reason: 'protocol', meaning }
}

/**
 * operationsError stands for several things; its text tells them apart. 0000202D is ERROR_DS_CONFIDENTIALITY_REQUIRED,
 * 000004DC ERROR_NOT_AUTHENTICATED ([MS-ERREF] 2.2).
 */
function operationsRefusal({ message }: OperationsError): Refusal {
  if (/0000202D|encrypted connection/i.test(message)) return NOT_ENCRYPTED
  const forgotten = /000004DC|successful bind|without authentication/i.test(message)
  const meaning = forgotten ? 'has forgotten the log-on' : 'cannot perform the operation'
  return { code: 'STORE_UNAVAILABLE', reason: 'protocol', meaning }
}

/**
 * An error of the search that asks for a managed password. The controller computes it, and says no more than
 * operationsError when its clock is before the time of the password it stored: it can derive none for a time to come.
 */
export function passwordError(error: unknown, host: string): GmsaError {
  const known = directoryError(error, host)
  if (!(error instanceof OperationsError) || known.reason !== 'protocol') return known
  return new GmsaError('STORE_UNAVAILABLE', `${host} can compute no password for the time its clock shows`, {
    cause: error,
    reason: 'clock',
    hint: "compare the domain controller's clock: it may have been set back behind msDS-ManagedPasswordId",
  })
}

/** An error of a log-on by certificate: a controller that does not know the mechanism may answer operationsError. */
export function certificateError(error: unknown, host: string): GmsaError {
  if (!(error instanceof OperationsError)) return directoryError(error, host)
  return refusedOperation(new AuthMethodNotSupportedError(error.message), host)
}

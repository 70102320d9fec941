import { type ErrorCode, GmsaError, type Reason } from '../../base/errors.ts'
import { parseRetryAfter } from '../http.ts'
import { causeOf } from '../sdk.ts'

interface Meaning {
  readonly code: ErrorCode
  readonly meaning: string
  readonly reason?: Reason
  readonly hint?: string
}

/** Whom we are taken for is no longer, or not yet, good enough. */
const UNKNOWN_IDENTITY: Meaning = {
  code: 'STORE_DENIED',
  reason: 'bad-password',
  meaning: 'does not take our credentials',
  hint: 'the access key was deleted or replaced, or its secret is another one: look at where AWS credentials come from here',
}
const EXPIRED: Meaning = {
  code: 'STORE_DENIED',
  reason: 'expired',
  meaning: 'says that our credentials have expired',
  hint: 'look at where AWS credentials come from here: they are no longer renewed',
}
const CLOCK: Meaning = {
  code: 'STORE_UNAVAILABLE',
  reason: 'clock',
  meaning: 'does not take requests of this time',
  hint: 'set the clock of this machine: it may be off by 5 minutes at most',
}
const THROTTLED: Meaning = { code: 'STORE_UNAVAILABLE', meaning: 'asks us to slow down' }
const FAULT: Meaning = { code: 'STORE_UNAVAILABLE', meaning: 'has a fault of its own' }
const UNKNOWN_NAME: Meaning = { code: 'ACCOUNT_NOT_FOUND', meaning: 'takes this for no name or version of a secret' }

/** By the error's name, as the service (`__type`), its token service and the library's credential chain have it. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ResourceNotFoundException: { code: 'ACCOUNT_NOT_FOUND', meaning: 'has no such secret or version' },
  InvalidRequestException: {
    code: 'ACCOUNT_NOT_FOUND',
    meaning: 'has the secret in a state in which nobody can read it: scheduled for deletion, most often',
    hint: 'aws secretsmanager restore-secret --secret-id NAME',
  },
  InvalidParameterException: UNKNOWN_NAME,
  ValidationException: UNKNOWN_NAME,
  AccessDeniedException: {
    code: 'STORE_DENIED',
    reason: 'not-permitted',
    meaning: 'does not let us read',
    hint: "allow secretsmanager:GetSecretValue for this secret, and kms:Decrypt where its key is one of one's own",
  },
  AccessDenied: {
    code: 'STORE_DENIED',
    reason: 'not-permitted',
    meaning: 'does not let us take on the role',
    hint: "look at the role's trust policy",
  },
  DecryptionFailure: {
    code: 'STORE_DENIED',
    reason: 'not-permitted',
    meaning: 'can not decrypt the secret for us',
    hint: 'the KMS key of the secret must be enabled, and we need kms:Decrypt',
  },
  OptInRequired: { code: 'STORE_DENIED', reason: 'not-permitted', meaning: 'is not enabled for this AWS account' },
  ExpiredTokenException: EXPIRED,
  ExpiredToken: EXPIRED,
  TokenRefreshRequired: EXPIRED,
  UnrecognizedClientException: UNKNOWN_IDENTITY,
  InvalidClientTokenId: UNKNOWN_IDENTITY,
  InvalidSignatureException: UNKNOWN_IDENTITY,
  SignatureDoesNotMatch: UNKNOWN_IDENTITY,
  IncompleteSignature: UNKNOWN_IDENTITY,
  MissingAuthenticationToken: UNKNOWN_IDENTITY,
  NotAuthorized: UNKNOWN_IDENTITY,
  InvalidIdentityToken: UNKNOWN_IDENTITY,
  CredentialsProviderError: {
    code: 'STORE_DENIED',
    reason: 'not-found',
    meaning: 'was not asked: no AWS credentials were found',
    hint: 'environment, shared files, web identity, container and instance metadata were looked through, in this order',
  },
  RequestExpired: CLOCK,
  RequestInTheFuture: CLOCK,
  RequestTimeTooSkewed: CLOCK,
  ThrottlingException: THROTTLED,
  Throttling: THROTTLED,
  ThrottledException: THROTTLED,
  TooManyRequestsException: THROTTLED,
  RequestLimitExceeded: THROTTLED,
  LimitExceededException: THROTTLED,
  InternalServiceError: FAULT,
  InternalServiceFailure: FAULT,
  InternalFailure: FAULT,
  ServiceUnavailable: FAULT,
  ServiceUnavailableException: FAULT,
  TimeoutError: { code: 'STORE_UNAVAILABLE', reason: 'hang', meaning: 'does not answer' },
}

/** What names the clock as the cause, though the error's name does not: the service takes 5 minutes to either side. */
const MAX_SKEW = 4.5 * 60_000
/** The service names who we are to it, and what for. Nothing else of its messages is passed on. */
const REFUSED =
  /^User: (arn:aws[\w-]{0,20}:(?:iam|sts)::\d{12}:[\w+=,.@/-]{1,300}) is not authorized to perform: ([a-z]{1,40}:\w{1,80})/

/** The parts that the library gives its errors. */
interface Thrown {
  readonly name?: string
  readonly message?: string
  readonly $metadata?: { readonly httpStatusCode?: number }
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> }
}

/**
 * What the library threw, in our terms. `what` names the thing asked for; `now` is the wall clock. Without its cause:
 * the library keeps the answer that it could not read, and a secret may be in it.
 */
export function secretsManagerError(thrown: unknown, what: string, now: number): GmsaError {
  if (thrown instanceof GmsaError) return thrown
  const { message = '', $response: { headers = {} } = {} } = thrown as Thrown
  const { code, meaning, reason, hint } = meaningOf(thrown, now)
  const [, who, action] = REFUSED.exec(message) ?? []
  const detail = who === undefined ? '' : `; ${who} may not ${action}`
  const retryAfter = parseRetryAfter(headers['retry-after'], now)
  return new GmsaError(code, `AWS Secrets Manager ${meaning}: ${what}${detail}`, {
    ...(reason && { reason }),
    ...(hint !== undefined && { hint }),
    ...(retryAfter !== undefined && code === 'STORE_UNAVAILABLE' && { retryAfter }),
  })
}

/** See {@link ClientsOptions.remedy}: after a refusal for its time the library signs by the clock of the service. */
export function remedyFor(thrown: unknown, now: number): 'renew' | 'again' | undefined {
  const meaning = meaningOf(thrown, now)
  if (meaning === CLOCK) return 'again'
  return meaning === EXPIRED || meaning === UNKNOWN_IDENTITY ? 'renew' : undefined
}

function meaningOf(thrown: unknown, now: number): Meaning {
  const { name = '', $metadata: { httpStatusCode: status = 0 } = {} } = thrown as Thrown
  const connection = causeOf(thrown)
  if (connection)
    return { code: 'STORE_UNAVAILABLE', ...connection, meaning: `can not be asked, ${connection.meaning}` }
  const named = Object.hasOwn(MEANINGS, name) ? MEANINGS[name] : undefined
  if (named === UNKNOWN_IDENTITY && isSkewed(thrown, now)) return CLOCK
  if (named) return named
  if (status === 429) return THROTTLED
  if (status >= 500) return FAULT
  const answer = /^\w{1,80}$/.test(name) ? name : 'an error without a name'
  return { code: 'STORE_UNAVAILABLE', reason: 'protocol', meaning: `gives an answer that makes no sense (${answer})` }
}

function isSkewed(thrown: unknown, now: number): boolean {
  const { message = '', $response: { headers = {} } = {} } = thrown as Thrown
  if (/^Signature (?:expired|not yet current)/.test(message)) return true
  return Math.abs(Date.parse(headers['date'] ?? '') - now) > MAX_SKEW
}

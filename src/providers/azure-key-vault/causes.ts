import { type ErrorCode, GmsaError, type Reason } from '../../base/errors.ts'
import { membersOf, parseRetryAfter } from '../http.ts'
import { causeOf } from '../sdk.ts'

interface Meaning {
  readonly code: ErrorCode
  readonly meaning: string
  readonly reason?: Reason
  readonly hint?: string
}

const denied = (reason: Reason, meaning: string, hint?: string): Meaning => ({
  code: 'STORE_DENIED',
  reason,
  meaning,
  ...(hint !== undefined && { hint }),
})

const GRANT = 'give the identity the role Key Vault Secrets User on the vault or the secret, or the access policy Get'

/** What a vault says within a 403: `error.innererror.code`. */
const FORBIDDEN: Readonly<Record<string, Meaning>> = {
  SecretDisabled: { code: 'ACCOUNT_NOT_FOUND', meaning: 'has the secret, but disabled' },
  ForbiddenByFirewall: denied('refused', 'does not take calls from here', "look at the vault's firewall"),
  ForbiddenByRbac: denied('not-permitted', 'does not let us read', GRANT),
  ForbiddenByPolicy: denied('not-permitted', 'does not let us read', GRANT),
}

const UNKNOWN_TOKEN = denied(
  'bad-password',
  'does not take our token',
  'the vault must be in the tenant of the identity, and in the cloud that is configured',
)

/** By the status of a vault's answer. */
const STATUS: Readonly<Record<number, Meaning>> = {
  400: { code: 'ACCOUNT_NOT_FOUND', meaning: 'takes this for no name or version of a secret' },
  401: UNKNOWN_TOKEN,
  403: denied('not-permitted', 'does not let us read', GRANT),
  404: {
    code: 'ACCOUNT_NOT_FOUND',
    meaning: 'has no such secret or version, or it is deleted',
    hint: 'a deleted one can be brought back while it is kept: az keyvault secret recover',
  },
  429: { code: 'STORE_UNAVAILABLE', meaning: 'asks us to slow down' },
}

/** Errors of Microsoft Entra, by the number after AADSTS. */
const ENTRA: Readonly<Record<string, Meaning>> = {
  '7000215': denied('bad-password', 'does not take the client secret', 'store its value, which is not its id'),
  '7000222': denied('expired', 'says that the client secret has expired', 'make another, and store it'),
  '7000112': denied('disabled', 'says that the application is disabled'),
  '700027': denied('bad-password', 'does not know the certificate', 'add it to the application'),
  '700016': denied('not-found', 'has no such application in the tenant', 'look at clientId and tenantId'),
  '90002': denied('not-found', 'has no such tenant', 'look at tenantId and cloud'),
  '70021': denied(
    'not-permitted',
    'has no federated credential for this token',
    'compare issuer, subject and audience',
  ),
  '700213': denied('not-permitted', 'has no federated credential for this token', 'compare its subject'),
  '700211': denied('not-permitted', 'has no federated credential for this token', 'compare its issuer'),
  '700024': { code: 'STORE_UNAVAILABLE', reason: 'clock', meaning: 'does not take assertions of this time' },
}

interface Thrown {
  readonly name?: string
  readonly message?: string
  readonly code?: string
  readonly statusCode?: number
  readonly errorCode?: string
  readonly cause?: unknown
  readonly details?: unknown
  readonly response?: { readonly headers?: { get(name: string): string | undefined } }
}

/**
 * What the library threw, in our terms. `what` names the thing asked for; `now` is the wall clock. Without its cause:
 * the library keeps answers and requests in its errors, with the secret or the token.
 */
export function keyVaultError(thrown: unknown, what: string, host: string, now: number): GmsaError {
  if (thrown instanceof GmsaError) return thrown
  const { statusCode = 0, response } = thrown as Thrown
  const meaning = noAnswer(thrown) ?? forbiddenMeaning(thrown) ?? byStatus(statusCode)
  return errorOf(meaning, `vault ${host}`, what, parseRetryAfter(response?.headers?.get('retry-after'), now))
}

/** See {@link ClientsOptions.remedy}: a token that is no longer taken, before its time or by a clock that is wrong. */
export function remedyFor(thrown: unknown): 'renew' | undefined {
  return statusOf(thrown) === 401 ? 'renew' : undefined
}

/** Whether the vault, which knows us, does not let us do this. Its firewall does not let us in at all. */
export function isForbidden(thrown: unknown): boolean {
  return statusOf(thrown) === 403 && forbiddenMeaning(thrown)?.reason !== 'refused'
}

/** Whether the vault has no such secret. */
export function isAbsent(thrown: unknown): boolean {
  return statusOf(thrown) === 404
}

function statusOf(thrown: unknown): number | undefined {
  return thrown instanceof Error && !(thrown instanceof GmsaError) ? (thrown as Thrown).statusCode : undefined
}

function forbiddenMeaning(thrown: unknown): Meaning | undefined {
  if (statusOf(thrown) !== 403) return undefined
  const inner = String(membersOf(membersOf(membersOf((thrown as Thrown).details)['error'])['innerError'])['code'])
  return Object.hasOwn(FORBIDDEN, inner) ? FORBIDDEN[inner] : undefined
}

/** How the last request for a token went wrong, or its answer. */
export interface TokenFault {
  readonly error?: unknown
  readonly status?: number
  readonly retryAfter?: string
}

/** Why there is no token. */
export function tokenError(
  thrown: unknown,
  { error, status = 0, retryAfter }: TokenFault = {},
  now: number,
): GmsaError {
  if (thrown instanceof GmsaError) return thrown
  const outage = status === 429 || status >= 500 ? byStatus(status) : undefined
  const meaning = (error === undefined ? undefined : noAnswer(error)) ?? outage ?? identityMeaning(thrown)
  return errorOf(meaning, 'the service that gives tokens', 'a token for the vault', parseRetryAfter(retryAfter, now))
}

function errorOf({ code, meaning, reason, hint }: Meaning, who: string, what: string, retryAfter?: number): GmsaError {
  return new GmsaError(code, `${who} ${meaning}: ${what}`, {
    ...(reason && { reason }),
    ...(hint !== undefined && { hint }),
    ...(retryAfter !== undefined && code === 'STORE_UNAVAILABLE' && { retryAfter }),
  })
}

/** Where there was no whole answer at all. */
function noAnswer(thrown: unknown): Meaning | undefined {
  const connection = causeOf(thrown)
  if (connection)
    return { code: 'STORE_UNAVAILABLE', ...connection, meaning: `can not be asked, ${connection.meaning}` }
  const { code } = thrown as Thrown
  if (typeof code !== 'string' || !code.startsWith('UND_ERR_')) return undefined
  if (code.endsWith('TIMEOUT')) return { code: 'STORE_UNAVAILABLE', reason: 'hang', meaning: 'does not answer' }
  const meaning = code === 'UND_ERR_RES_EXCEEDED_MAX_SIZE' ? 'answers with too much' : 'gives no whole answer'
  return { code: 'STORE_UNAVAILABLE', reason: 'protocol', meaning }
}

function byStatus(status: number): Meaning {
  const known = STATUS[status]
  if (known) return known
  if (status >= 500) return { code: 'STORE_UNAVAILABLE', meaning: `has a fault of its own (${status})` }
  return { code: 'STORE_UNAVAILABLE', reason: 'protocol', meaning: 'gives an answer that makes no sense' }
}

/** The libraries wrap each other's errors, and put what the service said into the message. */
function identityMeaning(thrown: unknown, depth = 5): Meaning {
  const { name, message = '', errorCode, cause } = thrown as Thrown
  const [, number = ''] = /\bAADSTS(\d{4,8})\b/.exec(message) ?? []
  const known = ENTRA[number]
  if (known) return known
  if (number !== '') return denied('not-permitted', `gives us none (AADSTS${number})`)
  if (/ for tenant /.test(message)) {
    return denied('not-permitted', 'was not asked: the vault belongs to another tenant', 'look at tenantId and vault')
  }
  if (/Identity not found/.test(message)) return denied('not-found', 'knows no such managed identity', 'assign it')
  if (errorCode === 'network_error' || /endpoints_resolution_error/.test(message)) {
    return { code: 'STORE_UNAVAILABLE', meaning: 'gives no answer, or none that makes sense' }
  }
  if (cause !== undefined && depth > 0) return identityMeaning(cause, depth - 1)
  const none = name === 'CredentialUnavailableError' || name === 'AggregateAuthenticationError'
  return denied('not-found', none ? 'was not asked: no identity was found' : 'gives us none', 'look at `auth`')
}

/**
 * Every error this project raises on purpose, with its HTTP status, its meaning and who has to act.
 * The code is public: the same word stands in the `gmsa-error` header, the log, the metric label and docs/errors.md.
 */
export const ERRORS = {
  REQUEST_INVALID: {
    status: 400,
    meaning: 'the request is malformed, or the account it names is not a name',
    actor: 'caller',
  },
  UNAUTHENTICATED: { status: 401, meaning: 'no valid token', actor: 'caller' },
  CERTIFICATE_REFUSED: {
    status: 403,
    meaning: 'the client certificate is revoked, expired or no longer trusted',
    actor: 'caller',
  },
  ROUTE_NOT_FOUND: { status: 404, meaning: 'no such path', actor: 'caller' },
  ACCOUNT_NOT_FOUND: {
    status: 404,
    meaning: 'the store has no such account, or this client may not know of it',
    actor: 'caller',
  },
  ACCOUNT_FORBIDDEN: {
    status: 404,
    meaning: 'the policy says no; shown to the client as ACCOUNT_NOT_FOUND',
    actor: 'operator',
  },
  METHOD_NOT_ALLOWED: { status: 405, meaning: 'the path does not take this method', actor: 'caller' },
  REQUEST_TIMEOUT: { status: 408, meaning: 'the request did not arrive in time', actor: 'caller' },
  KVNO_UNKNOWN: { status: 409, meaning: 'the key version is neither configured nor learnt', actor: 'operator' },
  REQUEST_TOO_LARGE: {
    status: 413,
    meaning: 'headers or body larger than anything this service reads',
    actor: 'caller',
  },
  RATE_LIMITED: { status: 429, meaning: 'this client asks too often', actor: 'caller' },
  INTERNAL: { status: 500, meaning: 'a fault of this service', actor: 'developers' },
  KIND_NOT_OFFERED: { status: 501, meaning: 'the provider can neither yield nor derive this kind', actor: 'operator' },
  MATERIAL_MALFORMED: { status: 502, meaning: 'the record lacks a member or cannot be read', actor: 'operator' },
  STORE_DENIED: { status: 502, meaning: 'the store refuses our own identity', actor: 'operator, at once' },
  STORE_UNAVAILABLE: { status: 503, meaning: 'the store gives no answer, fails or throttles', actor: 'nobody: retry' },
  OVERLOADED: { status: 503, meaning: 'this service sheds load', actor: 'nobody: retry' },
  DRAINING: { status: 503, meaning: 'this service is stopping', actor: 'nobody: retry elsewhere' },
  STORE_TIMEOUT: { status: 504, meaning: 'the store did not answer within our deadline', actor: 'nobody: retry' },
  CONFIG_INVALID: {
    status: 500,
    meaning: 'the configuration is wrong; only at start, exit code 78',
    actor: 'operator',
  },
} as const

export type ErrorCode = keyof typeof ERRORS

/**
 * Why a directory, a KDC or a TLS peer refused us: a closed list, for doctor, log and metric, never for clients.
 * It stands beside STORE_DENIED and STORE_UNAVAILABLE.
 */
export const REASONS = [
  'bad-password',
  'disabled',
  'expired',
  'password-expired',
  'must-change',
  'locked',
  'not-permitted',
  'not-encrypted',
  'clock',
  'name-mismatch',
  'unknown-ca',
  'refused',
  'hang',
  'not-found',
  'protocol',
  'no-enctype',
  'wrong-realm',
] as const

export type Reason = (typeof REASONS)[number]

export interface GmsaErrorOptions {
  readonly cause?: unknown
  /** Answered with this HTTP status instead of the code's own. */
  readonly status?: number
  /** Seconds after which a retry makes sense. */
  readonly retryAfter?: number
  readonly reason?: Reason
  /** The next step, where it is known. Shown by the commands, never sent. */
  readonly hint?: string
}

/**
 * The one error class. The message names the thing and what was expected, never a value that could be secret; the
 * cause is logged and never sent. Anything else that is thrown is a bug and becomes INTERNAL.
 */
export class GmsaError extends Error {
  readonly code: ErrorCode
  readonly status: number
  readonly retryAfter: number | undefined
  readonly reason: Reason | undefined
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, options: GmsaErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.name = 'GmsaError'
    this.code = code
    this.status = options.status ?? ERRORS[code].status
    this.retryAfter = options.retryAfter
    this.reason = options.reason
    this.hint = options.hint
  }
}

/** `thrown` itself when it is one of ours, else INTERNAL with it as the cause. */
export function toGmsaError(thrown: unknown): GmsaError {
  return thrown instanceof GmsaError ? thrown : new GmsaError('INTERNAL', 'unexpected error', { cause: thrown })
}

import type { FastifyReply, FastifyRequest } from 'fastify'
import { ERRORS, type ErrorCode, GmsaError } from '../base/errors.ts'
import { STATUS_CODES } from '../base/node-http.ts'

/** The only paths whose errors have a body. The CCG plug-in takes any JSON object elsewhere for a credential. */
const PROBLEM_PATHS = '/v1/'

/** Whatever was thrown on the way of a request, as one of ours. */
export function toRequestError(thrown: unknown): GmsaError {
  if (thrown instanceof GmsaError) return thrown
  const { code, statusCode } = thrown as { code?: unknown; statusCode?: unknown }
  if (code === 'FST_UNDER_PRESSURE') return new GmsaError('OVERLOADED', 'event loop or memory limit', { retryAfter: 1 })
  if (statusCode === 413) return new GmsaError('REQUEST_TOO_LARGE', 'body too large')
  if (typeof code === 'string' && code.startsWith('FST_ERR_') && typeof statusCode === 'number' && statusCode < 500) {
    return new GmsaError('REQUEST_INVALID', code, { status: statusCode })
  }
  return new GmsaError('INTERNAL', 'unexpected error', { cause: thrown })
}

/** Seconds after which to ask again where the store did not say: an outage is seldom over sooner. */
const RETRY_AFTER = 5

/** What the client is told: a denied account looks exactly like an absent one. */
function shownCode(code: ErrorCode): ErrorCode {
  return code === 'ACCOUNT_FORBIDDEN' ? 'ACCOUNT_NOT_FOUND' : code
}

export interface ErrorAnswerOptions {
  /** No body, also where the path would have one: what is refused before routing. */
  readonly bare?: boolean
  readonly closeConnection?: boolean
}

/**
 * Answers with the error: status, `gmsa-error`, and under /v1/ a problem document (RFC 9457) of fixed words.
 * Notes the true code for the audit line.
 */
export function answerError(
  request: FastifyRequest,
  reply: FastifyReply,
  error: GmsaError,
  { bare = false, closeConnection = false }: ErrorAnswerOptions = {},
): FastifyReply {
  request.notes.code = error.code
  request.notes.problem = error.message
  const code = shownCode(error.code)
  reply.code(error.status).header('gmsa-error', code).header('cache-control', 'no-store')
  const retryAfter = error.retryAfter ?? (error.code === 'STORE_UNAVAILABLE' ? RETRY_AFTER : undefined)
  if (retryAfter !== undefined) reply.header('retry-after', retryAfter)
  if (closeConnection) reply.header('connection', 'close')
  if (bare || !request.url.startsWith(PROBLEM_PATHS)) return reply.header('content-length', 0).send()
  return reply.type('application/problem+json').send(
    JSON.stringify({
      type: 'about:blank',
      title: STATUS_CODES[error.status],
      status: error.status,
      detail: ERRORS[code].meaning,
      code,
      instance: request.id,
    }),
  )
}

import { GmsaError } from '../../base/errors.ts'
import { membersOf, statusError } from '../http.ts'
import { isBinary, malformed, type StoredRecord } from '../records.ts'
import type { ApiAnswer } from './api.ts'

/** Stands for what is not UTF-8. No text of a record may hold it: it is refused where it is used, and only there. */
const LONE_SURROGATE = '\ud800'

/** The reasons of `Status` (metav1.StatusReason) that a read can meet: any other text is not repeated. */
const REASONS: ReadonlySet<unknown> = new Set([
  'BadRequest',
  'Expired',
  'Forbidden',
  'Gone',
  'InternalError',
  'MethodNotAllowed',
  'NotAcceptable',
  'NotFound',
  'ServerTimeout',
  'ServiceUnavailable',
  'StorageReadError',
  'Timeout',
  'TooManyRequests',
  'Unauthorized',
])

const HINTS: Readonly<Record<number, string>> = {
  401: 'its token or certificate has expired, was revoked, or is for another cluster',
  403: 'grant it the verb get on this Secret: a Role with resourceNames, and a RoleBinding',
}

/** The reason in a body of kind `Status`, where it is one that is known here. */
export function statusReason(body: unknown): string | undefined {
  const { kind, reason } = membersOf(body)
  return kind === 'Status' && typeof reason === 'string' && REASONS.has(reason) ? reason : undefined
}

/** What an answer other than 200 means. Of its body it has the reason alone. */
export function answerError(answer: ApiAnswer, what: string): GmsaError {
  const { status, server, body } = answer
  const reason = statusReason(body)
  if (status === 404 && reason !== 'NotFound') return foreign(answer, what)
  return statusError(answer, server, reason === undefined ? what : `${what}, ${reason}`, HINTS[status])
}

/** For answers that no API server gives: an error page, or another service at its address. */
export function foreign({ status, server }: ApiAnswer, what: string): GmsaError {
  return new GmsaError('STORE_UNAVAILABLE', `${server} answers ${status}, and not as the Kubernetes API: ${what}`, {
    reason: 'protocol',
    hint: 'check the address of the API server',
  })
}

/**
 * The record in an answer of 200: the members of `data`, decoded; UTF-8 as text, and bytes of binary members in base64.
 * Throws MATERIAL_MALFORMED where a member is not base64 (RFC 4648 4), STORE_UNAVAILABLE where this is no Secret.
 */
export function recordOf(answer: ApiAnswer, account: string, what: string): StoredRecord {
  const { kind, data } = membersOf(answer.body)
  if (kind !== 'Secret') throw foreign(answer, what)
  return Object.fromEntries(
    Object.entries(membersOf(data)).map(([member, value]) => [member, decodeMember(member, value, account)]),
  )
}

function decodeMember(member: string, value: unknown, account: string): string {
  const text = typeof value === 'string' ? value : ''
  const bytes = Buffer.from(text, 'base64')
  if (bytes.toString('base64') !== value) throw malformed(account, `${member} is not base64`)
  if (isBinary(member, bytes)) return text
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return LONE_SURROGATE
  } finally {
    bytes.fill(0)
  }
}

import { readFileSync } from 'node:fs'
import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { ERRORS, type ErrorCode, GmsaError, REASONS, toGmsaError } from '../../src/base/errors.ts'

/** The closed list, as users know it. */
const STATUSES: Record<ErrorCode, number> = {
  REQUEST_INVALID: 400,
  UNAUTHENTICATED: 401,
  CERTIFICATE_REFUSED: 403,
  ROUTE_NOT_FOUND: 404,
  ACCOUNT_NOT_FOUND: 404,
  ACCOUNT_FORBIDDEN: 404,
  METHOD_NOT_ALLOWED: 405,
  REQUEST_TIMEOUT: 408,
  KVNO_UNKNOWN: 409,
  REQUEST_TOO_LARGE: 413,
  RATE_LIMITED: 429,
  INTERNAL: 500,
  KIND_NOT_OFFERED: 501,
  MATERIAL_MALFORMED: 502,
  STORE_DENIED: 502,
  STORE_UNAVAILABLE: 503,
  OVERLOADED: 503,
  DRAINING: 503,
  STORE_TIMEOUT: 504,
  CONFIG_INVALID: 500,
}

describe('the codes', () => {
  test('are these, with these statuses', () => {
    expect(Object.fromEntries(Object.entries(ERRORS).map(([code, { status }]) => [code, status]))).toEqual(STATUSES)
  })

  test('a denied account has the status of an absent one', () => {
    expect(ERRORS.ACCOUNT_FORBIDDEN.status).toBe(ERRORS.ACCOUNT_NOT_FOUND.status)
  })

  test('are each documented, with status, meaning and who has to act', () => {
    const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
    for (const [code, { status, meaning, actor }] of Object.entries(ERRORS)) {
      expect(page).toContain(`| \`${code}\` | ${status} | ${meaning} | ${actor} |`)
    }
  })

  test('fit a header, a metric label and a log field', () => {
    for (const code of Object.keys(ERRORS)) expect(code).toMatch(/^[A-Z]+(?:_[A-Z]+)*$/)
    for (const reason of REASONS) expect(reason).toMatch(/^[a-z]+(?:-[a-z]+)*$/)
    expect(new Set(REASONS).size).toBe(REASONS.length)
  })
})

describe('an error of ours', () => {
  test('carries its code and the status of it', () => {
    const error = new GmsaError('STORE_TIMEOUT', 'too late')
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({ name: 'GmsaError', code: 'STORE_TIMEOUT', status: 504, message: 'too late' })
    expect('cause' in error).toBe(false)
  })

  test('carries what else is known', () => {
    const cause = new Error('inner')
    const options = { cause, status: 404, retryAfter: 3, reason: 'clock', hint: 'set the clock' } as const
    expect(new GmsaError('STORE_DENIED', 'no', options)).toMatchObject(options)
  })

  test('shows its cause to the log', () => {
    expect(inspect(new GmsaError('INTERNAL', 'outer', { cause: new Error('inner') }))).toContain('inner')
  })

  test('stays itself; anything else becomes INTERNAL, with what it was for a cause and not in the message', () => {
    const error = new GmsaError('STORE_DENIED', 'no')
    expect(toGmsaError(error)).toBe(error)
    for (const thrown of [new TypeError('pa55'), 'pa55', undefined, null, { code: 'STORE_DENIED' }]) {
      const made = toGmsaError(thrown)
      expect(made).toMatchObject({ code: 'INTERNAL', status: 500, cause: thrown })
      expect(made.message).not.toContain('pa55')
    }
  })
})

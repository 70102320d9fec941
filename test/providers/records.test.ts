import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { decodeCredential, malformed } from '../../src/providers/records.ts'

const GOOD = { username: 'svc', password: 'pa55', domainName: 'ad.test' }

function problemOf(record: Readonly<Record<string, unknown>>): GmsaError {
  try {
    decodeCredential(record, 'web01')
  } catch (error) {
    if (error instanceof GmsaError) return error
  }
  return expect.unreachable('expected a GmsaError')
}

describe('a record', () => {
  test('gives a credential, and other members are left alone', () => {
    const { password, ...rest } = decodeCredential({ ...GOOD, note: 5, realm: '' }, 'web01')
    expect(rest).toEqual({ kind: 'credential', username: 'svc', domainName: 'ad.test' })
    expect(password.revealText()).toBe('pa55')
  })

  test('counts its own members only', () => {
    expect(problemOf(Object.create(GOOD)).message).toContain('username is missing')
    expect(decodeCredential(Object.assign(Object.create(null), GOOD), 'web01').username).toBe('svc')
  })

  test('is refused by the name of the account, of the member, and with what to do', () => {
    const error = problemOf({ ...GOOD, password: 12_345 })
    expect(error).toMatchObject({ code: 'MATERIAL_MALFORMED', status: 502, hint: 'put it in quotes' })
    expect(error.message).toBe('record of account web01: password must be a string')
  })

  test.each(['pa55\n', 'pa55\r', 'pa55\r\n', '\n'])(
    'with the password %j is refused: a line break at the end',
    (password) => {
      expect(problemOf({ ...GOOD, password }).message).toContain('password ends in a line break')
    },
  )

  test.each(['a\tb', 'a\nb', ' a ', '\u0085', '\u001b', '€🔑', 'x'.repeat(1_024)])(
    'may have the password %j',
    (password) => {
      expect(decodeCredential({ ...GOOD, password }, 'web01').password.revealText()).toBe(password)
    },
  )

  test.each(['\0', '\t', '\n', '\u007f', '\u0080', '\u009f'])('with %j in a name is refused', (character) => {
    expect(problemOf({ ...GOOD, username: `a${character}b` }).message).toContain('username holds a control character')
    expect(problemOf({ ...GOOD, domainName: `a${character}` }).message).toContain(
      'domainName holds a control character',
    )
  })

  test('with half a surrogate pair is refused: it would not survive UTF-8', () => {
    for (const member of Object.keys(GOOD)) {
      expect(problemOf({ ...GOOD, [member]: 'pa\ud800ss' }).message).toContain(`${member} is not well-formed`)
    }
  })

  test('has no hint where there is nothing to say', () => {
    expect(malformed('web01', 'broken').hint).toBeUndefined()
  })
})

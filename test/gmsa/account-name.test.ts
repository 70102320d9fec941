import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ACCOUNT_NAME_PATTERN, isAccountName } from '../../src/gmsa/account-name.ts'

describe('the name of an account', () => {
  test.each(['a', '0', 'web01', 'contoso-ccg', 'a.b', 'a-b.c-d.9', 'x'.repeat(253), 'constructor'])(
    'may be %j',
    (name) => {
      expect(isAccountName(name)).toBe(true)
    },
  )

  test.each([
    '',
    '*',
    'A',
    'a_b',
    'a b',
    '-a',
    'a-',
    '.a',
    'a.',
    'a..b',
    'a.-b',
    'a-.b',
    '../a',
    'a/b',
    'a\\b',
    'a\n',
    '\na',
    'a\0',
    'é',
    'а',
    '__proto__',
    'web01$',
    'x'.repeat(254),
  ])('may not be %j', (name) => {
    expect(isAccountName(name)).toBe(false)
  })

  test('is labels between dots, each of letters, digits and inner hyphens', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ab1-.A/'), maxLength: 12 })
    const isLabel = (label: string) =>
      label !== '' &&
      [...label].every((each) => 'ab1-'.includes(each)) &&
      !label.startsWith('-') &&
      !label.endsWith('-')
    fc.assert(
      fc.property(text, (each) => {
        expect(isAccountName(each)).toBe(each.split('.').every(isLabel))
      }),
      { numRuns: 1_000 },
    )
  })

  test('is judged in a bounded time, also by the pattern alone', () => {
    const started = performance.now()
    const grammar = new RegExp(ACCOUNT_NAME_PATTERN)
    for (const text of ['a-'.repeat(126), `${'a.'.repeat(126)}-`, `${'a'.repeat(252)}!`]) {
      expect(grammar.test(text)).toBe(false)
      expect(isAccountName(text.repeat(1_000))).toBe(false)
    }
    expect(performance.now() - started).toBeLessThan(200)
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ClientIdentity, type ClientMatch, type ClientRule, makePolicy } from '../../src/broker/policy.ts'
import { PERMISSIONS } from '../../src/gmsa/material.ts'

const FINGERPRINT = '0123456789abcdef'.repeat(4)
const nobody: ClientIdentity = { uris: [], dnsNames: [], commonName: undefined, fingerprint256: FINGERPRINT }

const ofUri = (...uris: string[]): ClientIdentity => ({ ...nobody, uris })
const ofDns = (...dnsNames: string[]): ClientIdentity => ({ ...nobody, dnsNames })
const ofName = (commonName: string): ClientIdentity => ({ ...nobody, commonName })

function allows(match: ClientMatch, client: ClientIdentity, accounts = ['*'], account = 'web01'): boolean {
  const rules: ClientRule[] = [{ match, allow: ['credential'], accounts }]
  return makePolicy({ rules, openAccounts: 'all' }).grantFor(client).allows(account, 'credential')
}

describe('without a clients section', () => {
  const open = makePolicy({ openAccounts: new Set(['web01']) }).grantFor(nobody)

  test('a verified client may read the credential of named accounts and nothing else', () => {
    for (const permission of PERMISSIONS) expect(open.allows('web01', permission)).toBe(permission === 'credential')
    expect(open.allows('web02', 'credential')).toBe(false)
    expect(open.allows('*', 'credential')).toBe(false)
  })

  test('in Rancher mode every name is open, for its credential alone', () => {
    const all = makePolicy({ openAccounts: 'all' }).grantFor(nobody)
    for (const permission of PERMISSIONS) expect(all.allows('any', permission)).toBe(permission === 'credential')
  })
})

describe('with a clients section', () => {
  test('an empty one allows nothing, open accounts or not', () => {
    const grant = makePolicy({ rules: [], openAccounts: 'all' }).grantFor(ofName('web'))
    for (const permission of PERMISSIONS) expect(grant.allows('web01', permission)).toBe(false)
  })

  test('an entry without any key matches nobody', () => {
    expect(allows({}, ofName('web'))).toBe(false)
  })

  test('all keys of an entry must hold', () => {
    const match = { commonName: 'web', dns: 'web.test' }
    expect(allows(match, { ...nobody, commonName: 'web', dnsNames: ['web.test'] })).toBe(true)
    expect(allows(match, { ...nobody, commonName: 'web', dnsNames: ['db.test'] })).toBe(false)
    expect(allows(match, { ...nobody, commonName: 'db', dnsNames: ['web.test'] })).toBe(false)
  })

  test('one name of several is enough', () => {
    expect(allows({ uri: 'spiffe://a/b' }, ofUri('spiffe://x/y', 'spiffe://a/b'))).toBe(true)
    expect(allows({ dns: 'b.test' }, ofDns('a.test', 'b.test'))).toBe(true)
  })

  test('the first entry that matches the client and names the account decides', () => {
    const rules: ClientRule[] = [
      { match: { commonName: 'other' }, allow: ['admin'], accounts: ['*'] },
      { match: { commonName: 'web' }, allow: [], accounts: ['web-secret'] },
      { match: { commonName: 'w*' }, allow: ['keytab'], accounts: ['web-*'] },
      { match: { commonName: '*' }, allow: ['credential', 'keytab'], accounts: ['*'] },
    ]
    const grant = makePolicy({ rules, openAccounts: new Set() }).grantFor(ofName('web'))
    const allowed = (account: string) => PERMISSIONS.filter((permission) => grant.allows(account, permission))
    expect(allowed('web-secret')).toEqual([])
    expect(allowed('web-1')).toEqual(['keytab'])
    expect(allowed('db')).toEqual(['credential', 'keytab'])
  })
})

describe('a star', () => {
  test.each([
    ['spiffe://a/ns/*/sa/web', 'spiffe://a/ns/x/sa/web', true],
    ['spiffe://a/ns/*/sa/web', 'spiffe://a/ns//sa/web', true],
    ['spiffe://a/ns/*/sa/web', 'spiffe://a/ns/x/y/sa/web', false],
    ['spiffe://a/ns/*', 'spiffe://a/ns/x', true],
    ['spiffe://a/ns/*', 'spiffe://a/ns/x/', false],
    ['spiffe://a/ns/**', 'spiffe://a/ns/x/y', false],
    ['spiffe://*', 'spiffe://a', true],
    ['spiffe://*', 'spiffe://a/b', false],
    ['*', 'spiffe://a', false],
    ['spiffe://a/*-web', 'spiffe://a/x-web', true],
    ['spiffe://a/*-web', 'spiffe://a/x-web2', false],
    ['spiffe://a/w*b', 'spiffe://a/wb', true],
    ['spiffe://a/ab*ba', 'spiffe://a/aba', false],
    ['spiffe://A/x', 'spiffe://a/x', false],
    ['spiffe://a/x', 'spiffe://a/x\n', false],
  ])('in a URI stays within a segment: %j on %j is %j', (uri, actual, expected) => {
    expect(allows({ uri }, ofUri(actual))).toBe(expected)
  })

  test.each([
    ['*.web.test', 'a.web.test', true],
    ['*.WEB.test', 'a.Web.TEST', true],
    ['*.web.test', 'web.test', false],
    ['*.web.test', '.web.test', false],
    ['*.web.test', 'a.b.web.test', false],
    ['*.*.test', 'a.b.test', true],
    ['*', 'localhost', true],
    ['*', 'a.test', false],
    ['node-*.test', 'node-1.test', true],
    ['node-*.test', 'node-.test', false],
    ['web.test', 'webxtest', false],
    ['k8s.test', '\u212a8s.test', false],
    ['web.test', 'web.test.', false],
  ])('in a DNS name is one label: %j on %j is %j', (dns, actual, expected) => {
    expect(allows({ dns }, ofDns(actual))).toBe(expected)
  })

  test.each([
    ['*', 'any / name. at\nall', true],
    ['*', '', true],
    ['web*', 'web', true],
    ['web*', 'Web1', false],
    ['web.', 'web1', false],
    ['a|b', 'a', false],
    ['(a', '(a', true],
    ['^a$', 'a', false],
    ['^a$', '^a$', true],
    ['[ab]', 'a', false],
    ['\\d', '1', false],
    ['a+', 'aa', false],
  ])('in a common name is anything, and other characters are themselves: %j on %j is %j', (commonName, actual, is) => {
    expect(allows({ commonName }, ofName(actual))).toBe(is)
  })

  test.each([
    [['web*'], 'web01', true],
    [['web*'], 'xweb01', false],
    [['w.b01'], 'web01', false],
    [['a', 'web01'], 'web01', true],
    [[], 'web01', false],
    [['svc-*-eu'], 'svc-eu', false],
    [['svc-*-eu'], 'svc-x.y-eu', true],
  ])('among accounts is anything: %j on %j is %j', (accounts, account, expected) => {
    expect(allows({ commonName: 'web' }, ofName('web'), accounts, account)).toBe(expected)
  })
})

describe('a fingerprint', () => {
  test.each([
    [FINGERPRINT, true],
    [FINGERPRINT.toUpperCase(), true],
    [(FINGERPRINT.match(/../g) ?? []).join(':').toUpperCase(), true],
    [`${FINGERPRINT.slice(0, -1)}0`, false],
    [FINGERPRINT.slice(2), false],
    ['*', false],
    ['', false],
  ])('%j matches: %j', (fingerprint256, expected) => {
    expect(allows({ fingerprint256 }, nobody)).toBe(expected)
  })
})

test('a client without the name asked for is not matched by a star', () => {
  expect(allows({ commonName: '*' }, nobody)).toBe(false)
  expect(allows({ uri: '*' }, nobody)).toBe(false)
  expect(allows({ dns: '*' }, nobody)).toBe(false)
})

test('a pattern of many stars on a long name takes a bounded time', () => {
  const name = `${'a-'.repeat(126)}a`
  const started = performance.now()
  for (const pattern of ['*a'.repeat(60), '*-*-*-*-*-*-*-*-*-*-*-x', `${'*a*-'.repeat(40)}!`]) {
    expect(allows({ commonName: 'web' }, ofName('web'), [pattern], `${name}b`)).toBe(false)
    expect(allows({ commonName: `${pattern}c` }, ofName(name.repeat(100)))).toBe(false)
    expect(allows({ dns: `${pattern}c` }, ofDns(name.repeat(100)))).toBe(false)
    expect(allows({ uri: `${pattern}c` }, ofUri(name.repeat(100)))).toBe(false)
  }
  expect(performance.now() - started).toBeLessThan(500)
})

describe('for any patterns and names', () => {
  /** The plainest matcher there is: tries everything. */
  function matchesSlowly(pattern: string, text: string, stop: string, atLeast: number): boolean {
    if (pattern === '') return text === ''
    if (pattern[0] !== '*')
      return text[0] === pattern[0] && matchesSlowly(pattern.slice(1), text.slice(1), stop, atLeast)
    for (let run = 0; run <= text.length; run += 1) {
      if (run > 0 && text[run - 1] === stop) return false
      if (run >= atLeast && matchesSlowly(pattern.slice(1), text.slice(run), stop, atLeast)) return true
    }
    return false
  }
  const letters = (alphabet: string) => fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 9 })
  const merged = (pattern: string) => pattern.replace(/\*+/g, '*')

  test('a match is what trying every run finds', () => {
    const pair = fc.record({ pattern: letters('ab*/.*'), text: letters('ab/.') })
    fc.assert(
      fc.property(pair, ({ pattern, text }) => {
        expect(allows({ uri: pattern }, ofUri(text))).toBe(matchesSlowly(merged(pattern), text, '/', 0))
        expect(allows({ dns: pattern }, ofDns(text))).toBe(matchesSlowly(merged(pattern), text, '.', 1))
        expect(allows({ commonName: pattern }, ofName(text))).toBe(matchesSlowly(merged(pattern), text, '', 0))
      }),
      { numRuns: 2_000 },
    )
  })

  test('without a star, only the name itself matches', () => {
    const text = fc.string({ unit: 'binary', minLength: 1 }).filter((each) => !each.includes('*'))
    fc.assert(
      fc.property(text, text, (pattern, name) => {
        expect(allows({ commonName: pattern }, ofName(name))).toBe(pattern === name)
        expect(allows({ commonName: pattern }, ofName(pattern))).toBe(true)
        expect(allows({ uri: pattern }, ofUri(pattern))).toBe(true)
      }),
    )
  })

  test('what no entry names and allows is denied, and only the first entry that names it counts', () => {
    const rule = fc.record({
      match: fc.record({ commonName: fc.constantFrom('web', 'db', 'w*') }),
      allow: fc.uniqueArray(fc.constantFrom(...PERMISSIONS)),
      accounts: fc.uniqueArray(fc.constantFrom('a', 'b', 'a*', '*')),
    })
    const names = (accounts: readonly string[], account: string) =>
      accounts.some((each) => matchesSlowly(each, account, '', 0))
    fc.assert(
      fc.property(
        fc.array(rule),
        fc.constantFrom('web', 'db', 'x'),
        fc.constantFrom('a', 'b', 'ab'),
        fc.constantFrom(...PERMISSIONS),
        (rules, client, account, permission) => {
          const first = rules.find(
            ({ match, accounts }) => matchesSlowly(match.commonName, client, '', 0) && names(accounts, account),
          )
          const grant = makePolicy({ rules, openAccounts: 'all' }).grantFor(ofName(client))
          expect(grant.allows(account, permission)).toBe(first?.allow.includes(permission) ?? false)
        },
      ),
    )
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { chooseEnctypes, ENCTYPE_WORDS, ENCTYPES, enctypeName, enctypeOf } from '../../src/kerberos/enctype.ts'
import { formatPrincipal, isSamePrincipal, parsePrincipal, principalsFor } from '../../src/kerberos/principal.ts'
import { accountSalt, realmOf } from '../../src/kerberos/salt.ts'
import gmsad from '../vectors/gmsad-string-to-key.json' with { type: 'json' }
import published from '../vectors/kerberos-keys.json' with { type: 'json' }

describe('the enctypes', () => {
  test('have the numbers, names, lengths and bits of their registries', () => {
    const table = ENCTYPES.map(({ number, name, word, keyLength, bit, optIn }) =>
      [number, name, word, keyLength, `0x${bit.toString(16)}`, optIn ? 'opt-in' : 'default'].join(' '),
    )
    expect(table).toEqual([
      '18 aes256-cts-hmac-sha1-96 aes256 32 0x10 default',
      '17 aes128-cts-hmac-sha1-96 aes128 16 0x8 default',
      '20 aes256-cts-hmac-sha384-192 aes256-sha2 32 0x80 opt-in',
      '19 aes128-cts-hmac-sha256-128 aes128-sha2 16 0x40 opt-in',
      '23 arcfour-hmac rc4 16 0x4 opt-in',
    ])
    expect(ENCTYPE_WORDS).toEqual(['aes256', 'aes128', 'aes256-sha2', 'aes128-sha2', 'rc4'])
    expect([enctypeName(17), enctypeName(3), enctypeOf(3)]).toEqual(['aes128-cts-hmac-sha1-96', 'etype 3', undefined])
  })

  test.each([
    { named: undefined, supported: 28, chosen: [18, 17], assumed: false, leftOut: [] },
    { named: undefined, supported: 0x8, chosen: [17], assumed: false, leftOut: [] },
    { named: undefined, supported: undefined, chosen: [18, 17], assumed: true, leftOut: [] },
    { named: undefined, supported: 0, chosen: [18, 17], assumed: true, leftOut: [] },
    { named: ['rc4', 'aes256'], supported: 28, chosen: [18, 23], assumed: false, leftOut: [] },
    { named: ['rc4', 'aes256'], supported: 24, chosen: [18], assumed: false, leftOut: ['rc4'] },
    { named: ['aes128-sha2', 'aes256-sha2'], supported: 0xc0, chosen: [20, 19], assumed: false, leftOut: [] },
    { named: ['aes256-sha2', 'aes256'], supported: 28, chosen: [18], assumed: false, leftOut: ['aes256-sha2'] },
    { named: ['aes128-sha2', 'rc4'], supported: undefined, chosen: [19, 23], assumed: true, leftOut: [] },
  ] as const)('of $named where the directory says $supported are $chosen', ({ named, supported, ...expected }) => {
    const { enctypes, assumed, leftOut } = chooseEnctypes(named, supported)
    expect({ chosen: enctypes.map(({ number }) => number), assumed, leftOut }).toEqual(expected)
  })

  test.each([
    [undefined, 0x4],
    [undefined, 0x3],
    // A session key only.
    [undefined, 0x20],
    [['rc4'], 24],
    [[], 28],
  ] as const)('of %j with %j are an error, not an empty list', (named, supported) => {
    expect(() => chooseEnctypes(named, supported)).toThrow(expect.objectContaining({ code: 'MATERIAL_MALFORMED' }))
  })
})

describe('the salt of an account', () => {
  const ours = published.salts.filter(({ salt }) => salt.includes('host'))
  const cases = [
    ...ours.map(({ sAMAccountName, dnsDomain, salt }) => ({ name: sAMAccountName, domain: dnsDomain, salt })),
    ...gmsad.saltCases.map((each) => ({
      name: each.sAMAccountName,
      domain: each.domain,
      salt: each.correctComputerSalt,
    })),
    ...published.accounts.map((each) => ({ name: each.sAMAccountName, domain: each.dnsDomain, salt: each.salt })),
  ]

  test('there are published vectors to run', () => {
    // One of the ten is a user's, which has no "host" in it.
    expect([ours.length, gmsad.saltCases.length, published.accounts.length]).toEqual([9, 4, 31])
  })

  test.each(cases)('$name of $domain', ({ name, domain, salt }) => {
    expect(accountSalt(name, domain)).toBe(salt)
    expect(accountSalt(name.toUpperCase(), domain.toUpperCase())).toBe(salt)
    if (!name.endsWith('$$')) expect(accountSalt(name.replace(/\$$/, ''), domain)).toBe(salt)
  })

  test('folds letters one by one, in no language', () => {
    expect(accountSalt('Straße-İ-ΟΔΟΣ$', 'bücher.test')).toBe('BÜCHER.TESThoststraße-İ-οδοσ.bücher.test')
    expect(realmOf('Ad.Test')).toBe('AD.TEST')
  })

  test.each([
    ['web01$', ''],
    ['web01$', 'ad..test'],
    ['web01$', 'ad.test.'],
    ['web01$', 'ad test'],
    ['web01$', 'a@ad.test'],
    ['web01$', 'x'.repeat(256)],
    ['$', 'ad.test'],
    ['', 'ad.test'],
    ['we\0b$', 'ad.test'],
    ['web01$@AD.TEST', 'ad.test'],
    ['\ud800$', 'ad.test'],
  ])('%j of %j is refused', (name, domain) => {
    expect(() => accountSalt(name, domain)).toThrow(GmsaError)
  })
})

describe('a principal', () => {
  test.each([
    ['web01$@AD.TEST', ['web01$'], 'AD.TEST'],
    ['HTTP/web01.ad.test@AD.TEST', ['HTTP', 'web01.ad.test'], 'AD.TEST'],
    ['MSSQLSvc/db:1433/ad.test@AD.TEST', ['MSSQLSvc', 'db:1433', 'ad.test'], 'AD.TEST'],
    ['a\\/b\\@c\\\\d/x\\ny@R', ['a/b@c\\d', 'x\ny'], 'R'],
    ['tab\\t\\b\\0@R', ['tab\t\b\0'], 'R'],
  ])('%j is read and written again', (text, components, realm) => {
    expect(parsePrincipal(text)).toEqual({ realm, components, nameType: 1 })
    expect(formatPrincipal(parsePrincipal(text))).toBe(text)
  })

  test('takes the realm given where it has none of its own', () => {
    expect(parsePrincipal('HTTP/web01', { realm: 'AD.TEST' }).realm).toBe('AD.TEST')
    expect(parsePrincipal('HTTP/web01@OTHER', { realm: 'AD.TEST' }).realm).toBe('OTHER')
  })

  test.each([
    '',
    '@R',
    'a',
    'a@',
    '/a@R',
    'a//b@R',
    'a/@R',
    'a@R@R',
    'a@R/b',
    'a\\',
    'a@R\\',
    '\ud800@R',
    'x'.repeat(3e3),
  ])('%j is refused, with the code asked for', (text) => {
    expect(() => parsePrincipal(text)).toThrow(expect.objectContaining({ code: 'MATERIAL_MALFORMED' }))
    expect(() => parsePrincipal(text, { code: 'REQUEST_INVALID' })).toThrow(
      expect.objectContaining({ code: 'REQUEST_INVALID' }),
    )
  })

  const part = fc.string({ unit: 'binary', minLength: 1, maxLength: 40 })

  test('of any parts comes back as it was', () => {
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), part, (components, realm) => {
        const principal = { components, realm, nameType: 1 }
        expect(parsePrincipal(formatPrincipal(principal))).toEqual(principal)
      }),
    )
  })

  test('is read from any text or refused with our own error', () => {
    let refused = 0
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 100 }),
      fc.string({ unit: fc.constantFrom('a', '/', '@', '\\', 'n') }),
    )
    fc.assert(
      fc.property(text, (input) => {
        try {
          parsePrincipal(input)
        } catch (error) {
          refused += 1
          expect(error).toBeInstanceOf(GmsaError)
        }
      }),
      { numRuns: 2_000 },
    )
    expect(refused).toBeGreaterThan(100)
  })
})

describe('the principals of a keytab', () => {
  const names = {
    samAccountName: 'web01$',
    realm: 'AD.TEST',
    servicePrincipalNames: ['HTTP/web01.ad.test', 'HTTP/web01', 'HTTP/web01'],
  }
  const texts = (...args: Parameters<typeof principalsFor>) => principalsFor(...args).map(formatPrincipal)

  test('are the SPNs for an acceptor and the account for an initiator', () => {
    expect(texts('acceptor', names)).toEqual(['HTTP/web01.ad.test@AD.TEST', 'HTTP/web01@AD.TEST'])
    expect(texts('initiator', names)).toEqual(['web01$@AD.TEST'])
    expect(texts('acceptor', { ...names, servicePrincipalNames: [] })).toEqual(['web01$@AD.TEST'])
  })

  test('can be narrowed to some of the account', () => {
    expect(texts('acceptor', names, ['web01$@AD.TEST', 'HTTP/web01'])).toEqual(['HTTP/web01@AD.TEST', 'web01$@AD.TEST'])
    expect(texts('initiator', names, ['web01$'])).toEqual(['web01$@AD.TEST'])
  })

  test('are found whatever their case, as a directory finds them, and written as they are wanted', () => {
    expect(texts('acceptor', names, ['http/WEB01'])).toEqual(['http/WEB01@AD.TEST'])
    const both = ['WEB01$', 'HTTP/web01', 'http/web01', 'HTTP/web01@AD.TEST']
    expect(texts('acceptor', names, both)).toEqual(['HTTP/web01@AD.TEST', 'http/web01@AD.TEST', 'WEB01$@AD.TEST'])
  })

  test.each([
    ['acceptor', 'HTTP/other'],
    ['acceptor', 'HTTP/web01@ad.test'],
    ['acceptor', 'HTTP/web01@OTHER'],
    ['acceptor', ''],
    ['initiator', 'HTTP/web01'],
  ] as const)('for an %s are never %j', (use, wanted) => {
    expect(() => principalsFor(use, names, [wanted])).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }))
  })

  test('take an SPN as it is, with no escapes, and refuse one with an empty part', () => {
    const [odd] = principalsFor('acceptor', { ...names, servicePrincipalNames: ['host/a\\b@c'] })
    expect(odd?.components).toEqual(['host', 'a\\b@c'])
    for (const bad of ['', 'HTTP/', '/x', 'a//b', '\ud800/x']) {
      expect(() => principalsFor('acceptor', { ...names, servicePrincipalNames: [bad] })).toThrow(GmsaError)
    }
  })

  test('are compared by realm and parts, not by name type', () => {
    const [one] = principalsFor('initiator', names)
    if (!one) throw new Error('no principal')
    expect(isSamePrincipal(one, { ...one, nameType: 10 })).toBe(true)
    expect(isSamePrincipal(one, { ...one, realm: 'ad.test' })).toBe(false)
    expect(isSamePrincipal(one, { ...one, components: ['web01$', 'x'] })).toBe(false)
  })
})

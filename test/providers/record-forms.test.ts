import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GmsaError, toGmsaError } from '../../src/base/errors.ts'
import { silentLog } from '../../src/base/log.ts'
import { Secret } from '../../src/base/secret.ts'
import { encodeKeytab } from '../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../src/kerberos/principal.ts'
import { fromRecords, parseRecordText, type StoredRecord } from '../../src/providers/records.ts'
import { failure } from '../contract/provider-contract.ts'

type Plain = readonly [domainName: string, username: string, password: string]
type Options = Readonly<Record<string, unknown>>

/** A store that holds this one record, and what it logs at `debug`. */
function storeOf(record: StoredRecord, options: Options = {}) {
  const lines: object[] = []
  const log = { ...silentLog, debug: (fields: object) => void lines.push(fields) }
  const { reads } = fromRecords('memory', { read: async () => record, probe: async () => {} }, undefined, log)
  const read = <K extends keyof typeof reads>(kind: K) =>
    reads[kind]?.({ name: 'web01', secret: 'web01', options }, AbortSignal.timeout(1_000))
  return { lines, read }
}

async function credentialOf(record: StoredRecord, options?: Options): Promise<Plain> {
  const credential = await storeOf(record, options).read('credential')
  if (credential?.kind !== 'credential') return expect.unreachable('expected a credential')
  return [credential.domainName, credential.username, credential.password.revealText()]
}

const refusalOf = (record: () => StoredRecord, options?: Options) =>
  failure(
    Promise.try(() => credentialOf(record(), options)),
    'MATERIAL_MALFORMED',
  )

/** A text as a store of texts has it, and as a store of members has it. */
const placesOf = (text: string): (() => StoredRecord)[] => [
  () => parseRecordText(text, 'web01'),
  () => ({ value: text }),
]

describe('P2: a secret that is one text', () => {
  test.each<[string, Plain]>([
    ['contoso.com\\svc:p@ss', ['contoso.com', 'svc', 'p@ss']],
    ['CONTOSO\\svc:a:b\\c', ['CONTOSO', 'svc', 'a:b\\c']],
    ['CONTOSO\\svc: two words ', ['CONTOSO', 'svc', ' two words ']],
    ['CONTOSO\\svc::', ['CONTOSO', 'svc', ':']],
    ['CONTOSO\\svc:{"a":1}', ['CONTOSO', 'svc', '{"a":1}']],
    ['CONTOSO\\svc:€ß🔑', ['CONTOSO', 'svc', '€ß🔑']],
    ['\uFEFFCONTOSO\\svc:pw', ['CONTOSO', 'svc', 'pw']],
    ['{"username":"svc","password":"pw","domainName":"CONTOSO"}', ['CONTOSO', 'svc', 'pw']],
    ['\uFEFF \r\n{"username":"svc","password":"a\\\\b:c","domainName":"CONTOSO"}\n', ['CONTOSO', 'svc', 'a\\b:c']],
  ])('%j is a credential', async (text, expected) => {
    for (const record of placesOf(text)) expect(await credentialOf(record())).toEqual(expected)
  })

  test.each<[string, string]>([
    ['', 'is empty'],
    ['\uFEFF', 'is empty'],
    ['svc:pa55', 'no backslash'],
    ['username=pa55&password=pa55', 'no backslash'],
    ['CONTOSO\\pa55', 'no colon'],
    ['red:mond\\svc:pa55', 'a colon before the backslash'],
    ['\\svc:pa55', 'domainName is empty'],
    ['CONTOSO\\:pa55', 'username is empty'],
    ['CONTOSO\\svc:', 'password is empty'],
    ['CONTOSO\\svc:pa55\n', 'password ends in a line break'],
    ['CONTOSO\\svc:pa55\r\n', 'password ends in a line break'],
    ['\nCONTOSO\\svc:pa55', 'domainName holds a control character'],
    ['CONTOSO\\s\0c:pa55', 'username holds a control character'],
    ['System.Security.SecureString', 'is the name of a PowerShell type'],
    ['System.Security.SecureString\r\n', 'is the name of a PowerShell type'],
    ['CONTOSO\\svc:System.Security.SecureString', 'password is the name of a PowerShell type'],
    ['{"username":"svc","password":"pa55"', 'is not valid JSON'],
    ['{"pa55"}', 'is not valid JSON'],
    ['["CONTOSO\\\\svc:pa55"]', 'expected a JSON object or domain\\user:password'],
    ['"CONTOSO\\\\svc:pa55"', 'expected a JSON object or domain\\user:password'],
    ['{}', 'username is missing'],
  ])('%j is refused by what is wrong with it, and nothing of it is shown', async (text, problem) => {
    for (const record of placesOf(text)) {
      const { message, hint = '' } = await refusalOf(record)
      expect(message).toContain(`record of account web01: `)
      expect(message).toContain(problem)
      expect(message + hint).not.toMatch(/pa55|CONTOSO/)
    }
  })

  test('that is larger than any store holds is refused before it is looked at', async () => {
    for (const record of placesOf('pa55'.repeat(16_385))) {
      expect((await refusalOf(record)).message).toMatch(/(text|value) is longer than 65536 characters/)
    }
  })

  test('that holds the name of a type has a hint, wherever it stands', async () => {
    const type = 'System.Security.SecureString'
    const record = { username: 'svc', password: type, domainName: 'CONTOSO' }
    for (const each of [...placesOf(type), () => record])
      expect((await refusalOf(each)).hint).toContain('store the secret again')
  })

  test('is looked for under `value` where nothing else stands, and only once', async () => {
    const text = 'CONTOSO\\svc:pa55'
    expect((await refusalOf(() => ({ value: text, note: '' }))).message).toContain('username is missing')
    expect((await refusalOf(() => ({ value: 5 }))).message).toContain('value must be a string')
    expect((await refusalOf(() => ({ value: 'pa55' }))).message).toContain('value: no backslash')
    expect((await refusalOf(() => ({ value: JSON.stringify({ value: text }) }))).message).toContain(
      'username is missing',
    )
  })

  const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }).filter((text) => !/[\p{Cc}\\:]/u.test(text))
  const domain = name.filter((text) => !/^[\uFEFF{["\s]/.test(text))
  const password = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 200 })
    .filter((text) => !/[\r\n]$|\0/.test(text) && text.isWellFormed())

  test('gives back what was put together, whatever the password holds', async () => {
    await fc.assert(
      fc.asyncProperty(domain, name, password, async (domainName, username, word) => {
        const expected = [domainName, username, word]
        for (const record of placesOf(`${domainName}\\${username}:${word}`)) {
          expect(await credentialOf(record())).toEqual(expected)
        }
        const json = JSON.stringify({ username, password: word, domainName })
        for (const record of placesOf(json)) expect(await credentialOf(record())).toEqual(expected)
      }),
    )
  })

  test('of any shape is a credential or refused, with nothing of it in the message', async () => {
    const pieces = fc.constantFrom('pa55', '\\', ':', '{', '}', '"', '[', ',', 'username', 'password', '\n', '\0', ' ')
    await fc.assert(
      fc.asyncProperty(fc.array(pieces, { maxLength: 20 }), async (parts) => {
        for (const record of placesOf(parts.join(''))) {
          const error = await Promise.try(() => credentialOf(record())).then(
            () => undefined,
            (thrown: unknown) => toGmsaError(thrown),
          )
          if (!error) continue
          expect(error.code).toBe('MATERIAL_MALFORMED')
          expect(error.message + (error.hint ?? '') + error.cause).not.toContain('pa55')
        }
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('P2: a record with the names that Amazon ECS uses', () => {
  const ALIASES = { usernameOfStandardUserAccount: 'user', passwordOfStandardUserAccount: 'word' }
  const rest = { domainName: 'CONTOSO', distinguishedName: 'CN=web01', distinguishedNameOfgMSA: 'CN=web01', other: 7 }

  test.each<[string, StoredRecord, Plain]>([
    ['alone', ALIASES, ['CONTOSO', 'user', 'word']],
    ['beside the plain ones, which come first', { ...ALIASES, username: 'svc' }, ['CONTOSO', 'svc', 'word']],
    ['beside plain ones that are empty', { ...ALIASES, username: '', password: null }, ['CONTOSO', 'user', 'word']],
    ['empty', { passwordOfStandardUserAccount: '', username: 'svc', password: 'pw' }, ['CONTOSO', 'svc', 'pw']],
  ])('%s', async (_, record, expected) => {
    expect(await credentialOf({ ...rest, ...record })).toEqual(expected)
  })

  test.each<[StoredRecord, string]>([
    [{ ...ALIASES, usernameOfStandardUserAccount: '' }, 'username is missing'],
    [{ ...ALIASES, usernameOfStandardUserAccount: 5 }, 'usernameOfStandardUserAccount must be a string'],
    [{ ...ALIASES, passwordOfStandardUserAccount: 'pa55\n' }, 'passwordOfStandardUserAccount ends in a line break'],
    [{ ...ALIASES, passwordOfStandardUserAccount: 'pa\0ss' }, 'passwordOfStandardUserAccount holds a NUL character'],
    [{ ...ALIASES, password: 5 }, 'password must be a string'],
  ])('%j is refused by the name that counts', async (record, problem) => {
    expect((await refusalOf(() => ({ ...rest, ...record }))).message).toBe(`record of account web01: ${problem}`)
  })

  test('a record without a domain is of the configured one, unless it has an empty one', async () => {
    expect(await credentialOf(ALIASES, { domain: 'ad.test' })).toEqual(['ad.test', 'user', 'word'])
    expect(await credentialOf({ ...rest, ...ALIASES }, { domain: 'ad.test' })).toEqual(['CONTOSO', 'user', 'word'])
    const empty = await refusalOf(() => ({ ...ALIASES, domainName: '' }), { domain: 'ad.test' })
    expect(empty.message).toContain('domainName is empty')
    expect((await refusalOf(() => ALIASES)).message).toContain('domainName is missing')
  })

  test('P3: is logged by its names, without what stands under them', async () => {
    const { lines, read } = storeOf({ ...rest, ...ALIASES, usernameOfStandardUserAccount: 'old:new' })
    await read('credential')
    const members = { username: 'usernameOfStandardUserAccount', password: 'passwordOfStandardUserAccount' }
    expect(lines).toEqual([{ account: 'web01', members, renamed: true }])
  })

  test('is not logged in the plain form', async () => {
    const { lines, read } = storeOf({ ...rest, username: 'svc', password: 'pw' })
    await read('credential')
    expect(lines).toEqual([])
  })
})

describe('P3: a user that is being replaced', () => {
  const record = (username: string) => ({ username, password: 'pw', domainName: 'CONTOSO' })

  test('is the new one of old:new', async () => {
    expect(await credentialOf(record('old:new'))).toEqual(['CONTOSO', 'new', 'pw'])
  })

  test.each([':new', 'old:', ':', 'old:new:newer'])('%j is refused', async (username) => {
    const { message } = await refusalOf(() => record(username))
    expect(message).toBe('record of account web01: username: expected a user name, or two as in old:new')
  })
})

describe('a keytab', () => {
  const entry = { principal: parsePrincipal('web01$@AD.TEST'), timestamp: 5, kvno: 2, enctype: 18 }
  const keytab = encodeKeytab([{ ...entry, key: new Secret(new Uint8Array(32).fill(7)) }]).toString('base64')
  const kvnos = async (record: StoredRecord) => {
    const keys = await storeOf(record).read('kerberos-keys')
    return keys?.kind === 'kerberos-keys' ? keys.keys.map(({ kvno }) => kvno) : expect.unreachable('expected keys')
  }

  test.each([{ keytab }, { 'keytab.b64': keytab }, { keytab: '', 'keytab.b64': keytab }])(
    'stands under `keytab` or `keytab.b64`: %#',
    async (record) => expect(await kvnos(record)).toEqual([2]),
  )

  test('in a JSON text is found as well', async () => {
    expect(await kvnos(parseRecordText(JSON.stringify({ 'keytab.b64': keytab }), 'web01'))).toEqual([2])
  })

  test('is refused by the name it stands under', async () => {
    const { message } = await failure(kvnos({ 'keytab.b64': 'pa55' }), 'MATERIAL_MALFORMED')
    expect(message).toMatch(/^record of account web01: keytab\.b64: /)
  })

  test('beside a credential under another name is one record too many', async () => {
    const both = { 'keytab.b64': keytab, usernameOfStandardUserAccount: 'user' }
    const error = await failure(kvnos(both), 'MATERIAL_MALFORMED')
    expect(error).toBeInstanceOf(GmsaError)
    expect(error.message).toContain('holds a keytab and a credential')
  })
})

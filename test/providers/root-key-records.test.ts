import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import type { KdsRootKeys } from '../../src/gmsa/material.ts'
import { parseLdif } from '../../src/providers/ldif.ts'
import { decodeRootKeys, MAX_ROOT_KEY_TEXT, parseRootKeys } from '../../src/providers/root-key-records.ts'
import { printed } from '../contract/printed.ts'
import { failure } from '../contract/provider-contract.ts'
import { memoryStore } from '../fakes/memory-provider.ts'
import published from '../vectors/gkdi.json' with { type: 'json' }

/** What the tools printed of a throw-away domain with two root keys (Samba 4.22.6, OpenLDAP 2.5). */
const printout = (name: string) => readFileSync(join(import.meta.dirname, '../vectors/root-keys', name), 'utf8')
const LDAPSEARCH = printout('ldapsearch.ldif')
const LDBSEARCH = printout('ldbsearch.ldif')
const SAMBA_TOOL = printout('samba-tool.json')

const complain = (problem: string, hint?: string) =>
  new GmsaError('MATERIAL_MALFORMED', `roots: ${problem}`, hint ? { hint } : {})
const parse = (text: string) => parseRootKeys(text, complain)
const shown = ({ keys }: KdsRootKeys) =>
  keys.map(({ data, ...rest }) => ({ ...rest, data: Buffer.from(data.reveal()).toString('hex') }))
const base64 = (hex: string) => Buffer.from(hex, 'hex').toString('base64')

/** Our own form of the root keys in the vectors. */
const OWN = published.rootKeys.map(({ id, attributes }) => ({
  id,
  version: 1,
  kdfAlgorithm: attributes['msKds-KDFAlgorithmID'],
  kdfParam: attributes['msKds-KDFParam'] && base64(attributes['msKds-KDFParam']),
  data: base64(attributes['msKds-RootKeyData']),
  createTime: attributes['msKds-CreateTime'],
  useStartTime: attributes['msKds-UseStartTime'],
}))
const [FIRST] = OWN
if (!FIRST) throw new Error('no root key')

/** The error of something that must be refused. */
function refusal(make: () => unknown): GmsaError {
  try {
    make()
  } catch (error) {
    if (error instanceof GmsaError) return error
    throw error
  }
  return expect.unreachable('was taken')
}

describe('root keys in our own form', () => {
  const expected = published.rootKeys.map(({ id, attributes, effectiveHash }) => ({
    id,
    hash: effectiveHash.toLowerCase(),
    data: attributes['msKds-RootKeyData'],
    createTime: BigInt(attributes['msKds-CreateTime']),
    useStartTime: BigInt(attributes['msKds-UseStartTime']),
  }))

  test('are read from a document, a list, and a record of a store', () => {
    expect(expected.length).toBe(6)
    expect(shown(parse(JSON.stringify({ rootKeys: OWN })))).toEqual(expected)
    expect(shown(parse(`\n ${JSON.stringify(OWN)}`))).toEqual(expected)
    expect(shown(decodeRootKeys({ rootKeys: OWN }, 'kds'))).toEqual(expected)
    expect(shown(decodeRootKeys({ rootKeys: JSON.stringify(OWN) }, 'kds'))).toEqual(expected)
  })

  test('may have their times as text or number', () => {
    const times = [
      ['2026-11-23T20:00:00Z', 134_399_376_000_000_000n],
      ['134399376000000000', 134_399_376_000_000_000n],
      [134_399_376_000_000_000, 134_399_376_000_000_000n],
      [0, 0n],
    ] as const
    for (const [useStartTime, wanted] of times) {
      const [key] = shown(parse(JSON.stringify([{ ...FIRST, useStartTime }])))
      expect(key?.useStartTime).toBe(wanted)
    }
  })

  test.each([
    ['kdfParams', { ...FIRST, kdfParams: FIRST.kdfParam }, 'members besides'],
    ['no id', { ...FIRST, id: undefined }, 'id is missing'],
    ['an id that is none', { ...FIRST, id: 'kanari' }, 'id: expected a GUID'],
    ['no version', { ...FIRST, version: null }, 'version is missing'],
    ['version 2', { ...FIRST, version: 2 }, 'version is not 1'],
    ['a version that is none', { ...FIRST, version: 'kanari' }, 'version: expected a number'],
    ['another KDF', { ...FIRST, kdfAlgorithm: 'kanari' }, 'KDF algorithm is not'],
    ['a KDF that is no text', { ...FIRST, kdfAlgorithm: ['kanari'] }, 'kdfAlgorithm: expected text'],
    ['another hash', { ...FIRST, kdfParam: 'a2FuYXJp' }, 'KDF parameter names none of'],
    ['a parameter that is not base64', { ...FIRST, kdfParam: 'kanari' }, 'kdfParam: expected base64'],
    ['no data', { ...FIRST, data: undefined }, 'data is missing'],
    ['short data', { ...FIRST, data: base64('6b616e617269') }, 'key data does not have 64 bytes'],
    [
      'data in hex',
      { ...FIRST, data: `${Buffer.from(FIRST.data, 'base64').toString('hex')}=` },
      'data: expected base64',
    ],
    ['data as a list', { ...FIRST, data: [1, 2, 3] }, 'data: expected base64'],
    ['a time without zone', { ...FIRST, createTime: '2026-11-23T20:00:00' }, 'createTime: expected a time'],
    ['a negative time', { ...FIRST, useStartTime: -1 }, 'useStartTime: expected a time'],
    ['half a tick', { ...FIRST, useStartTime: 0.5 }, 'useStartTime: expected a time'],
    ['no object', 'kanari', 'expected an object'],
  ])('are refused with %s, and the error says which key and what, but quotes nothing', (_, entry, problem) => {
    const error = refusal(() => parse(JSON.stringify({ rootKeys: [OWN[1], entry] })))
    expect(error.code).toBe('MATERIAL_MALFORMED')
    expect(error.message).toContain('roots: [1]: ')
    expect(error.message).toContain(problem)
    for (const secret of [FIRST.data.slice(0, 20), 'kanari', 'a2FuYXJp']) expect(printed(error)).not.toContain(secret)
  })

  test('are overwritten where they were decoded, in a pool that others share', () => {
    const decode = vi.spyOn(Buffer, 'from')
    parse(JSON.stringify([FIRST]))
    const decoded = decode.mock.results.filter((_, index) => decode.mock.calls[index]?.[0] === FIRST.data)
    decode.mockRestore()
    expect(decoded.map(({ value }) => new Set(value))).toEqual([new Set([0])])
  })

  test.each([
    ['[]', 'no root key'],
    ['{"rootKeys":[]}', 'no root key'],
    ['{"rootKeys":{"a":1}}', 'expected a list'],
    ['{"rootKeys":[', 'not valid JSON'],
    ['{"rootkeys":[]}', 'members besides'],
    [JSON.stringify([FIRST, FIRST]), `root key ${FIRST.id} stands there twice`],
    [JSON.stringify(Array.from({ length: 1001 }, () => FIRST)), 'more than 1000'],
    [`[${' '.repeat(MAX_ROOT_KEY_TEXT)}]`, 'longer than'],
  ])('are refused where the document is wrong', (text, problem) => {
    expect(refusal(() => parse(text)).message).toContain(problem)
  })
})

describe('root keys as tools print them', () => {
  test('are the same from ldapsearch and ldbsearch, and from samba-tool but for a microsecond', () => {
    const [one, other] = [shown(parse(LDAPSEARCH)), shown(parse(LDBSEARCH))]
    expect(one.length).toBe(2)
    expect(one.map(({ id }) => id)).toEqual([
      '03f601af-c62c-8897-59d3-fca4a70fa1c2',
      '7c5fe06f-57ab-3b36-8831-8427e1cb6ac6',
    ])
    expect(new Set(one.map(({ data, hash }) => `${hash} ${data.length}`))).toEqual(new Set(['sha512 128']))
    expect(one[0]).toMatchObject({ createTime: 134_399_499_957_738_512n, useStartTime: 134_399_136_957_738_512n })
    expect(other).toEqual(one)
    const samba = shown(parse(SAMBA_TOOL))
    const timeless = (keys: typeof one) => Object.fromEntries(keys.map(({ id, hash, data }) => [id, { hash, data }]))
    expect(timeless(samba)).toEqual(timeless(one))
    for (const key of samba) {
      const same = one.find(({ id }) => id === key.id)
      expect(Math.abs(Number(key.createTime - (same?.createTime ?? 0n)))).toBeLessThan(20)
      expect(Math.abs(Number(key.useStartTime - (same?.useStartTime ?? 0n)))).toBeLessThan(20)
    }
  })

  test('are read with other line ends, without comments, one alone, and as text in a record', () => {
    const expected = shown(parse(LDAPSEARCH))
    expect(shown(parse(LDAPSEARCH.replaceAll('\n', '\r\n')))).toEqual(expected)
    expect(shown(decodeRootKeys({ rootKeys: LDAPSEARCH }, 'kds'))).toEqual(expected)
    const quiet = LDAPSEARCH.split(/\n(?! )/)
      .filter((line) => !/^(?:#|search:|result:)/.test(line))
      .join('\n')
    expect(shown(parse(quiet))).toEqual(expected)
    const [view]: unknown[] = JSON.parse(SAMBA_TOOL)
    expect(shown(parse(JSON.stringify(view)))).toEqual(shown(parse(SAMBA_TOOL)).slice(0, 1))
    expect(shown(decodeRootKeys({ rootKeys: JSON.parse(SAMBA_TOOL) }, 'kds'))).toEqual(shown(parse(SAMBA_TOOL)))
  })

  test('without msKds-KDFParam are keys of SHA-256', () => {
    const text = LDBSEARCH.replaceAll(/^msKds-KDFParam:.*\n/gm, '')
    expect(parse(text).keys.map(({ hash }) => hash)).toEqual(['sha256', 'sha256'])
  })

  test('are refused where samba-tool left out what decides the hash, with the command that shows it', () => {
    const brief = JSON.parse(SAMBA_TOOL).map((entry: Record<string, unknown>) => {
      const { name, 'msKds-RootKeyData': data, 'msKds-CreateTime': created, 'msKds-UseStartTime': start } = entry
      return { name, 'msKds-RootKeyData': data, 'msKds-CreateTime': created, 'msKds-UseStartTime': start }
    })
    const error = refusal(() => parse(JSON.stringify(brief)))
    expect(error.message).toContain('msKds-Version is missing')
    expect(error.hint).toContain('--verbose --show-secrets')
  })

  test('are refused where the account that exported them may not see the secret', () => {
    const text = LDAPSEARCH.replaceAll(/^msKds-RootKeyData:.*\n(?: .*\n)*/gm, '')
    const error = refusal(() => parse(text))
    expect(error.message).toMatch(/root key 03f601af-\S+: msKds-RootKeyData is missing/)
    expect(error.hint).toContain('an account that may read')
  })

  test('leave out what is no root key: other classes, names that are no GUID', () => {
    const other = (dn: string, objectClass: string) => `dn: ${dn}\nobjectClass: ${objectClass}\nmsKds-Version: 1\n\n`
    const text = [
      other('CN=Group Key Distribution Service Server Configuration,CN=x', 'msKds-ProvServerConfiguration'),
      other('CN=no guid,CN=x', 'msKds-ProvRootKey'),
      other('CN=00000000-0000-0000-0000-000000000001,CN=x', 'container'),
    ].join('')
    expect(shown(parse(text + LDAPSEARCH))).toEqual(shown(parse(LDAPSEARCH)))
    expect(refusal(() => parse(text)).message).toContain('no root key')
  })

  test.each([
    ['kanari', 'line 1 is not LDIF'],
    ['dn: CN=x\nmsKds-RootKeyData:: kanari!', 'line 2 is not base64'],
    ['dn: CN=x\n\nmsKds-RootKeyData:< file:///kanari', 'line 3 is not LDIF'],
    ['', 'no root key'],
    ['# kanari\n', 'no root key'],
    [LDAPSEARCH.replace('msKds-Version: 1', 'msKds-Version: one'), 'msKds-Version: expected a number'],
    [LDAPSEARCH.replace(/msKds-CreateTime: .*/, 'msKds-CreateTime: kanari'), 'msKds-CreateTime: expected a time'],
  ])('are refused where the text is wrong, and it is not quoted', (text, problem) => {
    const error = refusal(() => parse(text))
    expect(error.message).toContain(problem)
    expect(printed(error)).not.toMatch(/kanari/)
  })

  test('no text makes anything but an error of ours', () => {
    const cut = fc.tuple(fc.constantFrom(LDAPSEARCH, LDBSEARCH, SAMBA_TOOL), fc.nat(6_000), fc.nat(40), fc.string())
    fc.assert(
      fc.property(cut, ([text, at, length, put]) => {
        const damaged = text.slice(0, at) + put + text.slice(at + length)
        try {
          expect(parse(damaged).keys.length).toBeGreaterThan(0)
        } catch (error) {
          expect(error).toBeInstanceOf(GmsaError)
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('LDIF', () => {
  test('needs no line break at its end', () => {
    expect(parseLdif('dn: CN=a\n\ndn: CN=b').map(({ dn }) => dn)).toEqual(['CN=a', 'CN=b'])
  })

  test('is taken line by line, folded ones together, several values in their order', () => {
    const text =
      '# one\n of two\nversion: 1\n\ndn: CN=a,\n DC=b\nCN;lang-en: x\ncn:: w6Q=\nempty:\n\ndn:: Q049w6Q=\nx:  y \n'
    const [first, second] = parseLdif(text).map(({ dn, attributes }) => ({
      dn,
      values: Object.fromEntries(
        [...attributes].map(([name, values]) => [name, values.map((value) => value.toString())]),
      ),
    }))
    expect(first).toEqual({ dn: 'CN=a,DC=b', values: { dn: ['CN=a,DC=b'], cn: ['x', 'ä'], empty: [''] } })
    expect(second).toEqual({ dn: 'CN=ä', values: { dn: ['CN=ä'], x: ['y '] } })
  })

  // What takes time for each pair of lines takes minutes here, which is longer than a test may.
  test.each([
    ['one folded value', `x:: ${'QUJD\n '.repeat(200_000)}\n`],
    ['comments', '# c\n'.repeat(250_000)],
    ['values of one name', 'x:\n'.repeat(340_000)],
  ])('of a million characters is read: %s', (_what, lines) => {
    expect(parseLdif(`dn: CN=a\n${lines}`)).toHaveLength(1)
  })
})

describe('a record of any store', () => {
  const signal = AbortSignal.timeout(5_000)
  const account = (secret: string) => ({ name: secret, secret, options: {} })

  test('is read as root keys, and as nothing else', async () => {
    const { provider, put } = memoryStore()
    put('kds', { rootKeys: OWN })
    const keys = await provider.reads['kds-root-key']?.(account('kds'), signal)
    expect(keys?.keys.length).toBe(6)
    expect(printed(keys)).not.toContain(FIRST.data.slice(0, 20))
    for (const kind of ['credential', 'managed-password', 'kerberos-keys'] as const) {
      const error = await failure(
        provider.reads[kind]?.(account('kds'), signal) ?? Promise.resolve(),
        'KIND_NOT_OFFERED',
      )
      expect(error.message).toContain('holds KDS root keys')
    }
  })

  test('that is something else, or nothing, is refused', async () => {
    const { provider, put } = memoryStore()
    put('credential', { username: 'u', password: 'p', domainName: 'd' })
    put('both', { username: 'u', password: 'p', domainName: 'd', rootKeys: OWN })
    put('empty', {})
    const read = (secret: string) => provider.reads['kds-root-key']?.(account(secret), signal) ?? Promise.resolve()
    await failure(read('credential'), 'KIND_NOT_OFFERED')
    await failure(read('both'), 'MATERIAL_MALFORMED')
    expect((await failure(read('empty'), 'MATERIAL_MALFORMED')).message).toContain('rootKeys: is missing')
    await failure(read('absent'), 'ACCOUNT_NOT_FOUND')
  })
})

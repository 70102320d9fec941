import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import type { ClientRule } from '../../src/broker/policy.ts'
import { isAccountName } from '../../src/gmsa/account-name.ts'
import { makePki, type Pki } from '../fakes/pki.ts'
import { makeRig, type Rig } from '../fakes/rig.ts'
import { CREDENTIAL_BODY, credential, makeStore, openWire } from './wire.ts'

const EVERYTHING: ClientRule = { match: { uri: 'spiffe://localhost/client/*' }, allow: ['credential'], accounts: ['*'] }

/** The grammar once more, in other words: RFC 1123 labels, joined by dots, in lower case, at most 253 characters. */
function isDns1123(text: string): boolean {
  const letters = new Set('abcdefghijklmnopqrstuvwxyz0123456789')
  if (text.length === 0 || text.length > 253) return false
  return text.split('.').every((label) => {
    const characters = [...label]
    const [first, last] = [characters[0], characters.at(-1)]
    if (first === undefined || last === undefined || !letters.has(first) || !letters.has(last)) return false
    return characters.every((each) => letters.has(each) || each === '-')
  })
}

describe('isAccountName', () => {
  test('is exactly the grammar of DNS-1123 subdomains', () => {
    const near = fc.string({
      unit: fc.constantFrom('a', 'z', '0', '-', '.', 'A', '_', '/', '\n', '\0', 'é'),
      maxLength: 12,
    })
    fc.assert(
      fc.property(fc.oneof(near, fc.string({ maxLength: 300 })), (text) => {
        expect(isAccountName(text)).toBe(isDns1123(text))
      }),
      { numRuns: 5_000 },
    )
  })

  test('takes every name that the grammar makes', () => {
    const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/)
    fc.assert(
      fc.property(fc.array(label, { minLength: 1, maxLength: 8 }), (labels) => {
        expect(isAccountName(labels.join('.'))).toBe(true)
      }),
    )
    expect(isAccountName('a'.repeat(253))).toBe(true)
    expect(isAccountName('a'.repeat(254))).toBe(false)
    expect(isAccountName('a\n')).toBe(false)
  })

  test('answers at once, also for long and nearly right ones', () => {
    const started = performance.now()
    for (const text of ['a'.repeat(1e6), 'a-'.repeat(1e5), 'a.'.repeat(1e5), `${'a-'.repeat(126)}!`])
      isAccountName(text)
    expect(performance.now() - started).toBeLessThan(200)
  })
})

const HOSTILE = [
  '../x',
  '..',
  '.',
  '/etc/passwd',
  'a/b',
  'a\\b',
  '..data',
  '.hidden',
  'a..b',
  'a.',
  '-a',
  'A',
  'Test-Secret',
  'a b',
]
const MORE_HOSTILE = [
  '%2e%2e',
  '..%2f',
  'test-secret%00',
  'test-secret.json',
  '*',
  '_proto_',
  'constructor_',
  'a'.repeat(254),
]

describe('names that are none', () => {
  let rig: Rig
  const store = makeStore()
  beforeAll(async () => {
    rig = await makeRig({
      providers: new Map([['local', store]]),
      clients: [EVERYTHING],
      config: { accounts: new Map([['*', { provider: 'local', options: {} }]]) },
    })
  })
  afterAll(() => rig[Symbol.asyncDispose]())

  test('never reach a store, in the header', async () => {
    for (const name of [...HOSTILE, ...MORE_HOSTILE].filter((each) => !isDns1123(each))) {
      const reply = await rig.provider(name)
      expect(reply).toMatchObject({ status: 404, body: '' })
      expect(reply.headers['gmsa-error']).toBe('REQUEST_INVALID')
    }
    expect(store.asked).toEqual([])
  })

  test('never reach a store, in the path', async () => {
    for (const name of [...HOSTILE, 'a\0', 'é', '\u2028'].map(encodeURIComponent).concat(MORE_HOSTILE, '../x', '..')) {
      const { status } = await rig.get(`/v1/accounts/${name}/credential`)
      if (isDns1123(name)) continue
      expect([400, 404, 414]).toContain(status)
    }
    const { status } = await rig.get(`/v1/accounts/${encodeURIComponent('../')}/credential`)
    expect(status).toBe(404)
    expect(store.asked.filter((name) => !isDns1123(name))).toEqual([])
  })

  test('the names of the language itself are names like any other', async () => {
    for (const name of ['constructor', 'tostring', 'hasownproperty']) {
      expect(await rig.provider(name)).toMatchObject({ status: 200, body: CREDENTIAL_BODY })
    }
    expect(store.asked).toEqual(expect.arrayContaining(['constructor', 'tostring']))
  })
})

describe('a client that is not allowed an account', () => {
  let rig: Rig
  let pki: Pki
  const there = new Set(['exists', 'mine'])
  const store = makeStore(async (name) => {
    if (there.has(name)) return credential()
    throw new GmsaError('ACCOUNT_NOT_FOUND', 'no such record')
  })
  beforeAll(async () => {
    pki = await makePki()
    rig = await makeRig({
      pki,
      providers: new Map([['local', store]]),
      clients: [
        { match: { uri: 'spiffe://localhost/client/test' }, allow: ['credential'], accounts: ['mine', 'mine-*'] },
        { match: { uri: 'spiffe://localhost/client/test' }, allow: ['keytab'], accounts: ['exists'] },
        { match: { commonName: 'admin' }, allow: ['credential'], accounts: ['*'] },
      ],
      config: {
        accounts: new Map(
          ['exists', 'mine', 'mine-gone', '*'].map((name) => [name, { provider: 'local', options: {} }]),
        ),
      },
    })
  })
  afterAll(() => rig[Symbol.asyncDispose]())

  /** The answer without what may differ: the date and the request id. */
  async function bytesOf(request: string): Promise<string> {
    using wire = await openWire(rig)
    wire.write(request)
    const { head, body } = await wire.next()
    return `${head.replace(/\r\nDate: [^\r]*/i, '')}\r\n\r\n${body.replace(/"instance":"[^"]*"/, '')}`
  }

  const paths = {
    '/provider': (name: string) => `GET /provider HTTP/1.1\r\nHost: localhost\r\nobject: ${name}\r\n\r\n`,
    '/v1': (name: string) => `GET /v1/accounts/${name}/credential HTTP/1.1\r\nHost: localhost\r\n\r\n`,
  }

  test.each(Object.entries(paths))(
    'gets equal bytes on %s whether it exists or not, and no store is asked',
    async (path, of) => {
      store.asked.length = 0
      const denied = await bytesOf(of('exists'))
      expect(await bytesOf(of('exists'))).toBe(denied)
      expect(await bytesOf(of('misses'))).toBe(denied)
      expect(await bytesOf(of('not-configured'))).toBe(denied)
      expect(store.asked).toEqual([])
      // The same bytes as for an account that it may read and that is truly absent.
      const gone = path === '/v1' ? 'mine-gone' : 'mine-lost'
      expect(await bytesOf(of(gone))).toBe(denied)
      expect(store.asked).toEqual([gone])
      expect(denied).toContain('ACCOUNT_NOT_FOUND')
      expect(denied).not.toContain('FORBIDDEN')
      // Nor does it help that another client has just read it.
      expect(await rig.provider('exists', { client: await pki.ca.issue({ commonName: 'admin' }) })).toMatchObject({
        status: 200,
      })
      expect(await bytesOf(of('exists'))).toBe(denied)
    },
  )

  test('is told apart in the log and the metrics alone', async () => {
    await rig.provider('exists')
    expect(rig.lines.at(-1)).toMatchObject({ account: 'exists', code: 'ACCOUNT_FORBIDDEN', status: 404 })
    const { body } = await rig.admin('/metrics')
    expect(body).toMatch(
      /requests_total\{route="\/provider",code="404",outcome="refused",reason="ACCOUNT_FORBIDDEN"\} \d/,
    )
  })

  test('sees in the list only what it may read', async () => {
    const { body } = await rig.get('/v1/accounts')
    expect(JSON.parse(body).accounts.map(({ name }: { name: string }) => name)).toEqual(['mine', 'mine-gone'])
    const none = await rig.get('/v1/accounts', { client: await pki.ca.issue({ commonName: 'nobody' }) })
    expect(JSON.parse(none.body)).toEqual({ accounts: [] })
  })
})

describe('which accounts there are', () => {
  test("with '*' any name is asked for, within the client's rules", async () => {
    const store = makeStore()
    await using rig = await makeRig({
      providers: new Map([['local', store]]),
      clients: [{ match: { uri: 'spiffe://localhost/client/test' }, allow: ['credential'], accounts: ['web-*'] }],
      config: { accounts: new Map([['*', { provider: 'local', options: {} }]]) },
    })
    expect(await rig.provider('web-1')).toMatchObject({ status: 200 })
    expect(await rig.provider('sql-1')).toMatchObject({ status: 404, body: '' })
    expect(await rig.provider('*')).toMatchObject({ status: 404, body: '' })
    expect(store.asked).toEqual(['web-1'])
    const { body } = await rig.admin('/metrics')
    expect(body).not.toContain('web-1')
  })

  test('without a clients section only the named ones, for any verified client', async () => {
    const store = makeStore()
    await using rig = await makeRig({
      providers: new Map([['local', store]]),
      config: {
        accounts: new Map(['named', '*'].map((name) => [name, { provider: 'local', options: {} }])),
      },
    })
    expect(await rig.provider('named')).toMatchObject({ status: 200 })
    expect(await rig.provider('named', { client: await rig.pki.ca.issue() })).toMatchObject({ status: 200 })
    expect(await rig.provider('other')).toMatchObject({ status: 404, body: '' })
    expect(store.asked).toEqual(['named'])
  })

  test('with an empty clients section nobody may read anything', async () => {
    const store = makeStore()
    await using rig = await makeRig({ providers: new Map([['local', store]]), clients: [] })
    expect(await rig.provider('test-secret')).toMatchObject({ status: 404, body: '' })
    expect(store.asked).toEqual([])
  })
})

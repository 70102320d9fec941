import { randomBytes } from 'node:crypto'
import { Client, type Entry, type SearchOptions, type SearchResult } from 'ldapts'
import { describe, expect, test } from 'vitest'
import { Secret } from '../../../src/base/secret.ts'
import { formatManagedPassword, parseManagedPassword } from '../../../src/gmsa/managed-password.ts'
import { readManagedPassword } from '../../../src/providers/active-directory/managed-password.ts'
import { printed } from '../../contract/printed.ts'
import { failure } from '../../contract/provider-contract.ts'
import { movableClock } from '../../fakes/clock.ts'
import lab from '../../vectors/samba-dc-sample.json' with { type: 'json' }

const DN = 'CN=web01\\, the first,CN=Managed Service Accounts,DC=ad,DC=test'
const LOOKUP = { samAccountName: 'web01$', domain: 'ad.test', searchBase: 'DC=ad,DC=test' }
const SID = Buffer.from('010500000000000515000000010000000200000003000000510400 00'.replaceAll(' ', ''), 'hex')

/** A blob as a controller sends it; no NUL unit in the password, which is random. */
function blob(): Buffer {
  const password = randomBytes(256).map((byte) => byte || 1)
  return formatManagedPassword({ current: new Secret(password), queryInterval: 720_000n, unchangedInterval: 720_000n })
}

const account = (more: Partial<Entry> = {}): Entry => ({
  dn: DN,
  'msDS-ManagedPassword': blob(),
  objectSid: SID,
  sAMAccountName: 'web01$',
  servicePrincipalName: ['HTTP/web01.ad.test', 'HTTP/web01'],
  'msDS-SupportedEncryptionTypes': '24',
  'msDS-ManagedPasswordInterval': '30',
  userPrincipalName: [],
  ...more,
})

/** Answers one search after the other, and remembers what was asked, a second on its clock after the other. */
function directory(...answers: readonly (readonly Entry[])[]) {
  const clock = movableClock()
  const asked: { base: unknown; options: SearchOptions }[] = []
  class FakeClient extends Client {
    override async search(base: unknown, options: SearchOptions = {}): Promise<SearchResult> {
      asked.push({ base, options })
      await clock.advance(1_000)
      const searchEntries = [...(answers[asked.length - 1] ?? [])]
      return { searchEntries, searchReferences: ['ldaps://ad.test/CN=Configuration,DC=ad,DC=test'] }
    }
  }
  const client = new FakeClient({ url: 'ldap://nobody.invalid' })
  return { clock, asked, read: () => readManagedPassword(client, 'dc1', LOOKUP, clock) }
}

const version = (value: string | string[]): Entry => ({ dn: DN, 'msDS-KeyVersionNumber': value })

describe('reading a managed password', () => {
  test('asks for the password by name, and for the key version after it, of the entry it got', async () => {
    const { read, asked } = directory([account()], [version('7')])
    await read()
    expect(asked).toHaveLength(2)
    const [first, second] = asked
    expect(first).toMatchObject({ base: 'DC=ad,DC=test', options: { scope: 'sub', sizeLimit: 2 } })
    expect(first?.options.attributes).toContain('msDS-ManagedPassword')
    expect(first?.options.attributes).not.toContain('msDS-KeyVersionNumber')
    expect(first?.options.explicitBufferAttributes).toContain('msDS-ManagedPassword')
    expect(second).toEqual({
      base: DN,
      options: {
        scope: 'base',
        attributes: ['msDS-KeyVersionNumber', 'msDS-ManagedPasswordId'],
        explicitBufferAttributes: ['msDS-ManagedPasswordId'],
      },
    })
  })

  test('says which root key and cycle the password came from, where that can be read', async () => {
    const [sample] = lab.samples
    const raw = Buffer.from(sample?.managedPasswordId.raw ?? '', 'hex')
    const withId = (id: Buffer | string[]) =>
      directory([account()], [{ ...version('7'), 'msDS-ManagedPasswordId': id }])
    const { rootKeyId, l0, l1, l2 } = sample?.managedPasswordId ?? expect.unreachable()
    expect((await withId(raw).read()).passwordId).toMatchObject({ rootKeyId, gkid: { l0, l1, l2 } })
    for (const id of [[], raw.subarray(1), Buffer.alloc(0)])
      expect('passwordId' in (await withId(id).read())).toBe(false)
  })

  test('says when each of both arrived, and what the directory knows of the account', async () => {
    const { read, clock } = directory([account({ userPrincipalName: 'web@ad.test' })], [version('7')])
    const began = clock.now()
    expect(await read()).toMatchObject({
      kind: 'managed-password',
      receivedAt: began + 1_000,
      kvno: { value: 7, readAt: began + 2_000 },
      server: 'dc1',
      account: {
        samAccountName: 'web01$',
        domain: 'ad.test',
        sid: 'S-1-5-21-1-2-3-1105',
        upn: 'web@ad.test',
        servicePrincipalNames: ['HTTP/web01.ad.test', 'HTTP/web01'],
        supportedEnctypes: 24,
        managedPasswordInterval: 30,
      },
    })
  })

  test('leaves out what the directory does not say', async () => {
    const bare = account({
      servicePrincipalName: [],
      'msDS-SupportedEncryptionTypes': [],
      'msDS-ManagedPasswordInterval': [],
      objectSid: [],
    })
    const { read } = directory([bare], [version([])])
    const got = await read()
    expect(got.account).toEqual({ samAccountName: 'web01$', domain: 'ad.test', servicePrincipalNames: [] })
    expect('kvno' in got).toBe(false)
  })

  test.each(['0', '-1'])('a key version of %s is none', async (value) => {
    const { read } = directory([account()], [version(value)])
    expect('kvno' in (await read())).toBe(false)
  })

  test('keeps a copy of its own and overwrites what the library holds', async () => {
    const theirs = blob()
    const { current } = parseManagedPassword(theirs)
    const { read } = directory([account({ 'msDS-ManagedPassword': theirs })], [version('7')])
    const got = await read()
    expect(theirs.every((byte) => byte === 0)).toBe(true)
    expect(parseManagedPassword(got.blob.reveal()).current.equals(current)).toBe(true)
  })

  test.each<[string, (bytes: Buffer) => Buffer]>([
    ['is cut short', (bytes) => bytes.subarray(0, 100)],
    ['is empty', () => Buffer.alloc(0)],
    ['has another version', (bytes) => Buffer.concat([Buffer.from([2]), bytes.subarray(1)])],
    ['is longer than it says', (bytes) => Buffer.concat([bytes, Buffer.alloc(8)])],
  ])('a blob that %s is refused, and not shown', async (_, damage) => {
    const damaged = damage(blob())
    const canary = damaged.subarray(20, 40).toString('hex')
    const { read } = directory([account({ 'msDS-ManagedPassword': damaged })], [version('7')])
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    if (canary !== '') expect(printed(error)).not.toContain(canary)
  })

  test('no entry, no password and two entries are three different things', async () => {
    await failure(directory([]).read(), 'ACCOUNT_NOT_FOUND')
    const refused = await failure(directory([account({ 'msDS-ManagedPassword': [] })]).read(), 'STORE_DENIED')
    expect(refused.reason).toBe('not-permitted')
    await failure(directory([account(), account()]).read(), 'MATERIAL_MALFORMED')
  })

  test('a number that is none is refused', async () => {
    await failure(directory([account()], [version('seven')]).read(), 'MATERIAL_MALFORMED')
  })
})

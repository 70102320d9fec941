import { describe, expect, test } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import { formatManagedPassword } from '../../src/gmsa/managed-password.ts'
import { encodeKeytab, type KeytabEntry } from '../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../src/kerberos/principal.ts'
import { decodeManagedPassword, decodeStoredKeys } from '../../src/providers/key-records.ts'
import type { Account } from '../../src/providers/provider.ts'
import { fromRecords, type StoredRecord } from '../../src/providers/records.ts'
import { failure } from '../contract/provider-contract.ts'

const NOW = Date.UTC(2026, 10, 23, 20)
const HOUR = 36_000_000_000n
const blob = formatManagedPassword({
  current: new Secret(Buffer.alloc(256, 'current;', 'utf16le')),
  queryInterval: 10n * HOUR,
  unchangedInterval: 9n * HOUR,
})
const RECORD = { managedPassword: blob.toString('base64'), samAccountName: 'web01$', domain: 'ad.test' }
const account = (options: Account['options'] = {}): Account => ({ name: 'web01', secret: 'web01', options })
const entry = (more: Partial<KeytabEntry> = {}, name = 'web01$@AD.TEST'): KeytabEntry => ({
  principal: parsePrincipal(name),
  timestamp: 5,
  kvno: 2,
  enctype: 18,
  key: new Secret(new Uint8Array(32).fill(more.kvno ?? 2)),
  ...more,
})
const keytab = (...entries: KeytabEntry[]) => ({ keytab: encodeKeytab(entries).toString('base64') })

function problemOf(read: () => unknown): string {
  try {
    read()
  } catch (error) {
    expect(error).toMatchObject({ code: 'MATERIAL_MALFORMED' })
    return (error as Error).message.replace('record of account web01: ', '')
  }
  return expect.unreachable('expected an error')
}

describe('a record with a managed password', () => {
  test('gives the blob, and what else it says', () => {
    const record = {
      ...RECORD,
      kvno: '7',
      servicePrincipalNames: 'HTTP/web01.ad.test, HTTP/web01',
      readAt: '2026-11-23T20:30:00+01:00',
    }
    const { blob: held, ...rest } = decodeManagedPassword(record, account(), NOW)
    expect(Buffer.from(held.reveal())).toEqual(blob)
    const receivedAt = Date.UTC(2026, 10, 23, 19, 30)
    expect(rest).toEqual({
      kind: 'managed-password',
      receivedAt,
      kvno: { value: 7, readAt: receivedAt },
      account: {
        samAccountName: 'web01$',
        domain: 'ad.test',
        servicePrincipalNames: ['HTTP/web01.ad.test', 'HTTP/web01'],
      },
    })
  })

  test('counts from now where it does not say since when, and never from later', () => {
    expect(decodeManagedPassword(RECORD, account(), NOW).receivedAt).toBe(NOW)
    expect(decodeManagedPassword({ ...RECORD, readAt: '2027-01-01T00:00:00Z' }, account(), NOW).receivedAt).toBe(NOW)
  })

  test('takes the names from the configuration where it has none', () => {
    const { managedPassword } = RECORD
    const options = { samAccountName: 'sql01$', domain: 'eu.ad.test' }
    expect(decodeManagedPassword({ managedPassword }, account(options), NOW).account).toMatchObject(options)
    expect(decodeManagedPassword(RECORD, account(options), NOW).account).toMatchObject({ samAccountName: 'web01$' })
  })

  test.each<[StoredRecord, string]>([
    [{ managedPassword: null }, 'managedPassword is missing'],
    [{ managedPassword: `${RECORD.managedPassword}\n` }, 'managedPassword is not base64'],
    [{ managedPassword: RECORD.managedPassword.replace(/=+$/, '') }, 'managedPassword is not base64'],
    [{ managedPassword: blob.toString('base64url') }, 'managedPassword is not base64'],
    [{ managedPassword: 'A'.repeat(6_000) }, 'managedPassword is longer than 5464 characters'],
    [{ managedPassword: blob.subarray(1).toString('base64') }, 'managedPassword: managed password: version is not 1'],
    [{ samAccountName: undefined }, 'samAccountName is missing'],
    [{ samAccountName: 'web01' }, 'samAccountName: expected a name such as web01$'],
    [{ domain: 'ad' }, 'domain: expected a DNS name such as ad.example.com'],
    [{ kvno: 0 }, 'kvno: expected an integer from 1 to 4294967295'],
    [{ kvno: 1.5 }, 'kvno: expected an integer from 1 to 4294967295'],
    [{ kvno: '-1' }, 'kvno: expected an integer from 1 to 4294967295'],
    [{ kvno: 2 ** 32 }, 'kvno: expected an integer from 1 to 4294967295'],
    [
      { servicePrincipalNames: ['HTTP'] },
      'servicePrincipalNames: expected a list of names such as HTTP/web01.ad.example.com',
    ],
    [
      { servicePrincipalNames: [7] },
      'servicePrincipalNames: expected a list of names such as HTTP/web01.ad.example.com',
    ],
    [{ readAt: 'yesterday' }, 'readAt: expected a time such as 2026-11-23T20:00:00Z'],
    [{ readAt: '2026-13-23T20:00:00Z' }, 'readAt: expected a time such as 2026-11-23T20:00:00Z'],
  ])('with %o is refused by the name of the member', (change, problem) => {
    const said = problemOf(() => decodeManagedPassword({ ...RECORD, ...change }, account(), NOW))
    expect(said).toBe(problem)
  })
})

describe('a record with a keytab', () => {
  test('gives its keys, newest and preferred first, the highest kvno in force', () => {
    const record = keytab(
      entry({ enctype: 17, key: new Secret(new Uint8Array(16)) }),
      entry(),
      entry({ kvno: 1, timestamp: 0 }),
      entry({}, 'HTTP/web01.ad.test@AD.TEST'),
      entry({ enctype: 3, key: new Secret(new Uint8Array(8)) }),
    )
    const { keys, principals, ...rest } = decodeStoredKeys(record, account())
    expect(rest).toEqual({ kind: 'kerberos-keys', realm: 'AD.TEST', salt: 'AD.TESThostweb01.ad.test' })
    expect(keys.map(({ key: _, ...key }) => key)).toEqual([
      { kvno: 2, enctype: 18, phase: 'current', start: 5_000 },
      { kvno: 2, enctype: 17, phase: 'current', start: 5_000 },
      { kvno: 1, enctype: 18, phase: 'previous' },
    ])
    expect(principals.map(({ components }) => components.join('/'))).toEqual(['web01$', 'HTTP/web01.ad.test'])
  })

  test.each<[string, StoredRecord]>([
    ['keytab: no entry', { keytab: Buffer.from([5, 2]).toString('base64') }],
    ['keytab: an entry with kvno 0', keytab(entry({ kvno: 0 }))],
    ['keytab: entries of more than one realm', keytab(entry(), entry({}, 'web01$@OTHER.TEST'))],
    [
      'keytab: two keys of kvno 2 and enctype aes256-cts-hmac-sha1-96',
      keytab(entry(), entry({ key: new Secret(new Uint8Array(32)) }, 'HTTP/web01@AD.TEST')),
    ],
    ['keytab: no key of an enctype known here', keytab(entry({ enctype: 3, key: new Secret(new Uint8Array(8)) }))],
    ['keytab: keytab: no keytab: expected version 0x0502 at its start', { keytab: 'AAAA' }],
  ])('is refused: %s', (problem, record) => {
    expect(problemOf(() => decodeStoredKeys(record, account()))).toBe(problem)
  })
})

describe('a store of records', () => {
  const credential = { username: 'svc', password: 'pa55', domainName: 'ad.test' }
  const read = (kind: 'credential' | 'managed-password' | 'kerberos-keys', record: StoredRecord) => {
    const { reads } = fromRecords('memory', { read: async () => record, probe: async () => {} }, { now: () => NOW })
    return reads[kind]?.(account(), AbortSignal.timeout(1_000)) ?? expect.unreachable()
  }

  test.each([
    ['credential', RECORD, 'holds a managed password, not a credential'],
    ['credential', keytab(entry()), 'holds a keytab, not a credential'],
    ['managed-password', credential, 'holds a credential, not a managed password'],
    ['kerberos-keys', RECORD, 'holds a managed password, not a keytab'],
  ] as const)('asked for %s says what it holds instead', async (kind, record, problem) => {
    const error = await failure(read(kind, record), 'KIND_NOT_OFFERED')
    expect(error.message).toBe(`record of account web01 ${problem}`)
  })

  test('holds one kind in each record', async () => {
    await failure(read('credential', { ...credential, ...RECORD }), 'MATERIAL_MALFORMED')
    await failure(read('managed-password', { ...keytab(entry()), ...RECORD }), 'MATERIAL_MALFORMED')
  })

  test('dates a password by the clock it is given', async () => {
    expect(await read('managed-password', RECORD)).toMatchObject({ receivedAt: NOW })
  })
})

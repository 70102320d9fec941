import { type GmsaError, toGmsaError } from '../base/errors.ts'
import { accountOptionsOf } from '../gmsa/account-options.ts'
import { MAX_BLOB_BYTES, parseManagedPassword } from '../gmsa/managed-password.ts'
import type { ManagedPassword, StoredKeys } from '../gmsa/material.ts'
import { DOMAIN_PATTERN, SAM_ACCOUNT_NAME_PATTERN, SPN_PATTERN } from '../gmsa/name-patterns.ts'
import { ENCTYPES, enctypeName, enctypeOf } from '../kerberos/enctype.ts'
import type { KerberosKey } from '../kerberos/keys.ts'
import { type KeytabEntry, parseKeytab } from '../kerberos/keytab.ts'
import { isSamePrincipal, type Principal } from '../kerberos/principal.ts'
import { accountSalt } from '../kerberos/salt.ts'
import type { Account } from './provider.ts'
import {
  base64Member,
  filledMember,
  malformed,
  memberOf,
  printableMember,
  type StoredRecord,
  textMember,
} from './record-members.ts'

/** A document has room for no more, and a keytab of one account needs far less. */
const MAX_KEYTAB = 48 * 1024
/** `keytab.b64` is what a keytab in base64 is called in stores of text, where a file `keytab` would hold bytes. */
export const KEYTAB_MEMBERS = ['keytab', 'keytab.b64'] as const
const MAX_KVNO = 0xffff_ffff
/** RFC 3339 with a zone, as `date --rfc-3339=seconds` and all languages write it. */
const TIME = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/

/**
 * A managed password as a record holds it: `managedPassword`, the blob in base64; `samAccountName` and `domain` unless
 * the account's entry has them; and, where they are known, `kvno`, `servicePrincipalNames` and `readAt`. The blob's
 * intervals count from `readAt`; without it, from `now` in ms since 1970.
 * Throws MATERIAL_MALFORMED that names the member, never its value.
 */
export function decodeManagedPassword(record: StoredRecord, account: Account, now: number): ManagedPassword {
  const { name } = account
  const blob = base64Member(record, 'managedPassword', name, MAX_BLOB_BYTES)
  checked(name, 'managedPassword', () => parseManagedPassword(blob.reveal()))
  const receivedAt = Math.min(readAtOf(record, name) ?? now, now)
  const kvno = kvnoOf(record, name)
  const options = accountOptionsOf(account.options)
  return {
    kind: 'managed-password',
    blob,
    receivedAt,
    ...(kvno !== undefined && { kvno: { value: kvno, readAt: receivedAt } }),
    account: {
      samAccountName: nameMember(record, 'samAccountName', SAM_ACCOUNT_NAME_PATTERN, name, options.samAccountName),
      domain: nameMember(record, 'domain', DOMAIN_PATTERN, name, options.domain),
      servicePrincipalNames: servicesOf(record, name),
    },
  }
}

/** The member, or what the configuration says where there is none. */
function nameMember(record: StoredRecord, member: string, pattern: string, account: string, configured?: string) {
  if (memberOf(record, member) === undefined && configured !== undefined) return configured
  const text = printableMember(record, member, account)
  if (!new RegExp(pattern, 'u').test(text)) {
    const expected = member === 'domain' ? 'a DNS name such as ad.example.com' : 'a name such as web01$'
    throw malformed(account, `${member}: expected ${expected}`)
  }
  return text
}

/** A number, or its digits: there are stores that hold text alone. */
function kvnoOf(record: StoredRecord, account: string): number | undefined {
  const value = memberOf(record, 'kvno')
  if (value === undefined) return undefined
  const kvno = typeof value === 'string' && /^[0-9]{1,10}$/.test(value) ? Number(value) : value
  if (typeof kvno === 'number' && Number.isInteger(kvno) && kvno >= 1 && kvno <= MAX_KVNO) return kvno
  throw malformed(account, `kvno: expected an integer from 1 to ${MAX_KVNO}`)
}

/** A list, or names with commas or white space between them. */
function servicesOf(record: StoredRecord, account: string): readonly string[] {
  const value = memberOf(record, 'servicePrincipalNames')
  if (value === undefined) return []
  const names: unknown = typeof value === 'string' ? value.split(/[\s,]+/).filter((each) => each !== '') : value
  const spn = new RegExp(SPN_PATTERN, 'u')
  if (
    Array.isArray(names) &&
    names.every((each) => typeof each === 'string' && each.length <= 1024 && spn.test(each))
  ) {
    return names
  }
  throw malformed(account, 'servicePrincipalNames: expected a list of names such as HTTP/web01.ad.example.com')
}

function readAtOf(record: StoredRecord, account: string): number | undefined {
  const value = memberOf(record, 'readAt')
  if (value === undefined) return undefined
  const text = textMember(record, 'readAt', account)
  const time = TIME.test(text) ? Date.parse(text.replace(' ', 'T')) : Number.NaN
  if (Number.isNaN(time)) throw malformed(account, 'readAt: expected a time such as 2026-11-23T20:00:00Z')
  return time
}

/**
 * The keys of a record's `keytab` or `keytab.b64`, MIT 0x0502 in base64: those under the highest kvno are in force, the others were.
 * Enctypes unknown here are left out. Throws MATERIAL_MALFORMED where it holds no key, the kvno 0, more than one realm,
 * or two keys for one kvno and enctype: it would be of more than one account.
 */
export function decodeStoredKeys(record: StoredRecord, account: Account): StoredKeys {
  const { name } = account
  const member = filledMember(record, KEYTAB_MEMBERS)
  const file = base64Member(record, member, name, MAX_KEYTAB)
  const entries = checked(name, member, () => parseKeytab(file.reveal()))
  const bad = (problem: string) => malformed(name, `${member}: ${problem}`)
  const principals: Principal[] = []
  for (const { principal } of entries) {
    if (!principals.some((each) => isSamePrincipal(each, principal))) principals.push(principal)
  }
  const realm = principals[0]?.realm
  if (realm === undefined) throw bad('no entry')
  if (principals.some((each) => each.realm !== realm)) throw bad('entries of more than one realm')
  const keys = keysOf(entries, bad)
  const own = accountOptionsOf(account.options).samAccountName ?? accountOf(principals)
  return { kind: 'kerberos-keys', realm, salt: own === undefined ? '' : accountSalt(own, realm), keys, principals }
}

function keysOf(entries: readonly KeytabEntry[], bad: (problem: string) => GmsaError): KerberosKey[] {
  const newest = Math.max(...entries.map(({ kvno }) => kvno))
  const keys: KerberosKey[] = []
  for (const { kvno, enctype, key, timestamp } of entries) {
    if (kvno < 1) throw bad('an entry with kvno 0')
    const known = keys.find((each) => each.kvno === kvno && each.enctype === enctype)
    if (known && !known.key.equals(key)) throw bad(`two keys of kvno ${kvno} and enctype ${enctypeName(enctype)}`)
    const number = enctypeOf(enctype)?.number
    if (known || number === undefined) continue
    const phase = kvno === newest ? 'current' : 'previous'
    keys.push({ kvno, enctype: number, key, phase, ...(timestamp > 0 && { start: timestamp * 1000 }) })
  }
  if (!keys.some(({ phase }) => phase === 'current')) throw bad('no key of an enctype known here')
  const rank = (key: KerberosKey) => ENCTYPES.findIndex(({ number }) => number === key.enctype)
  return keys.toSorted((one, other) => other.kvno - one.kvno || rank(one) - rank(other))
}

/** The account's own name among the principals: the one part that ends in `$`. */
export function accountOf(principals: readonly Principal[]): string | undefined {
  const own = principals.find(({ components }) => components.length === 1 && components[0]?.endsWith('$'))
  return own?.components[0]
}

/** The parsers' own errors name a field and never quote it: with the account and the member before them. */
function checked<T>(account: string, member: string, parse: () => T): T {
  try {
    return parse()
  } catch (thrown) {
    const error = toGmsaError(thrown)
    throw error.code === 'MATERIAL_MALFORMED' ? malformed(account, `${member}: ${error.message}`) : error
  }
}

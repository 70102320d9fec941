import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'

/** A document as a store holds it: a JSON object, a Secret's keys, a folder of files. */
export type StoredRecord = Readonly<Record<string, unknown>>

/** More than Active Directory takes for any of them: a user principal name may have 1,024 characters, all else less. */
const MAX_LENGTH = 1024

/** Members that may be the bytes themselves, as `kubectl create secret --from-file` puts them there. */
const BINARY: ReadonlySet<string> = new Set(['keytab', 'managedPassword'])
/** A keytab begins with 0x05, a blob with 0x01; base64 begins with nothing below this. */
const FIRST_TEXT = 0x20

/** Whether what a store of bytes holds under this name is no text, but what text would have in base64. */
export function isBinary(member: string, bytes: Uint8Array): boolean {
  return BINARY.has(member) && (bytes[0] ?? FIRST_TEXT) < FIRST_TEXT
}

/** What the record itself holds under this name; null counts as nothing. */
export function memberOf(record: StoredRecord, member: string): unknown {
  return (Object.hasOwn(record, member) ? record[member] : undefined) ?? undefined
}

/** Of several names for one thing the first under which something stands; the first of all where nothing does. */
export function filledMember<M extends string>(record: StoredRecord, members: readonly [M, ...M[]]): M {
  const filled = members.find((each) => memberOf(record, each) !== undefined && record[each] !== '')
  return filled ?? members[0]
}

/** A member that is text and not empty. Throws MATERIAL_MALFORMED that names the member, never its value. */
export function textMember(record: StoredRecord, member: string, account: string, maxLength = MAX_LENGTH): string {
  const value = memberOf(record, member)
  if (value === undefined) throw malformed(account, `${member} is missing`)
  if (typeof value !== 'string') throw malformed(account, `${member} must be a string`, 'put it in quotes')
  if (value === '') throw malformed(account, `${member} is empty`)
  if (value.length > maxLength) throw malformed(account, `${member} is longer than ${maxLength} characters`)
  if (!value.isWellFormed()) throw malformed(account, `${member} is not well-formed Unicode`)
  return value
}

/** The same, without control characters. */
export function printableMember(record: StoredRecord, member: string, account: string): string {
  const text = textMember(record, member, account)
  if (/\p{Cc}/u.test(text)) throw malformed(account, `${member} holds a control character`)
  return text
}

/** Bytes in base64 (RFC 4648 4): padded, without line breaks, no bits left over. */
export function base64Member(record: StoredRecord, member: string, account: string, maxBytes: number): Secret {
  const text = textMember(record, member, account, Math.ceil(maxBytes / 3) * 4)
  const bytes = Uint8Array.from(Buffer.from(text, 'base64'))
  if (Buffer.from(bytes.buffer).toString('base64') !== text) {
    throw malformed(account, `${member} is not base64`, 'write it on one line, with its padding: base64 -w0 FILE')
  }
  return new Secret(bytes)
}

/** MATERIAL_MALFORMED about the account's record. `problem` must not quote what the record holds. */
export function malformed(account: string, problem: string, hint?: string): GmsaError {
  return new GmsaError('MATERIAL_MALFORMED', `record of account ${account}: ${problem}`, hint ? { hint } : {})
}

import { malformed, type StoredRecord } from './record-members.ts'

/** As much as AWS Secrets Manager holds in one secret; Azure Key Vault holds less. */
const MAX_TEXT = 64 * 1024
const FORM = 'expected a JSON object or domain\\user:password'

/**
 * The record in a secret that is one text: a JSON object, whose members are the record's, or `domain\user:password`. A
 * byte order mark is no part of it; everything else is taken as it stands, line breaks too, which the decoder refuses.
 * `what` is the text's name in errors. Throws MATERIAL_MALFORMED that quotes nothing of it.
 */
export function parseRecordText(text: string, account: string, what = 'text'): StoredRecord {
  if (text.length > MAX_TEXT) throw malformed(account, `${what} is longer than ${MAX_TEXT} characters`)
  const plain = text.replace(/^\uFEFF/, '')
  if (plain === '') throw malformed(account, `${what} is empty`)
  refuseTypeName(plain, account, what)
  // None of these can begin the name of a domain.
  return /^\s*[{["]/.test(plain) ? parseJson(plain, account, what) : splitLogOn(plain, account, what)
}

/** A record whose only member is `value` is what stands in there: a store of named members that was given one text. */
export function unwrapRecord(record: StoredRecord, account: string): StoredRecord {
  const [member, ...others] = Object.keys(record)
  if (member !== 'value' || others.length > 0) return record
  const { value } = record
  if (typeof value !== 'string') throw malformed(account, 'value must be a string')
  return parseRecordText(value, account, 'value')
}

/** A release of the PowerShell module for AKS stored this in place of every secret it was given. */
export function refuseTypeName(text: string, account: string, what: string): void {
  if (text.trim() !== 'System.Security.SecureString') return
  throw malformed(
    account,
    `${what} is the name of a PowerShell type`,
    'the tool that wrote it stored the name of the type instead of the secret: store the secret again',
  )
}

/** The parser's own message quotes the text around the fault: it is never passed on. */
function parseJson(text: string, account: string, what: string): StoredRecord {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw malformed(account, `${what} is not valid JSON`, FORM)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw malformed(account, `${what}: ${FORM}`)
  }
  return { ...value }
}

/** The domain ends at the first backslash, the user at the first colon after it; the password may hold both. */
function splitLogOn(text: string, account: string, what: string): StoredRecord {
  const [backslash, colon] = [text.indexOf('\\'), text.indexOf(':')]
  if (backslash < 0) throw malformed(account, `${what}: no backslash`, FORM)
  if (colon < 0) throw malformed(account, `${what}: no colon`, FORM)
  if (colon < backslash) throw malformed(account, `${what}: a colon before the backslash`, FORM)
  return {
    username: text.slice(backslash + 1, colon),
    password: text.slice(colon + 1),
    domainName: text.slice(0, backslash),
  }
}

import { parse } from 'yaml'
import { malformed, type StoredRecord } from '../records.ts'

/**
 * The object in a YAML or JSON document. Throws MATERIAL_MALFORMED.
 * A parser's own message quotes the text around the fault, which may be the password: it is never passed on.
 */
export function parseDocument(text: string, format: 'json' | 'yaml', account: string): StoredRecord {
  const value = parseQuietly(text, format, account)
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw malformed(account, `not a ${format} object`)
  return value as StoredRecord
}

function parseQuietly(text: string, format: 'json' | 'yaml', account: string): unknown {
  try {
    return format === 'json'
      ? JSON.parse(text)
      : parse(text, { prettyErrors: false, maxAliasCount: 0, logLevel: 'silent' })
  } catch {
    throw malformed(account, `not valid ${format}`)
  }
}

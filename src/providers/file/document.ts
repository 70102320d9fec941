import { parseDocument as parseYaml } from 'yaml'
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
    return format === 'json' ? JSON.parse(text) : strictYaml(text)
  } catch {
    throw malformed(account, `not valid ${format}`)
  }
}

/**
 * The parser goes on after errors, and takes a value with a tag it does not know (`!vault`) for plain text: half a
 * password, or an encrypted one. Either ends it here. Aliases are refused, as they may multiply.
 */
function strictYaml(text: string): unknown {
  const document = parseYaml(text, { prettyErrors: false })
  if (document.errors.length > 0 || document.warnings.length > 0) throw new TypeError('not strictly YAML')
  return document.toJS({ maxAliasCount: 0 })
}

import { isAbsolute, resolve } from 'node:path'
import { asRecord, isRecord, own } from './config-document.ts'
import type { Origins, Path } from './config-problem.ts'

/**
 * The document with the defaults of its schema filled in, and every value whose schema has `format: 'path'` made
 * absolute, from the folder of the file it stands in or, given elsewhere, from the working directory. What does
 * not fit the schema is left as it is.
 */
export function fillIn(value: unknown, schema: unknown, origins: Origins, path: Path = []): unknown {
  const { properties, items, format } = asRecord(schema)
  if (typeof value === 'string' && format === 'path') {
    return isAbsolute(value) ? value : resolve(origins.value(path).directory, value)
  }
  if (Array.isArray(value)) {
    return value.map((item, index) => fillIn(item, items, origins, [...path, `[${index}]`]))
  }
  if (!isRecord(value) || !isRecord(properties)) return value
  const entries = Object.keys({ ...properties, ...value }).flatMap((name) => {
    const part = own(properties, name)
    const given = Object.hasOwn(value, name) ? value[name] : structuredClone(own(asRecord(part), 'default'))
    return given === undefined ? [] : [[name, fillIn(given, part, origins, [...path, name])]]
  })
  return Object.fromEntries(entries)
}

import type { TObject } from 'typebox'
import { Errors } from 'typebox/schema'
import { Settings } from 'typebox/system'
import { asRecord, own, valueAt } from './config-document.ts'
import { didYouMean } from './config-near-miss.ts'
import { type Origins, type Path, type Problem, problemAt } from './config-problem.ts'
import { GRAMMARS } from './config-schema.ts'

// The library stops at eight errors unless told otherwise; here all of them are reported at once.
Settings.Set({ maxErrors: 10_000 })

/** Everything in which the document departs from its schema: names, places and what was expected, never a value. */
export function checkSchema(document: unknown, schema: TObject, origins: Origins): Problem[] {
  const problems = new Map<string, Problem>()
  const add = (path: Path, message: string, place = origins.value(path)): void => {
    const key = JSON.stringify(path)
    if (!problems.has(key)) problems.set(key, problemAt(place, path, message))
  }
  const [, errors] = Errors(schema, document)
  for (const error of errors) {
    const path = toPath(error.instancePath, document)
    switch (error.keyword) {
      case 'additionalProperties': {
        const known = Object.keys(asRecord(asRecord(schemaAt(schema, path))['properties']))
        const given = Object.keys(asRecord(valueAt(document, path)))
        for (const name of error.params.additionalProperties) {
          const free = known.filter((option) => !given.includes(option))
          add([...path, name], `unknown option${didYouMean(name, free)}`, origins.key([...path, name]))
        }
        break
      }
      case 'required':
        for (const name of error.params.requiredProperties) {
          const below = [...path, name]
          add(below, `required: expected ${describeSchema(schemaAt(schema, below))}`, origins.key(path))
        }
        break
      case 'propertyNames': {
        const grammar = describeSchema(own(asRecord(schemaAt(schema, path)), 'propertyNames'))
        for (const name of error.params.propertyNames) {
          add([...path, name], `expected ${grammar}`, origins.key([...path, name]))
        }
        break
      }
      default:
        // The names that propertyNames refuses are told above, unknown options too.
        if (error.schemaPath.includes('/propertyNames') || error.keyword === 'boolean') break
        add(path, mismatch(valueAt(document, path), schemaAt(schema, path)))
    }
  }
  return [...problems.values()]
}

/** What a schema asks for, in words: `an integer from 0 to 65535`, `refuse or warn`. */
export function describeSchema(schema: unknown): string {
  const { type, anyOf, minimum, maximum, minItems, maxItems, minProperties, pattern, format, properties, items } =
    asRecord(schema)
  const words = wordsOf(schema)
  if (words) return oneOf(words)
  if (Array.isArray(anyOf)) return oneOf(anyOf.map(describeSchema))
  if (type === 'boolean') return 'true or false'
  if (type === 'integer') return `an integer from ${minimum ?? 'any'} to ${maximum ?? 'any'}`
  if (type === 'array') {
    const bounds = [
      minItems === undefined ? '' : ` of ${minItems} or more`,
      maxItems === undefined ? '' : `, ${maxItems} at most`,
    ]
    return `a list${bounds.join('')}: each ${describeSchema(items)}`
  }
  if (type === 'object') {
    const names = Object.keys(asRecord(properties))
    if (minProperties === 1)
      return names.length > 0
        ? `a mapping with at least one of ${names.join(', ')}`
        : 'a mapping with at least one entry'
    return `a mapping${names.length > 0 ? ` of ${names.join(', ')}` : ''}`
  }
  if (typeof pattern === 'string') return GRAMMARS.get(pattern) ?? `text that matches ${pattern}`
  if (format === 'path') return 'a path'
  return type === 'string' ? 'text' : String(type ?? 'another value')
}

/** `expected refuse or warn, did you mean refuse?`; numbers and words where text was wanted get a hint to quote them. */
function mismatch(value: unknown, schema: unknown): string {
  const words = wordsOf(schema) ?? asRecord(schema)['anyOf']
  if (typeof value === 'string' && Array.isArray(words)) {
    const known = words.flatMap((word) => (typeof word === 'string' ? word : (wordsOf(word) ?? [])))
    return `expected ${describeSchema(schema)}${didYouMean(value, known)}`
  }
  const unquoted = typeof value === 'number' || typeof value === 'boolean'
  const quotes = unquoted && asRecord(schema)['type'] === 'string' && asRecord(schema)['pattern'] === undefined
  return `expected ${describeSchema(schema)}${quotes ? ': put it in quotes' : ''}`
}

function wordsOf(schema: unknown): string[] | undefined {
  const { const: word, enum: words } = asRecord(schema)
  if (word !== undefined) return [String(word)]
  return Array.isArray(words) ? words.map(String) : undefined
}

function oneOf(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

/** The part of the schema that speaks of `path`. */
export function schemaAt(schema: unknown, path: Path): unknown {
  return path.reduce<unknown>((part, segment) => {
    if (segment.startsWith('[')) return asRecord(part)['items']
    return own(asRecord(asRecord(part)['properties']), segment)
  }, schema)
}

/** A JSON pointer as a path in our terms, where positions in lists are told from keys. */
function toPath(pointer: string, document: unknown): Path {
  const path: string[] = []
  for (const part of pointer.split('/').slice(1)) {
    const segment = part.replaceAll('~1', '/').replaceAll('~0', '~')
    path.push(Array.isArray(valueAt(document, path)) ? `[${segment}]` : segment)
  }
  return path
}

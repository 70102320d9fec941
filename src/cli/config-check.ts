import { Ajv, type ErrorObject } from 'ajv'
import type { ObjectSchema } from '../providers/define.ts'
import { asRecord, own, valueAt } from './config-document.ts'
import { GRAMMARS } from './config-grammars.ts'
import { didYouMean } from './config-near-miss.ts'
import { type Origins, type Path, type Problem, problemAt } from './config-problem.ts'

/** Everything in which the document departs from its schema: names, places and what was expected, never a value. */
export function checkSchema(document: unknown, schema: ObjectSchema, origins: Origins): Problem[] {
  const problems = new Map<string, Problem>()
  const add = (path: Path, message: string, place = origins.value(path)): void => {
    const key = JSON.stringify(path)
    if (!problems.has(key)) problems.set(key, problemAt(place, path, message))
  }
  for (const { path, keyword, params } of violations(document, schema)) {
    switch (keyword) {
      case 'additionalProperties': {
        const name = String(params['additionalProperty'])
        const known = Object.keys(asRecord(asRecord(schemaAt(schema, path))['properties']))
        const given = Object.keys(asRecord(valueAt(document, path)))
        const free = known.filter((option) => !given.includes(option))
        add([...path, name], `unknown option${didYouMean(name, free)}`, origins.key([...path, name]))
        break
      }
      case 'required': {
        const below = [...path, String(params['missingProperty'])]
        add(below, `required: expected ${describeSchema(schemaAt(schema, below))}`, origins.key(path))
        break
      }
      case 'propertyNames': {
        const name = String(params['propertyName'])
        const grammar = describeSchema(own(asRecord(schemaAt(schema, path)), 'propertyNames'))
        add([...path, name], `expected ${grammar}`, origins.key([...path, name]))
        break
      }
      // An option that another one beside it rules out.
      case 'false schema':
        add(path, 'does not go with the options beside it', origins.key(path))
        break
      case 'if':
        // Its branch says by itself what is wrong.
        break
      default:
        add(path, mismatch(valueAt(document, path), schemaAt(schema, path)))
    }
  }
  return [...problems.values()]
}

interface Violation extends Pick<ErrorObject, 'keyword' | 'params'> {
  readonly path: Path
}

/**
 * What the validator finds. It turns schemas into code, so it is given the schema in parts: sections that the document
 * does not have cost nothing, and a thousand accounts no more than one.
 */
function violations(document: unknown, schema: ObjectSchema): Violation[] {
  const ajv = new Ajv({
    allErrors: true,
    strict: true,
    ownProperties: true,
    formats: { path: true },
    // The schemas are ours, and a test holds them against the meta-schema. The messages are ours too.
    meta: false,
    validateSchema: false,
    messages: false,
    code: { optimize: false },
  })
  return partsOf(document, schema, []).flatMap(({ path, schema: part }) => {
    const validate = ajv.compile(part)
    validate(valueAt(document, path))
    // An error with a property name is what `propertyNames` wants of that name, and `if` only repeats that a condition's
    // part failed: their own errors stand beside them.
    const errors = (validate.errors ?? []).filter((each) => each.propertyName === undefined && each.keyword !== 'if')
    return errors.map(({ instancePath, keyword, params }) => {
      return { path: toPath(path, instancePath, document), keyword, params }
    })
  })
}

interface Part {
  readonly path: Path
  readonly schema: object
}

/** The document without its sections, the sections it has, and in place of mappings of names the entries of these. */
function partsOf(value: unknown, schema: object, path: Path): Part[] {
  const { properties, propertyNames } = asRecord(schema)
  if (path.length > 0 && propertyNames === undefined) return [{ path, schema }]
  const options = Object.entries(asRecord(properties))
  const outside = { ...schema, properties: Object.fromEntries(options.map(([name]) => [name, true])) }
  const inside = options.flatMap(([name, option]) => {
    const given = own(asRecord(value), name)
    return given === undefined ? [] : partsOf(given, asRecord(option), [...path, name])
  })
  return [{ path, schema: outside }, ...inside]
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

/** A JSON pointer into the value at `start` as a path in our terms, where positions in lists are told from keys. */
function toPath(start: Path, pointer: string, document: unknown): Path {
  const path = [...start]
  for (const part of pointer.split('/').slice(1)) {
    const segment = part.replaceAll('~1', '/').replaceAll('~0', '~')
    path.push(Array.isArray(valueAt(document, path)) ? `[${segment}]` : segment)
  }
  return path
}

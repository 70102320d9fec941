import type { ObjectSchema } from '../providers/define.ts'
import { schemaAt } from './config-check.ts'
import { asRecord, isRecord, own } from './config-document.ts'
import { didYouMean } from './config-near-miss.ts'
import { type Origins, type Path, type Problem, problemAt } from './config-problem.ts'

/** A value that stands above the file's. */
export interface Override {
  /** As shown in problems: `environment GMSA_PROVIDER_LISTEN__PORT`, `flag --debug`. */
  readonly source: string
  /** Keys as the configuration spells them, in any case. */
  readonly path: Path
  /** Text is read as the option at `path` asks: as a number, as true or false, as JSON. */
  readonly text: string
}

const PREFIX = 'GMSA_PROVIDER_'
/** Sections that decide who gets what: they stand in the one file that is reviewed. */
const FIXED = ['accounts', 'clients']

/** The overrides in the environment: names with the prefix and a `__`. Others, as Kubernetes sets them, are ignored. */
export function environmentOverrides(env: NodeJS.ProcessEnv): Override[] {
  return Object.entries(env)
    .filter(([name, text]) => name.startsWith(PREFIX) && name.slice(PREFIX.length).includes('__') && text !== undefined)
    .map(([name, text = '']) => ({
      source: `environment ${name}`,
      path: name.slice(PREFIX.length).split('__'),
      text,
    }))
    .sort((a, b) => rank(a) - rank(b) || (a.source < b.source ? -1 : 1))
}

/** Outer parts before inner ones, and the type of a new provider before its other options. */
function rank({ path }: Override): number {
  return 2 * path.length + (path.at(-1)?.toLowerCase() === 'type' ? 0 : 1)
}

/**
 * Puts the overrides above the document, which it changes, and notes where the values now come from. `schemaFor` gives
 * the schema of the document as it stands. Answers with what is wrong with the overrides themselves.
 */
export function applyOverrides(
  document: Record<string, unknown>,
  overrides: readonly Override[],
  schemaFor: (document: unknown) => ObjectSchema,
  origins: Origins,
  directory: string,
): Problem[] {
  return overrides.flatMap(({ source, path: written, text }) => {
    const origin = { source, directory }
    const refuse = (path: Path, message: string) => [problemAt(origin, path, message)]
    if (FIXED.includes(written[0]?.toLowerCase() ?? '')) {
      return refuse(written.map(lowerCase), `${written[0]?.toLowerCase()} can be set in the file only`)
    }
    const schema = schemaFor(document)
    const located = locate(schema, written)
    if (located.problem !== undefined) return refuse(located.path, located.problem)
    const { path } = located
    assign(document, path, readText(text, schemaAt(schema, path)), (made) => origins.set(made, origin))
    origins.replace(path, origin)
    return []
  })
}

/** The path as the schema spells it. Providers may be new; their options are those of their type. */
function locate(schema: unknown, written: Path): { readonly path: Path; readonly problem?: string } {
  const path: string[] = []
  for (const segment of written) {
    const part = asRecord(schemaAt(schema, path))
    const known = Object.keys(asRecord(part['properties']))
    const alike = known.filter((option) => lowerCase(option) === lowerCase(segment))
    const name = alike.find((option) => option === segment) ?? alike[0]
    const isNewProvider = path.length === 1 && path[0] === 'providers' && segment !== ''
    // The options of a provider without a known type can't be judged yet; it is the type that will be reported.
    const isOpen = path.length === 2 && path[0] === 'providers' && part['additionalProperties'] !== false
    path.push(name ?? lowerCase(segment))
    if (alike.length > 1 && name !== segment) return { path, problem: 'several entries have this name but for case' }
    if (name === undefined && !isNewProvider && !isOpen) {
      return { path, problem: `unknown option${didYouMean(segment, known)}` }
    }
  }
  return { path }
}

/** Text of an override as the schema wants it: text where it takes this text, else what it says as JSON. */
function readText(text: string, schema: unknown): unknown {
  if (takesText(schema, text)) return text
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function takesText(schema: unknown, text: string): boolean {
  const { type, const: word, enum: words, anyOf } = asRecord(schema)
  if (type === 'string' || word === text) return true
  if (Array.isArray(words) && words.includes(text)) return true
  return Array.isArray(anyOf) && anyOf.some((part) => takesText(part, text))
}

/**
 * Sets the value, with the mappings above it where they are missing; `made` hears of these. Where something else is in
 * the way nothing is done: the schema will refuse that.
 */
function assign(document: Record<string, unknown>, path: Path, value: unknown, made: (path: Path) => void): void {
  let place = document
  for (const [index, segment] of path.slice(0, -1).entries()) {
    const next = own(place, segment)
    if (next !== undefined && !isRecord(next)) return
    if (next === undefined) made(path.slice(0, index + 1))
    const below: Record<string, unknown> = next ?? {}
    place[segment] = below
    place = below
  }
  const last = path.at(-1)
  if (last !== undefined) place[last] = value
}

function lowerCase(segment: string): string {
  return segment.toLowerCase()
}

import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The checkout's own folder. */
export const root = join(import.meta.dirname, '..', '..')

/** Paths below `root`, with forward slashes. */
export const files = (...patterns: string[]): string[] =>
  globSync(patterns, { cwd: root })
    .map((path) => path.replaceAll('\\', '/'))
    .sort()

export const text = (path: string): string => readFileSync(join(root, path), 'utf8')

/** Comments, strings, templates and regular expressions; the order of the alternatives decides at each place. */
const opaque =
  /(\/\*[\s\S]*?\*\/|\/\/[^\n]*)|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[\s\S])*`|(?<=[=(,:!&|?;{}[\n]\s*)\/(?![*/])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/g

const blank = (whole: string) => whole.replace(/[^\n]/g, ' ')

/** The source with comments, strings and regular expressions blanked out; every line and column stays where it was. */
export const codeOnly = (source: string): string => source.replace(opaque, blank)

/** The comments of a source, one string each. */
export const comments = (source: string): string[] =>
  [...source.matchAll(opaque)].flatMap(([, comment]) => (comment ? [comment] : []))

/** A function with a body, by the lines from its head to its closing brace. */
export interface Measured {
  readonly name: string
  readonly line: number
  readonly lines: number
}

const pairs: Record<string, string> = { '{': '}', '(': ')', '[': ']' }

/** Index of the bracket that closes the one at `open`. */
function closing(code: string, open: number): number {
  const close = pairs[code[open] ?? '']
  let depth = 0
  for (let at = open; at < code.length; at++) {
    if (code[at] === code[open]) depth += 1
    else if (code[at] === close) depth -= 1
    if (depth === 0) return at
  }
  return code.length
}

/** Index of the body's brace after a parameter list that ends at `close`, or -1: an overload, or just a call. */
function bodyAfter(code: string, close: number): number {
  const next = close + 1 + code.slice(close + 1).search(/\S|$/)
  if (code[next] !== ':') return code[next] === '{' ? next : -1
  // A return type may hold braces of its own: those that follow one of its operators.
  let before = ':'
  for (let at = next + 1; at < code.length; at++) {
    const character = code[at] ?? ''
    if (/\s/.test(character)) continue
    if (character === '{' && !/^([:|&<,]|=>)$/.test(before)) return at
    if (/[;})]/.test(character)) return -1
    before = character === '>' && code[at - 1] === '=' ? '=>' : character
    if (character in pairs) at = closing(code, at)
  }
  return -1
}

/** What looks like a method but is a statement. */
const statements = /^(if|for|while|switch|catch|with|return|await|function)$/

const heads =
  /\bfunction\b\s*\*?\s*(\w*)\s*(?:<[^(]*>)?\(|^[ \t]*(?:(?:async|static|get|set|override)\s+)*\*?(#?\w+)\s*(?:<[^(]*>)?\(|(?:(\w+)\s*(?::[^=\n]*)?=\s*)?(?:async\s*)?(?:\([^()]*(?:\([^()]*\)[^()]*)*\)(?:\s*:[^=\n]*)?|\b\w+)\s*=>\s*\{/gm

/** Finds functions, methods and arrow functions with a block body in TypeScript. Small on purpose: no parser. */
export function functions(source: string): Measured[] {
  const code = codeOnly(source)
  const lineOf = (index: number) => code.slice(0, index).split('\n').length
  return [...code.matchAll(heads)].flatMap((head) => {
    const [whole, declared, method, arrow] = head
    if (method && statements.test(method)) return []
    const start = head.index + (whole.length - whole.trimStart().length)
    const last = head.index + whole.length - 1
    const open = whole.endsWith('{') ? last : bodyAfter(code, closing(code, last))
    if (open < 0) return []
    const [line, end] = [lineOf(start), lineOf(closing(code, open))]
    return [{ name: declared || method || arrow || 'anonymous', line, lines: end - line + 1 }]
  })
}

import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLError } from 'yaml'
import { type Origin, Origins, type Path, type Problem, problemAt } from './config-problem.ts'

const MAX_BYTES = 1024 * 1024
/** Of the document with its aliases resolved: what keeps a small file from growing without bounds. */
const MAX_NODES = 50_000
const MAX_DEPTH = 32

/** A document as written: plain values, and where each of them stands. */
export interface Source {
  /** `null` where the file is empty, `undefined` where it can't be read or parsed. */
  readonly document: unknown
  readonly origins: Origins
  readonly problems: readonly Problem[]
}

/** Reads the configuration file at `path` (absolute). Never rejects: what is wrong stands in `problems`. */
export async function readSource(path: string): Promise<Source> {
  const root: Origin = { source: path, directory: dirname(path) }
  const failed = (message: string): Source => ({
    document: undefined,
    origins: new Origins(root),
    problems: [problemAt(root, [], message)],
  })
  let bytes: Uint8Array
  try {
    bytes = await readBounded(path)
  } catch (error) {
    return failed(unreadable(error))
  }
  if (bytes.length > MAX_BYTES) return failed('expected a file of at most 1 MiB')
  try {
    return parseSource(new TextDecoder('utf-8', { fatal: true }).decode(bytes), path)
  } catch {
    return failed('expected text in UTF-8')
  }
}

/** Parses YAML 1.2 or JSON, as if read from the file at `path`. Never throws. */
function parseSource(text: string, path: string): Source {
  const lines = new LineCounter()
  const directory = dirname(path)
  const at = (offset: number): Origin => {
    const { line, col } = lines.linePos(offset)
    return { source: path, line: Math.max(line, 1), column: Math.max(col, 1), directory }
  }
  const origins = new Origins({ source: path, line: 1, column: 1, directory })
  const problems: Problem[] = []
  const report = (offset: number, keys: Path, message: string): void => {
    problems.push(problemAt(at(offset), keys, message))
  }
  let document: unknown
  try {
    // Duplicate keys are found by the walk below, which knows their paths. Pretty errors would quote the file.
    const options = {
      version: '1.2',
      schema: 'core',
      uniqueKeys: false,
      prettyErrors: false,
      resolveKnownTags: false,
    } as const
    const parsed = parseDocument(text, { ...options, lineCounter: lines })
    const errors = [...parsed.errors, ...parsed.warnings]
    const exhausted = errors.find(({ code }) => code === 'RESOURCE_EXHAUSTION')
    for (const error of exhausted ? [exhausted] : errors) report(error.pos[0], [], describeSyntax(error))
    if (parsed.directives?.yaml.explicit) report(0, [], 'a %YAML directive is not understood here: YAML 1.2 is assumed')
    if (problems.length === 0) {
      const walk = { at, origins, report, anchors: new Map<string, Node>(), nodes: 0 }
      document = parsed.contents === null ? null : toPlain(walk, parsed.contents, [], 0)
    }
  } catch (error) {
    // The parser is recursive: what it does not count itself exhausts the stack.
    if (!(error instanceof RangeError)) throw error
    report(0, [], 'the file is nested too deeply')
  }
  return { document, origins, problems }
}

/** What the walk over a parsed document carries along. */
interface Walk {
  readonly at: (offset: number) => Origin
  readonly origins: Origins
  readonly report: (offset: number, keys: Path, message: string) => void
  /** By name, as far as the walk has come: an alias means the anchor written last before it. */
  readonly anchors: Map<string, Node>
  nodes: number
}

/** The plain value of a node; notes the place of everything in it, and reports what can't be configuration. */
function toPlain(walk: Walk, node: unknown, path: Path, depth: number): unknown {
  walk.nodes++
  if (walk.nodes === MAX_NODES) walk.report(0, [], 'the file is too large once its aliases are resolved')
  if (walk.nodes >= MAX_NODES) return undefined
  const offset = rangeOf(node)
  if (isAlias(node)) {
    const target = walk.anchors.get(node.source)
    if (target === undefined) walk.report(offset, path, 'an alias without an anchor before it')
    return toPlain(walk, target, path, depth)
  }
  if (depth > MAX_DEPTH) {
    walk.report(offset, path.slice(0, 1), `nested too deeply, ${MAX_DEPTH} levels at most`)
    return undefined
  }
  if (!isMap(node) && !isSeq(node) && !isScalar(node)) return undefined
  if (node.anchor !== undefined) walk.anchors.set(node.anchor, node)
  if (isMap(node)) return mapToPlain(walk, node.items, path, depth)
  if (isScalar(node)) return node.value
  return node.items.map((item, index) => {
    const below = [...path, `[${index}]`]
    walk.origins.set(below, walk.at(rangeOf(item)))
    return toPlain(walk, item, below, depth + 1)
  })
}

function mapToPlain(
  walk: Walk,
  items: readonly { readonly key: unknown; readonly value: unknown }[],
  path: Path,
  depth: number,
): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const { key, value } of items) {
    const offset = rangeOf(key)
    // As written: `010` and `1e3` are names, too.
    const name = isScalar(key) ? (key.source ?? '') : ''
    const below = [...path, name]
    if (name === '') {
      walk.report(offset, path, 'expected a name as key')
      continue
    }
    if (Object.hasOwn(result, name)) {
      walk.report(offset, below, `given twice, first in line ${walk.origins.key(below).line}`)
      continue
    }
    const place = walk.at(offset)
    const isEmpty = isScalar(value) && value.value === null
    walk.origins.set(below, isEmpty ? place : walk.at(rangeOf(value, offset)), place)
    const plain = toPlain(walk, value, below, depth + 1)
    // Not an assignment: that would set the prototype for a key `__proto__`.
    Object.defineProperty(result, name, { value: plain, enumerable: true, configurable: true, writable: true })
  }
  return result
}

function rangeOf(node: unknown, otherwise = 0): number {
  const range = (node as { range?: readonly number[] | null } | null)?.range
  return range?.[0] ?? otherwise
}

/** Words for the parser's errors: its own quote the text, and a password may stand there by mistake. */
function describeSyntax({ code }: YAMLError): string {
  switch (code) {
    case 'BAD_ALIAS':
      return 'an alias without an anchor before it'
    case 'BAD_DIRECTIVE':
      return 'directives are not understood'
    case 'BAD_INDENT':
      return 'wrong indentation'
    case 'BAD_SCALAR_START':
      return 'a plain value cannot start with this character: put it in quotes'
    case 'BAD_DQ_ESCAPE':
      return 'unknown escape in a double-quoted text'
    case 'MULTIPLE_DOCS':
      return 'expected one document, found a second after ---'
    case 'TAB_AS_INDENT':
      return 'tabs cannot indent YAML'
    case 'TAG_RESOLVE_FAILED':
      return 'this tag is not understood here'
    case 'MISSING_CHAR':
      return 'not well-formed: a colon, comma, quote, bracket or space is missing here or before'
    case 'MULTILINE_IMPLICIT_KEY':
    case 'BLOCK_AS_IMPLICIT_KEY':
      return 'not well-formed: a colon is missing, or a value needs quotes'
    case 'RESOURCE_EXHAUSTION':
      return 'nested too deeply'
    default:
      return 'not well-formed YAML or JSON'
  }
}

/** At most one byte more than is accepted, whatever the path leads to. */
async function readBounded(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r')
  try {
    const chunks: Uint8Array[] = []
    let length = 0
    while (length <= MAX_BYTES) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(64 * 1024))
      if (bytesRead === 0) break
      chunks.push(buffer.subarray(0, bytesRead))
      length += bytesRead
    }
    return Buffer.concat(chunks)
  } finally {
    await file.close()
  }
}

function unreadable(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOENT') return 'no such file'
  if (code === 'EACCES' || code === 'EPERM') return 'no permission to read the file'
  if (code === 'EISDIR') return 'expected a file, found a directory'
  return `cannot be read${typeof code === 'string' ? ` (${code})` : ''}`
}

import { access, constants, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { GmsaError } from '../base/errors.ts'

/** What a line of a krb5.conf says. */
export type Statement =
  /** `tag = value`, under the names of its section and of the groups it stands in. A star after the tag does nothing. */
  | { readonly kind: 'relation'; readonly path: readonly string[]; readonly value: string }
  /** `[section]*`, or a group with a star: files that come later add nothing to it. */
  | { readonly kind: 'final'; readonly path: readonly string[] }

/** A line that stands for what another file says, or those of a folder. */
export interface Include {
  readonly kind: 'include' | 'includedir'
  readonly file: string
}

/** Far more than any has; the bounds of a file that is none. */
const MAX_CHARACTERS = 1 << 20
const MAX_DEPTH = 16

/** Where in a file the parser stands. */
interface Place {
  /** Section and groups; empty before the first section, where nothing means anything. */
  readonly path: readonly string[]
  /** After `tag =` and nothing: the brace is on a line of its own. */
  readonly awaitsBrace?: true
}

/**
 * Reads the text of a krb5.conf as MIT's library does: sections, relations, groups in braces, comments, quoted values
 * and includes. A `module` line before the first section is passed over. `name` is the file, for messages.
 * Throws CONFIG_INVALID that names the line for anything else.
 */
export function parseKrb5Conf(text: string, name: string): (Statement | Include)[] {
  if (text.length > MAX_CHARACTERS) throw invalid(name, 'more than 1 MiB')
  const statements: (Statement | Include)[] = []
  let place: Place = { path: [] }
  for (const [index, line] of text.replace(/\n$/, '').split('\n').entries()) {
    const [, directive, file = ''] = /^(include|includedir)\s+(\S.*)$/.exec(line.trimEnd()) ?? []
    if (directive !== undefined) {
      statements.push({ kind: directive === 'include' ? 'include' : 'includedir', file })
      continue
    }
    // Indented, the first section would be a comment like all that stands before it.
    if (place.path.length === 0 && !line.startsWith('[')) continue
    const read = readLine(line.trim(), place)
    if (typeof read === 'string') throw invalid(`${name}, line ${index + 1}`, read)
    place = read.place
    if (read.statement) statements.push(read.statement)
  }
  return statements
}

/** What a line says and where the next one stands, or what is wrong with it. */
function readLine(line: string, place: Place): { place: Place; statement?: Statement } | string {
  const { path } = place
  if (place.awaitsBrace) return line.startsWith('{') ? { place: { path } } : 'expected {'
  if (line === '' || line.startsWith('#') || line.startsWith(';')) return { place }
  if (line.startsWith('[')) return readSection(line, path)
  if (line.startsWith('}')) {
    if (path.length === 1) return 'a } without its {'
    const outer = { path: path.slice(0, -1) }
    return line.startsWith('}*') ? { place: outer, statement: { kind: 'final', path } } : { place: outer }
  }
  return readRelation(line, path)
}

function readSection(line: string, path: readonly string[]): ReturnType<typeof readLine> {
  const [, title, star] = /^\[([^\]]*)\](\*?)\s*$/.exec(line) ?? []
  if (title === undefined) return 'expected [section]'
  if (path.length > 1) return 'a section within braces'
  const inside = { path: [title] }
  return star ? { place: inside, statement: { kind: 'final', path: inside.path } } : { place: inside }
}

function readRelation(line: string, path: readonly string[]): ReturnType<typeof readLine> {
  const [, tag = '', star, value = ''] = /^([^\s=*]+)(\*?)\s*=\s*(.*)$/.exec(line) ?? []
  if (tag === '') return 'expected tag = value'
  const inner = [...path, tag]
  if (value !== '' && value !== '{') {
    return { place: { path }, statement: { kind: 'relation', path: inner, value: unquote(value) } }
  }
  if (inner.length > MAX_DEPTH) return 'braces too deep'
  return {
    place: { path: inner, ...(value === '' && { awaitsBrace: true as const }) },
    ...(star && { statement: { kind: 'final' as const, path: inner } }),
  }
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', b: '\b' }

/** A value in double quotes ends at the next one; a backslash takes a character's meaning away, or gives it one. */
function unquote(value: string): string {
  if (!value.startsWith('"')) return value
  const [, inside = ''] = /^"((?:\\.|[^"\\])*)/.exec(value) ?? []
  return inside.replace(/\\(.)/g, (_, character: string) => ESCAPES[character] ?? character)
}

/** The relations of several files in the order in which they count. */
export class Krb5Conf {
  readonly #values = new Map<string, string[]>()
  readonly #final = new Set<string>()

  /** Adds what one file says, with its includes in their places. */
  add(statements: readonly Statement[]): void {
    const closed: string[] = []
    for (const statement of statements) {
      const key = keyOf(statement.path)
      if (statement.kind === 'final') closed.push(key)
      else if (!this.#isFinal(statement.path)) {
        const values = this.#values.get(key) ?? []
        values.push(statement.value)
        this.#values.set(key, values)
      }
    }
    // Within its own file a section goes on.
    for (const key of closed) this.#final.add(key)
  }

  /** All values of a tag, the first first. */
  all(...path: readonly string[]): readonly string[] {
    return this.#values.get(keyOf(path)) ?? []
  }

  /** The value that counts where there is to be one: the first. */
  first(...path: readonly string[]): string | undefined {
    return this.all(...path)[0]
  }

  #isFinal(path: readonly string[]): boolean {
    return path.some((_, index) => this.#final.has(keyOf(path.slice(0, index + 1))))
  }
}

const keyOf = (path: readonly string[]) => path.join('\0')

/**
 * Reads what the variable KRB5_CONFIG names: files and folders between colons. One that is not there, or not for us,
 * is passed over. Rejects with CONFIG_INVALID for what can't be parsed or included.
 */
export async function readKrb5Conf(names: string): Promise<Krb5Conf> {
  const conf = new Krb5Conf()
  for (const name of names.split(':').filter((each) => each !== '')) {
    const found = await stat(name).catch(() => undefined)
    const readable =
      found &&
      (await access(name, constants.R_OK).then(
        () => true,
        () => false,
      ))
    if (readable) conf.add(found.isDirectory() ? await readFolder(name, []) : await readFileWhole(name, []))
  }
  return conf
}

/** What a file says, with its includes in their places; `within` are the files that include it. */
async function readFileWhole(file: string, within: readonly string[]): Promise<Statement[]> {
  if (within.includes(file)) throw invalid(file, 'includes itself')
  const text = await readFile(file, 'utf8').catch((error) => {
    throw invalid(file, `can not be read: ${error.code}`, error)
  })
  const chain = [...within, file]
  const parts = parseKrb5Conf(text, file).map(async (statement): Promise<Statement[]> => {
    if ('path' in statement) return [statement]
    return statement.kind === 'include' ? readFileWhole(statement.file, chain) : readFolder(statement.file, chain)
  })
  return (await Promise.all(parts)).flat()
}

/** What an includedir takes: names of letters, digits, `-` and `_`, and those in .conf that are not hidden. */
const INCLUDED_NAME = /^(?:[A-Za-z0-9_-]+|[^.].*\.conf)$/

async function readFolder(folder: string, within: readonly string[]): Promise<Statement[]> {
  const names = await readdir(folder).catch((error) => {
    throw invalid(folder, `can not be read: ${error.code}`, error)
  })
  const files = names.filter((name) => INCLUDED_NAME.test(name)).sort()
  return (await Promise.all(files.map((name) => readFileWhole(join(folder, name), within)))).flat()
}

function invalid(where: string, problem: string, cause?: unknown): GmsaError {
  return new GmsaError('CONFIG_INVALID', `${where}: ${problem}`, cause === undefined ? {} : { cause })
}

import { existsSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path/posix'
import { Ajv } from 'ajv'
import { Command, CommanderError } from 'commander'
import { describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { agentSchema } from '../../src/cli/agent-schema.ts'
import { checkSchema } from '../../src/cli/config-check.ts'
import { asRecord, isRecord } from '../../src/cli/config-document.ts'
import { Origins } from '../../src/cli/config-problem.ts'
import { schemaOf } from '../../src/cli/config-schema.ts'
import type { ObjectSchema } from '../../src/providers/define.ts'
import { PROVIDER_TYPES } from '../../src/providers/index.ts'
import { type KubernetesObject, problemsOf } from '../charts/kubernetes.ts'
import { anchorsOf, blocksOf, commandsOf, linksOf } from './markdown.ts'
import { files, root, text } from './source.ts'

const pages = files('*.md', '{docs,deploy,charts,certs}/**/*.md')

/** What is wrong with the blocks of `page`: those that do not parse, and configuration that its schema refuses. */
function blockProblems(path: string, page: string): string[] {
  return blocksOf(page).flatMap(({ language, text: block, line }) =>
    documentsOf(language, block)
      .flatMap(({ document, problem }) => {
        if (problem !== undefined) return [problem]
        return language === 'yaml' ? documentProblems(providerFragment(path, document) ?? document) : []
      })
      .map((problem) => `${path}:${line}: ${problem}`),
  )
}

/** Values that are cut short are left out. */
const reviver = (_key: unknown, value: unknown) =>
  typeof value === 'string' && value.includes('…') ? undefined : value

interface Parsed {
  readonly document?: unknown
  readonly problem?: string
}

/** The documents of a YAML or JSON block, or why it can't be read. */
function documentsOf(language: string, block: string): Parsed[] {
  if (language === 'json') {
    try {
      return [{ document: JSON.parse(block) }]
    } catch (error) {
      return [{ problem: String(error) }]
    }
  }
  if (language !== 'yaml') return []
  return [parseAllDocuments(block, { version: '1.2' })].flat().flatMap((each): Parsed[] => {
    if (each.errors.length === 0) return [{ document: each.toJS({ reviver }) }]
    return each.errors.map(String).map((problem) => ({ problem }))
  })
}

const chartSchema: ObjectSchema = JSON.parse(text('charts/gmsa-account-provider/values.schema.json'))
const isChartValues = new Ajv({ allErrors: true, strict: false, formats: { path: true } }).compile(chartSchema)
const has = (document: object, schema: unknown) =>
  Object.keys(document).some((name) => Object.hasOwn(asRecord(asRecord(schema)['properties']), name))

/** A document is judged by the schema that its first level names. JSON is the stores' own: records and policies. */
function documentProblems(document: unknown): string[] {
  if (!isRecord(document)) return ['expected a mapping']
  if (isObject(document)) return problemsOf(document)
  if ('config' in document || 'mode' in document || 'credentialSpecs' in document) return valuesProblems(document)
  if ('servers' in document) return schemaProblems(document, agentSchema(Object.keys(asRecord(document['accounts']))))
  if (!has(document, schemaOf({}, PROVIDER_TYPES)))
    return [`nothing known here has ${Object.keys(document).join(', ')}`]
  return schemaProblems(document, schemaOf(document, PROVIDER_TYPES))
}

const isObject = (document: object): document is KubernetesObject => 'apiVersion' in document && 'kind' in document

function valuesProblems(document: unknown): string[] {
  if (isChartValues(document)) return []
  return (isChartValues.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
}

/** On the page of a provider type, options of that type alone: the configuration around them. */
function providerFragment(path: string, document: unknown): Record<string, unknown> | undefined {
  const type = PROVIDER_TYPES.find((each) => path === `docs/providers/${each.type}.md`)
  if (!type || !isRecord(document) || 'providers' in document || !has(document, type.schema)) return undefined
  return { providers: { example: { type: type.type, ...document } } }
}

/** Pages show parts of a configuration: what is missing is no fault. */
function schemaProblems(document: object, schema: ObjectSchema): string[] {
  return checkSchema(document, schema, new Origins({ source: '', directory: '' }))
    .filter(({ message }) => !message.startsWith('required: '))
    .map(({ path, message }) => `${path}: ${message}`)
}

const PROGRAM = 'gmsa-account-provider'
/** Ways to call the program; each is followed by a command's name. */
const PROGRAMS = [PROGRAM, 'npm run -s cli --', 'npm run cli --']

/** The words are good: the program would start. */
class Started extends Error {}

/** The program's command line as it is, but that nothing is done, nor written, nor ended. */
async function makeProgram(): Promise<Command> {
  const program = new Command(PROGRAM).version('0').option('--debug')
  for (const path of files('src/cli/commands/*.ts')) {
    const name = /([\w-]+)\.ts$/.exec(path)?.[1] ?? ''
    const commands: Record<string, unknown> = await import(join(root, path))
    const make = commands[`${name}Command`]
    const command: unknown = typeof make === 'function' ? make() : undefined
    if (command instanceof Command) program.addCommand(command)
  }
  program.hook('preAction', () => {
    throw new Started()
  })
  return silence(program)
}

function silence(command: Command): Command {
  for (const each of command.commands) silence(each)
  return command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} })
}

/** What the program says to these words, or undefined where it would start. */
async function usageProblem(words: readonly string[]): Promise<string | undefined> {
  const called = PROGRAMS.find((program) => words.join(' ').startsWith(`${program} `)) ?? ''
  try {
    // Each parse leaves its values behind: a program for every line.
    await (await makeProgram()).parseAsync(words.slice(called.split(' ').length), { from: 'user' })
    return 'it does nothing'
  } catch (error) {
    // --help and --version end by throwing too.
    const good = error instanceof Started || (error instanceof CommanderError && error.exitCode === 0)
    return good ? undefined : String(error)
  }
}

/** Lines that stand for others, by an ellipsis, are passed over. */
async function commandProblems(path: string, page: string): Promise<string[]> {
  const said = commandsOf(page, PROGRAMS)
    .filter(({ words }) => !words.join('').includes('…'))
    .map(async ({ words, line }) => {
      const problem = await usageProblem(words)
      return problem === undefined ? [] : [`${path}:${line}: ${words.join(' ')}: ${problem}`]
    })
  return (await Promise.all(said)).flat()
}

const scripts = Object.keys(asRecord(JSON.parse(text('package.json')).scripts))

/** `npm run` names scripts that there are, and `node` files. */
function scriptProblems(path: string, page: string): string[] {
  return commandsOf(page, ['npm run', 'node']).flatMap(({ words: [program, ...rest], line }) => {
    const [name = ''] = rest.filter((word) => word !== 'run' && !word.startsWith('-'))
    const known =
      program === 'node' ? !/\.[mc]?[jt]s$/.test(name) || existsSync(join(root, name)) : scripts.includes(name)
    return known ? [] : [`${path}:${line}: ${program}: no ${name}`]
  })
}

function linkProblems(path: string, page: string): string[] {
  return linksOf(page).flatMap(({ target, line }) => {
    if (/^[a-z]+:/.test(target)) return []
    const [file = '', anchor] = target.split('#')
    const to = file === '' ? path : normalize(join(dirname(path), file))
    if (file !== '' && !existsSync(join(root, to))) return [`${path}:${line}: no ${to}`]
    const known = anchor === undefined || anchorsOf(file === '' ? page : text(to)).includes(anchor)
    return known ? [] : [`${path}:${line}: no #${anchor} in ${to}`]
  })
}

describe('the pages', () => {
  const read = pages.map((path) => [path, text(path)] as const)
  const all = read.map(([, page]) => page).join('\n')

  test('are found, with their blocks, commands and links', () => {
    expect(pages).toEqual(expect.arrayContaining(['README.md', 'docs/kubernetes.md', 'docs/providers/vault.md']))
    expect(blocksOf(all).filter(({ language }) => language === 'yaml').length).toBeGreaterThan(15)
    expect(blocksOf(all).length * 2).toBe([...all.matchAll(/^ *```/gm)].length)
    expect(commandsOf(all, PROGRAMS).length).toBeGreaterThan(20)
    expect(linksOf(all).length).toBeGreaterThan(60)
  })

  test.each(read)('%s: blocks parse, and configuration fits its schema', (path, page) => {
    expect(blockProblems(path, page)).toEqual([])
  })

  test.each(read)('%s: commands are those that there are', async (path, page) => {
    expect([...(await commandProblems(path, page)), ...scriptProblems(path, page)]).toEqual([])
  })

  test.each(read)('%s: links lead somewhere', (path, page) => {
    expect(linkProblems(path, page)).toEqual([])
  })
})

const fenced = (language: string, block: string) => `\`\`\`${language}\n${block}\n\`\`\`\n`

describe('a fault would be named', () => {
  test.each([
    ['yaml', 'a: [', 'docs/x.md:1: '],
    ['json', '{"a": 1,}', 'SyntaxError'],
    ['yaml', 'provider: { a: { type: file } }', 'nothing known here has provider'],
    ['yaml', 'tls: { certficate: a }', 'tls.certficate: unknown option, did you mean certificate?'],
    ['yaml', 'providers:\n  a: { type: file, directory: [] }', 'providers.a.directory: expected a path'],
    ['yaml', 'servers: [https://a.example]\naccounts:\n  a: { keytab: b }', 'accounts.a.keytab: unknown option'],
    ['yaml', 'mode: windows\nmood: blue', 'must NOT have additional properties'],
    ['yaml', 'apiVersion: v1\nkind: ServiceAccount\nmetadata: { name: a }\nsecret: {}', 'unknown field .secret'],
  ])('in a block: %s %j', (language, block, said) => {
    expect(blockProblems('docs/x.md', fenced(language, block))).toEqual([expect.stringContaining(said)])
  })

  test('in a block of a list', () => {
    const list = fenced('json', '{"a": 1,}').replaceAll(/^(?=.)/gm, '  ')
    expect(blockProblems('docs/x.md', `- item\n\n${list}`)).toEqual([expect.stringContaining('docs/x.md:3: ')])
  })

  test('in an option of a provider on its own page', () => {
    const [found] = blockProblems('docs/providers/vault.md', fenced('yaml', 'auth: { method: token, file: a }'))
    expect(found).toContain('providers.example.auth.file')
  })

  test.each([
    ['gmsa-account-provider chek', "unknown command 'chek'"],
    ['gmsa-account-provider check --ofline', "unknown option '--ofline'"],
    ['npm run -s cli -- doctor', "missing required argument 'account'"],
    ['cd x && gmsa-account-provider run now', 'too many arguments'],
    ['gmsa-account-provider credspec web01 \\\n  --format xml', 'Allowed choices are docker, kubernetes'],
    ['gmsa-account-provider keytab get web01 > file', 'required option'],
  ])('in a command: %s', async (line, said) => {
    expect(await commandProblems('x.md', fenced('sh', line))).toEqual([expect.stringContaining(said)])
    expect(await commandProblems('x.md', fenced('console', `$ ${line}`))).toHaveLength(1)
  })

  test('but not where the line is right, a comment, or output', async () => {
    const page = fenced('sh', `gmsa-account-provider check --offline > out 2>&1 # gmsa-account-provider chek`)
    expect(await commandProblems('x.md', `${page}${fenced('console', 'gmsa-account-provider chek')}`)).toEqual([])
  })

  test('in inline code, and in the name of a script', async () => {
    expect(await commandProblems('x.md', 'Run `gmsa-account-provider chek`.')).toHaveLength(1)
    expect(scriptProblems('x.md', fenced('sh', 'npm run chek\nnode scripts/chek.ts\nnpm run check'))).toHaveLength(2)
  })

  test.each([
    ['[a](none.md)', 'docs/x.md:1: no docs/none.md'],
    ['\n[a](http.md#none)', 'docs/x.md:2: no #none in docs/http.md'],
    ['# One\n[a](#two)', 'docs/x.md:2: no #two in docs/x.md'],
  ])('in a link: %j', (page, said) => {
    expect(linkProblems('docs/x.md', page)).toEqual([said])
  })
})

test('anchors are those that GitHub makes', () => {
  const page = "# What's `a-b`, and c?\n## Same\n## Same\n"
  expect(anchorsOf(page)).toEqual(['whats-a-b-and-c', 'same', 'same-1'])
})

import { afterAll, describe, expect, test } from 'vitest'
import { codeOnly, comments, files, functions, text } from './source.ts'

const fileLimit = 400
const functionLimit = 80
const suppressions = /@ts-(?:ignore|nocheck|expect-error)|(?:biome|oxlint|eslint|prettier)-(?:ignore|disable)/

const lineCount = (source: string) => source.trimEnd().split('\n').length
const longFunctions = (source: string) =>
  functions(source).flatMap(({ name, line, lines }) =>
    lines > functionLimit ? [`${name} (line ${line}): ${lines}`] : [],
  )
/** What a reader would have to take on trust. */
function loopholes(source: string): string[] {
  const code = codeOnly(source)
  const found = [
    ...code.matchAll(/(?<![.\w$])any\b(?!\s*[:(?])/g),
    ...code.matchAll(/\benum\s+\w+\s*\{/g),
    ...code.matchAll(/\bexport\s+default\b/g),
    ...comments(source).flatMap((comment) => [...comment.matchAll(new RegExp(suppressions, 'g'))]),
  ]
  return found.map(([what]) => what)
}

const product = files('src/**/*.ts')
const tests = files('test/**/*.ts')

/** What `look` finds in each file, by path; empty where there is nothing to mend. */
const everywhere = (paths: readonly string[], look: (source: string) => readonly string[]) =>
  paths.flatMap((path) => look(text(path)).map((found) => `${path}: ${found}`))

describe('the numbers of house style', () => {
  test(`no file of the product has more than ${fileLimit} lines`, () => {
    const tooLong = (source: string) => (lineCount(source) > fileLimit ? [`${lineCount(source)} lines`] : [])
    expect(product.length).toBeGreaterThan(20)
    expect(everywhere(product, tooLong)).toEqual([])
  })

  test(`no function of the product has more than ${functionLimit} lines`, () => {
    expect(everywhere(product, longFunctions)).toEqual([])
  })

  test('no any, enum, default export or suppression anywhere', () => {
    expect(everywhere([...product, ...tests, ...files('scripts/*.ts', 'bench/**/*.ts')], loopholes)).toEqual([])
  })

  test('a loophole would be found', () => {
    const kinds = [
      'let a: any',
      'b as any',
      'f<any>()',
      'enum E {',
      'export default 1',
      '// @ts-ignore',
      '/* biome-ignore x */',
    ]
    for (const planted of kinds) expect(loopholes(planted), planted).toHaveLength(1)
    expect(loopholes(`Promise.any([]); 'any'; // any\nconst x = { any: 1 }`)).toEqual([])
  })

  test('a long function of any form would be found', () => {
    const body = '  x()\n'.repeat(functionLimit)
    const forms = [
      ['f', `function f(a: { b: string }): Promise<{ c: number }> {\n${body}}`],
      ['f', `export async function* f<T extends X>(a: T,\n b = () => {}) {\n${body}}`],
      ['g', `const g = async (a: string): Promise<void> => {\n${body}}`],
      ['m', `class A {\n  async m(a: string): Promise<void> {\n${body}}\n}`],
      ['anonymous', `run(() => {\n${body}})`],
    ] as const
    for (const [name, source] of forms)
      expect(longFunctions(source), source.slice(0, 60)).toEqual([expect.stringContaining(name)])
    expect(longFunctions(`if (a) {\n${body}}`)).toEqual([])
    expect(longFunctions(`call('{', /[{]/)\nconst t = { a: \`\n${body}\` }`)).toEqual([])
  })
})

function quantile(values: readonly number[], at: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(at * sorted.length))] ?? 0
}

/** Lines that are neither blank nor comment. */
const codeLines = (paths: readonly string[]) =>
  paths.reduce(
    (sum, path) =>
      sum +
      codeOnly(text(path))
        .split('\n')
        .filter((line) => line.trim() !== '').length,
    0,
  )
const commentLines = (paths: readonly string[]) =>
  paths.flatMap((path) => comments(text(path))).reduce((sum, comment) => sum + lineCount(comment), 0)

/** The share of comments on some floors, in percent. */
function commentShare(paths: readonly string[]): string {
  const [code, comment] = [codeLines(paths), commentLines(paths)]
  return `${Math.round((100 * comment) / Math.max(1, code + comment))} %`
}

afterAll(() => {
  const sizes = product.map((path) => lineCount(text(path)))
  const lengths = product.flatMap((path) => functions(text(path))).map(({ lines }) => lines)
  const careful = product.filter((path) => /^src\/(crypto|kerberos)\//.test(path))
  const service = product.filter((path) => !careful.includes(path))
  // A mirror, not a gate.
  console.log(
    [
      `files: ${product.length}, median ${quantile(sizes, 0.5)} lines (aim 120)`,
      `functions: ${lengths.length}, median ${quantile(lengths, 0.5)} (aim 10), 90th percentile ${quantile(lengths, 0.9)} (aim 35)`,
      `tests to product: ${(codeLines(tests) / codeLines(product)).toFixed(2)} (aim 1.5)`,
      `comments: ${commentShare(service)} in the service floors (about 10 %), ${commentShare(careful)} in crypto and kerberos (about 30 %)`,
    ].join('\n'),
  )
})

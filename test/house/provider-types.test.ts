import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PROVIDER_TYPES } from '../../src/providers/index.ts'
import { files, root, text } from './source.ts'

/**
 * Adding a type costs three files (its folder's index.ts, its test, its page) and a line: these tests count them.
 * Here are the only files outside a type's own folder that may name it, and why. All else (its options in the
 * configuration, health, metrics, `check`, the tables of the documentation) follows from the list of all types.
 */
const MAY_NAME: readonly { readonly source: string; readonly type: string; readonly because: string }[] = [
  { source: 'src/cli/rancher-mode.ts', type: 'kubernetes', because: 'Rancher mode is a configuration of that type' },
  {
    source: 'src/cli/commands/doctor.ts',
    type: 'active-directory',
    because: 'doctor logs on to the directory, whichever store has the credential',
  },
  {
    source: 'src/cli/offline-compare.ts',
    type: 'active-directory',
    because: 'what is derived offline is compared with the directory',
  },
  ...['active-directory', 'aws-secrets-manager', 'file'].map((type) => ({
    source: 'src/cli/import/ecs.ts',
    type,
    because: 'it writes a configuration: what it finds lies in stores of these types',
  })),
  ...['active-directory', 'file'].map((type) => ({
    source: 'src/cli/import/gmsad.ts',
    type,
    because: 'it writes a configuration: a directory, and a file with its credential',
  })),
]

const LIST = 'src/providers/index.ts'
const types = PROVIDER_TYPES.map(({ type }) => type)

/** Names of other things as well (members, kinds of material, formats): as a literal they count only after `type:`. */
const WORDS = ['file', 'kds-root-key', 'kubernetes']

/** The lines of `source` that name a type: imports from its folder and, above the providers, its name as a literal. */
function naming(source: string, path: string, type: string): string[] {
  const imported = `(?:from |import\\()'[^']*/${type}/[^']*'`
  const literal = WORDS.includes(type) ? `\\btype: '${type}'` : `'${type}'`
  // A provider may use the word for something of its own: a way to log on to Vault is called kubernetes.
  const named = new RegExp(path.startsWith('src/providers/') ? imported : `${imported}|${literal}`)
  return source.split('\n').filter((line) => named.test(line))
}

describe.each(types)('the provider type %s', (type) => {
  test('has a folder, a folder of tests and a page', () => {
    expect(files(`src/providers/${type}/index.ts`)).toHaveLength(1)
    expect(files(`test/providers/${type}/*.test.ts`)).not.toEqual([])
    expect(text(`docs/providers/${type}.md`)).toContain(`# Provider type \`${type}\``)
  })

  test('stands in the list of all types by one import, and nowhere else but where that is argued', () => {
    expect(naming(text(LIST), LIST, type)).toHaveLength(1)
    const elsewhere = files('src/**/*.ts')
      .filter((source) => source !== LIST && !source.startsWith(`src/providers/${type}/`))
      .filter((source) => naming(text(source), source, type).length > 0)
    const argued = MAY_NAME.filter((each) => each.type === type).map(({ source }) => source)
    expect(elsewhere.toSorted()).toEqual(argued.toSorted())
  })

  test('is held to the contract where it is a store of records, and to the outages where it speaks HTTP', () => {
    const product = files(`src/providers/${type}/*.ts`).map(text).join('\n')
    const tests = files(`test/providers/${type}/*.test.ts`).map(text).join('\n')
    if (product.includes('fromRecords(')) expect(tests).toContain('providerContract(')
    if (/from '\.\.\/http\.ts'/.test(product)) expect(tests).toContain('storeOutages(')
  })
})

describe('what names a type', () => {
  test.each([
    ["import { vault } from '../providers/vault/index.ts'", 1],
    ["const { vault } = await import('../providers/vault/index.ts')", 1],
    ["if (config.type === 'vault') return", 1],
    ["    case 'vault':", 1],
    ["import { vaulted } from '../providers/vaulted/index.ts'", 0],
    ["const word = 'a vault'", 0],
  ])('is found: %s', (line, count) => {
    expect(naming(line, 'src/cli/x.ts', 'vault')).toHaveLength(count)
  })

  test('has a reason that is still true', () => {
    for (const { source, type } of MAY_NAME) expect(naming(text(source), source, type), source).not.toEqual([])
  })
})

test('the list loads no more of a type than what it says of itself: the rest comes when a store is opened', () => {
  const program = `
    import { registerHooks } from 'node:module'
    const seen = []
    registerHooks({ load(url, context, next) { seen.push(url); return next(url, context) } })
    await import('${join(root, LIST)}')
    console.log(JSON.stringify(seen))`
  const seen: string[] = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', program]).toString())
  const packages = seen.filter((url) => url.includes('/node_modules/') && !url.includes('/node_modules/yaml/'))
  expect(packages).toEqual([])
  // The store of files is what most start with, and small.
  const others = seen.filter((url) => /\/src\/providers\/(?!file\/)[\w-]+\//.test(url))
  expect(others.length).toBeGreaterThan(types.length)
  expect(others.filter((url) => !/\/(?:index|schema|account)\.ts$/.test(url))).toEqual([])
})

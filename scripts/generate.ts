/**
 * Writes what follows from the sources: option tables, the table of errors, values and dashboard of the Helm chart.
 * `--check` writes nothing and exits 1, naming the files that would change. Run from the root of the checkout.
 *
 * A further generated file is one more entry of TARGETS.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { ERRORS } from '../src/base/errors.ts'
import { AGENT_ACCOUNT_OPTIONS, AGENT_OPTIONS } from '../src/cli/agent-schema.ts'
import { describeSchema } from '../src/cli/config-check.ts'
import { asRecord } from '../src/cli/config-document.ts'
import { ANY_ACCOUNT, configSchema } from '../src/cli/config-schema.ts'
import { buildInfo } from '../src/cli/version.ts'
import type { ProviderType } from '../src/providers/define.ts'
import { PROVIDER_TYPES } from '../src/providers/index.ts'
import { behaviourRows } from './behaviours.ts'
import { valueRows, valuesSchema, valuesYaml } from './chart-values.ts'
import { dashboard } from './dashboard.ts'
import { describeInterface } from './openapi.ts'

/** A file that follows from the sources, at least in part. */
interface Target {
  readonly path: string
  /** The file as it should be, from what it is now (empty where it is missing). */
  render(current: string): string | Promise<string>
}

/** Sections whose options depend on the provider's type: their tables stand on the pages of the types. */
const BY_TYPE = ['providers', 'accounts']

const CHART = 'charts/gmsa-account-provider'

const TARGETS: readonly Target[] = [
  { path: 'docs/configuration.md', render: (current) => fillBlocks(current, configurationTables()) },
  { path: 'src/server/openapi.json', render: async () => describeInterface(buildInfo().version) },
  { path: 'docs/errors.md', render: (current) => fillBlocks(current, new Map([['errors', errorTable()]])) },
  { path: `${CHART}/values.yaml`, render: valuesYaml },
  { path: `${CHART}/values.schema.json`, render: () => json(valuesSchema()) },
  { path: `${CHART}/files/dashboard.json`, render: () => json(dashboard()) },
  {
    path: `${CHART}/README.md`,
    render: (current) => fillBlocks(current, new Map([['values', table(['value', 'default', ''], valueRows())]])),
  },
  {
    path: 'docs/agent.md',
    render: (current) =>
      fillBlocks(
        current,
        new Map([
          ['agent', optionTable(AGENT_OPTIONS)],
          ['agent-accounts', optionTable(AGENT_ACCOUNT_OPTIONS)],
        ]),
      ),
  },
  {
    path: 'docs/behaviours.md',
    render: (current) =>
      fillBlocks(current, new Map([['behaviours', table(['', 'what holds', 'shown by'], behaviourRows())]])),
  },
  ...PROVIDER_TYPES.map((type) => ({
    path: `docs/providers/${type.type}.md`,
    render: (current: string) => fillBlocks(current, providerTables(type)),
  })),
]

/**
 * Replaces what stands between `<!-- generated: NAME -->` and `<!-- /generated -->`. Throws where a block is missing,
 * so that no option stays undocumented, and where one has no contents.
 */
function fillBlocks(current: string, blocks: ReadonlyMap<string, string>): string {
  const found = new Set<string>()
  const filled = current.replaceAll(
    /(<!-- generated: ([\w.-]+) -->\n)[\s\S]*?(<!-- \/generated -->)/g,
    (_, start: string, name: string, end: string) => {
      const contents = blocks.get(name)
      if (contents === undefined) throw new Error(`nothing is generated for the block ${name}`)
      found.add(name)
      return `${start}\n${contents}\n${end}`
    },
  )
  const missing = [...blocks.keys()].filter((name) => !found.has(name))
  if (missing.length > 0) throw new Error(`blocks are missing: ${missing.join(', ')}`)
  return filled
}

function configurationTables(): Map<string, string> {
  const sections = Object.entries(configSchema(PROVIDER_TYPES).properties).filter(([name]) => !BY_TYPE.includes(name))
  const types = PROVIDER_TYPES.map(({ type, summary }) => [`[\`${type}\`](providers/${type}.md)`, summary])
  return new Map([
    ...sections.map(([name, schema]) => [name, optionTable(schema)] as const),
    ['accounts', optionTable(ANY_ACCOUNT)],
    ['provider-types', table(['type', 'store'], types)],
  ])
}

function providerTables({ type, schema, accountSchema }: ProviderType): Map<string, string> {
  return new Map([
    [`provider-${type}`, optionTable(schema)],
    [`account-${type}`, optionTable(accountSchema)],
  ])
}

/** A row for each option, options of options in dotted form. */
function optionTable(schema: unknown): string {
  const rows = optionRows(schema, '')
  if (rows.length === 0) return 'No options of its own.\n'
  return table(['option', 'value', 'default', ''], rows)
}

function optionRows(schema: unknown, prefix: string): string[][] {
  const { properties, items, required } = asRecord(schema)
  if (items !== undefined) return optionRows(items, prefix)
  const needed = Array.isArray(required) ? required : []
  return Object.entries(asRecord(properties)).flatMap(([name, option]) => {
    const { description, default: value } = asRecord(option)
    const below = optionRows(option, `${prefix}${name}.`)
    const otherwise = needed.includes(name) ? 'required' : value === undefined ? '' : `\`${JSON.stringify(value)}\``
    const kind = below.length > 0 ? '' : describeSchema(option)
    return [[`\`${prefix}${name}\``, kind, otherwise.replaceAll('"', ''), String(description ?? '')], ...below]
  })
}

function errorTable(): string {
  const rows = Object.entries(ERRORS).map(([code, { status, meaning, actor }]) => [
    `\`${code}\``,
    String(status),
    meaning,
    actor,
  ])
  return table(['code', 'HTTP', 'meaning', 'who acts'], rows)
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return `${[line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}\n`
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

async function main(check: boolean): Promise<number> {
  const stale: string[] = []
  for (const { path, render } of TARGETS) {
    const current = await readFile(path, 'utf8').catch(() => '')
    let wanted: string
    try {
      wanted = await render(current)
    } catch (error) {
      console.error(`${path}: ${error instanceof Error ? error.message : error}`)
      return 1
    }
    if (wanted === current) continue
    stale.push(path)
    if (!check) await writeFile(path, wanted)
  }
  for (const path of stale) console.log(check ? `${path} differs: npm run generate` : `${path} written`)
  return check && stale.length > 0 ? 1 : 0
}

process.exitCode = await main(process.argv.includes('--check'))

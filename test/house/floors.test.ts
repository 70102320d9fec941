import { dirname, join } from 'node:path/posix'
import { describe, expect, test } from 'vitest'
import { codeOnly, files, text } from './source.ts'

/** From the ground up: a floor may lean on itself and on those before it. */
const floors = ['base', 'crypto', 'kerberos', 'gmsa', 'providers', 'broker', 'server', 'cli']
/** The agent is a client of the server and stands beside it, on floors of its own choosing. */
const agentFloors = ['base', 'crypto', 'kerberos', 'gmsa', 'agent']
/** Packages that belong to one floor, so that the floors below stay free of them. */
const packageFloors: Record<string, readonly string[]> = {
  fastify: ['server'],
  'prom-client': ['server'],
  commander: ['cli'],
  yaml: ['cli', 'providers', 'server', 'agent'],
  ldapts: ['providers'],
  undici: ['providers', 'agent', 'cli'],
}

/** Why the file `source` may not import `specifier`, or undefined where it may. */
function problem(source: string, specifier: string): string | undefined {
  const [, floor = '', room = ''] = source.split('/')
  if (!specifier.startsWith('.')) {
    const owners = packageFloors[specifier.split('/')[0] ?? '']
    return owners && !owners.includes(floor) ? `${specifier} belongs to ${owners.join(', ')}` : undefined
  }
  const target = join(dirname(source), specifier)
  const [top, below = '', neighbour = '', inside] = target.split('/')
  if (top !== 'src') return `leaves src for ${target}`
  if (floor === 'agent') return agentFloors.includes(below) ? undefined : `the agent leans on ${target}`
  if (below === 'agent' && floor !== 'cli') return `only cli knows the agent`
  if (below !== 'agent' && !floors.includes(below)) return `${target} stands on no floor`
  if (floors.indexOf(below) > floors.indexOf(floor)) return `reaches up to ${target}`
  if (below !== 'providers' || floor === 'cli' || source === 'src/providers/index.ts') return undefined
  if (floor === 'providers') return inside && neighbour !== room ? `leans on its neighbour ${target}` : undefined
  return target === 'src/providers/provider.ts' ? undefined : `knows the concrete ${target}`
}

const specifiers = (source: string) =>
  [...source.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g)].map(([, path = '']) => path)

describe('imports point down', () => {
  const sources = files('src/**/*.ts')

  test('and there is something to look at', () => {
    expect(sources.length).toBeGreaterThan(20)
  })

  test('in every file', () => {
    const found = sources.flatMap((source) =>
      specifiers(text(source)).flatMap((specifier) => {
        const why = problem(source, specifier)
        return why ? [`${source}: ${why}`] : []
      }),
    )
    expect(found).toEqual([])
  })

  test('and every file stands on a known floor', () => {
    const known = [...floors, 'agent']
    expect(sources.filter((source) => !known.includes(source.split('/')[1] ?? ''))).toEqual([])
  })

  test.each([
    ['src/crypto/md4.ts', '../gmsa/sid.ts', 'reaches up'],
    ['src/providers/vault/index.ts', '../file/index.ts', 'neighbour'],
    ['src/broker/broker.ts', '../providers/file/index.ts', 'concrete'],
    ['src/server/app.ts', '../providers/index.ts', 'concrete'],
    ['src/agent/main.ts', '../server/app.ts', 'the agent leans'],
    ['src/server/app.ts', '../agent/main.ts', 'only cli'],
    ['src/base/clock.ts', '../../test/lab/domain.ts', 'leaves src'],
    ['src/broker/broker.ts', 'fastify', 'belongs to'],
  ])('a violation would be named: %s importing %s', (source, specifier, said) => {
    expect(problem(source, specifier)).toContain(said)
  })

  test('every way to write an import is seen', () => {
    const source = `import a from './a.ts'\nexport * from "x"\nawait import('./b.ts')\nimport './c.ts'\nexport {\n d } from './d.ts'`
    expect(specifiers(source)).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts'])
  })
})

/** Statements that throw something else than TypeError and RangeError; handing on what was caught is no throw of ours. */
const foreignThrows = (source: string) =>
  [...source.matchAll(/\bthrow\s+(?!(?:new\s+)?(?:TypeError|RangeError)\b|error\s*$)[^\n]*/gm)].map(
    ([statement]) => statement,
  )

describe('the crypto floor', () => {
  test('throws only TypeError and RangeError', () => {
    const sources = files('src/crypto/**/*.ts')
    expect(sources).not.toEqual([])
    for (const source of sources) expect(foreignThrows(codeOnly(text(source))), source).toEqual([])
  })

  test('would be caught throwing anything else', () => {
    expect(foreignThrows('throw new Error()\nthrow new RangeError()\nthrow fault')).toHaveLength(2)
  })
})

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { type LoadResult, loadConfig } from '../../src/cli/config.ts'
import { formatProblem } from '../../src/cli/config-problem.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'config-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function load(contents: string | Uint8Array, env: NodeJS.ProcessEnv = {}): Promise<LoadResult> {
  const file = join(folder, 'fuzz.yaml')
  writeFileSync(file, contents)
  return loadConfig({ file, env, cwd: '/' })
}

const SOUND = {
  listen: { hosts: ['127.0.0.1', '::1'], port: 8443 },
  admin: { host: '127.0.0.1', port: 9464, statusPage: 'loopback' },
  tls: { certificate: 'a', key: 'b', clientCa: 'c', crl: 'd', crlExpired: 'warn' },
  providers: { local: { type: 'file', directory: 'd', allowReadable: true } },
  accounts: { svc: { provider: 'local', secret: 'x' }, '*': { provider: 'local' } },
  clients: [{ match: { uri: 'u', dns: 'd', commonName: 'c' }, allow: ['credential'], accounts: ['*'] }],
  ccg: { directory: 'd', namespace: 'n', client: { certificate: 'c', key: 'k' } },
  cache: { maxAge: '1s', serveStale: '1s' },
  timeouts: { store: '1s', request: '1s' },
  shutdown: { drainDelay: '1s', grace: '1s' },
  limits: { requestsPerSecond: 1 },
  log: { level: 'info' },
}

type Where = readonly (string | number)[]

/** Every place in the document, its mappings and lists included. */
function places(value: unknown, path: Where = []): Where[] {
  if (typeof value !== 'object' || value === null) return [path]
  return [path, ...Object.entries(value).flatMap(([key, part]) => places(part, [...path, key]))]
}

/** A copy in which the value at `path` is another. */
function replaced(value: unknown, [key, ...rest]: Where, other: unknown): unknown {
  if (key === undefined) return other
  const copy = structuredClone(value) as Record<string | number, unknown>
  copy[key] = replaced(copy[key], rest, other)
  return copy
}

const anything = fc.anything({ withNullPrototype: false, maxDepth: 3 })
const json = fc.oneof(
  fc.jsonValue(),
  anything.map((value) => JSON.parse(JSON.stringify(value) ?? 'null')),
)

describe('whatever stands in the file, the loader reports and never throws', () => {
  test('random text', async () => {
    await fc.assert(fc.asyncProperty(fc.string({ unit: 'binary' }), async (text) => expectReport(await load(text))))
  })

  test('random characters of the grammar', async () => {
    const grammar = fc.string({ unit: fc.constantFrom(...'{}[]:,-&*!|>%@`\'"# \n\tabc?~.0'), maxLength: 60 })
    await fc.assert(
      fc.asyncProperty(grammar, async (text) => expectReport(await load(text))),
      { numRuns: 500 },
    )
  })

  test('random bytes', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array(), async (bytes) => expectReport(await load(bytes))))
  })

  test('random JSON', async () => {
    await fc.assert(fc.asyncProperty(json, async (value) => expectReport(await load(JSON.stringify(value)))))
  })

  test('a sound file with anything at any place of it', async () => {
    const at = fc.constantFrom(...places(SOUND))
    await fc.assert(
      fc.asyncProperty(at, json, async (path, value) => {
        expectReport(await load(stringify(replaced(SOUND, path, value))))
      }),
      { numRuns: 500 },
    )
  })

  test('a sound file cut anywhere', async () => {
    const text = stringify(SOUND)
    await fc.assert(
      fc.asyncProperty(fc.nat(text.length), async (length) => expectReport(await load(text.slice(0, length)))),
    )
  })

  test('and whatever the environment holds', async () => {
    const segment = fc.oneof(fc.constantFrom(...Object.keys(SOUND), 'local', 'type', 'port', 'x'), fc.string())
    const name = fc.array(segment, { maxLength: 4 }).map((path) => `GMSA_PROVIDER_${path.join('__')}`)
    const text = fc.oneof(fc.string(), fc.json())
    await fc.assert(
      fc.asyncProperty(fc.dictionary(name, text, { maxKeys: 4 }), async (env) => {
        expectReport(await load(stringify(SOUND), env))
      }),
      { numRuns: 300 },
    )
  })
})

test('the sound file is sound, and an unknown option at any mapping of it is found', async () => {
  expect((await load(stringify(SOUND))).ok).toBe(true)
  const mappings = places(SOUND).filter((path) => !['providers', 'accounts'].includes(String(path.at(-1))))
  for (const path of mappings) {
    const value = path.reduce<unknown>((part, key) => (part as Record<string | number, unknown>)[key], SOUND)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) continue
    const result = await load(stringify(replaced(SOUND, path, { ...value, zqx: 1 })))
    expect(result.ok ? [] : result.problems.map(({ message }) => message)).toContain('unknown option')
  }
})

describe('no value reaches a message', () => {
  const SECRET = 'Hunter2/Zq7w!secret'

  test.each(['password', 'token', 'tls.key'])(
    'of an unknown option %s, wherever it stands and whatever its shape',
    async (name) => {
      for (const path of places(SOUND)) {
        for (const value of [SECRET, [SECRET], { inner: SECRET }, `${SECRET}: ${SECRET}`]) {
          expectSilent(await load(stringify(replaced(SOUND, path, { [name]: value }))))
        }
      }
    },
  )

  test('in the place of a known option', async () => {
    for (const path of places(SOUND)) {
      // Paths, names and patterns may be any text; those of providers name an entry and are not shown either.
      expectSilent(await load(stringify(replaced(SOUND, path, SECRET))))
      expectSilent(await load(stringify(replaced(SOUND, path, [SECRET]))))
    }
  })

  test('of text that is not well-formed', async () => {
    const broken = fc.constantFrom(
      '"',
      "'",
      '{',
      '[',
      ': ',
      '\n',
      '\t',
      '@',
      '`',
      '!',
      '!!',
      '&',
      '*',
      '%',
      '\\',
      '|',
      '>',
      '- ',
      '? ',
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(broken, { maxLength: 4 }),
        fc.array(broken, { maxLength: 4 }),
        async (before, after) => {
          expectSilent(await load(`password: ${before.join('')}${SECRET}${after.join('')}\nlog: x`))
        },
      ),
      { numRuns: 300 },
    )
  })

  test('of a variable', async () => {
    for (const name of [
      'LISTEN__PORT',
      'TLS__CRLEXPIRED',
      'PROVIDERS__LOCAL__PASSWORD',
      'PROVIDERS__LOCAL__TYPE',
      'X__Y',
      'ACCOUNTS__A__B',
    ]) {
      expectSilent(await load(stringify(SOUND), { [`GMSA_PROVIDER_${name}`]: SECRET }))
      expectSilent(await load(stringify(SOUND), { [`GMSA_PROVIDER_${name}`]: `{"a":"${SECRET}"` }))
    }
  })

  function expectSilent(result: LoadResult): void {
    const text = result.ok ? result.warnings.join() : result.problems.map(formatProblem).join()
    // Not even where it stands as a key: keys are shown only when they look like names.
    expect(text).not.toContain('Zq7w')
  }
})

/** Either a configuration, or at least one problem with words. */
function expectReport(result: LoadResult): void {
  if (result.ok) return
  expect(result.problems.length).toBeGreaterThan(0)
  for (const { message, source } of result.problems) {
    expect(message).not.toBe('')
    expect(source).not.toBe('')
    expect(message).not.toMatch(/undefined|null|\[object|NaN/)
  }
}

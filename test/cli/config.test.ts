import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { expectLoaded, type Loaded, loadConfig } from '../../src/cli/config.ts'
import { defineProvider } from '../../src/providers/define.ts'
import { PROVIDER_TYPES } from '../../src/providers/index.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'config-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const SOUND = `tls: { certificate: tls.crt, key: ../tls.key, clientCa: /ca.crt }
providers: { local: { type: file, directory: secrets } }
accounts: { svc: { provider: local } }
`

async function load(text: string, env: NodeJS.ProcessEnv = {}): Promise<Loaded> {
  const file = join(folder, 'gmsa.yaml')
  writeFileSync(file, text)
  return expectLoaded(await loadConfig({ file, env, cwd: '/elsewhere' }))
}

describe('a sound configuration', () => {
  test('gets the defaults of the interface, and paths from the folder of the file', async () => {
    const { config, file, warnings } = await load(SOUND)
    expect(file).toBe(join(folder, 'gmsa.yaml'))
    expect(warnings).toEqual([])
    expect(config).toEqual({
      listen: { hosts: ['127.0.0.1', '::1'], port: 8443 },
      admin: { host: '127.0.0.1', port: 9464, statusPage: 'loopback' },
      tls: {
        certificate: join(folder, 'tls.crt'),
        key: join(folder, '..', 'tls.key'),
        clientCa: '/ca.crt',
        crlExpired: 'refuse',
      },
      providers: new Map([
        ['local', { type: 'file', options: { directory: join(folder, 'secrets'), allowReadable: false } }],
      ]),
      accounts: new Map([['svc', { provider: 'local', options: {} }]]),
      openAccounts: false,
      reservedAccounts: new Set(),
      cache: { maxAge: 30_000, serveStale: 3_600_000 },
      keys: { keepPrevious: 36_300_000 },
      timeouts: { store: 5_000, request: 10_000 },
      shutdown: { drainDelay: 5_000, grace: 25_000 },
      limits: { requestsPerSecond: 500 },
      log: { level: 'info' },
    })
  })

  test('is the same from JSON, also when indented with tabs', async () => {
    const yaml = await load(SOUND)
    const { tls, providers, accounts } = yaml.effective
    expect((await load(JSON.stringify({ tls, providers, accounts }, null, '\t'))).config).toEqual(yaml.config)
  })

  test('is the same when its effective form is loaded again', async () => {
    const first = await load(SOUND)
    expect((await load(JSON.stringify(first.effective))).config).toEqual(first.config)
  })

  test('may use anchors', async () => {
    const { config } = await load(`${SOUND.replace('{ provider: local }', '&a { provider: local }, web: *a')}`)
    expect([...config.accounts.keys()]).toEqual(['svc', 'web'])
  })

  test('keeps what the documentation shows, each option of it', async () => {
    const [, example = ''] = /```yaml\n([\s\S]*?)```/.exec(readFileSync('docs/configuration.md', 'utf8')) ?? []
    const { config, warnings } = await load(example)
    expect(warnings).toEqual([])
    expect(config.accounts.get('ccg-eu')).toEqual({ provider: 'local', secret: 'ccg-eu-west', options: {} })
    expect(config.clients?.map(({ match }) => match)).toEqual([
      { uri: 'spiffe://contoso.com/ns/web/sa/*' },
      { dns: '*.nodes.contoso.com', commonName: 'ccg-plugin' },
    ])
    expect(config.ccg).toEqual({
      directory: '/var/lib/rancher/gmsa',
      namespace: 'contoso-ad',
      client: { certificate: join(folder, 'certs/client/tls.crt'), key: join(folder, 'certs/client/tls.key') },
    })
    expect(config.tls?.crl).toBe(join(folder, 'certs/ca/ca.crl'))
  })

  test('may have ten thousand accounts: the validator is not compiled for each of them', async () => {
    const names = Array.from({ length: 10_000 }, (_, index) => `svc-${index}`)
    const { config } = await load(SOUND.replace('svc:', `${names.join(': { provider: local }, ')}:`))
    expect(config.accounts.size).toBe(10_000)
  })

  test('accepts every namespace that Kubernetes does', async () => {
    for (const name of ['default', 'a', '"0a"', 'ab', 'a-1', 'a'.repeat(63)]) {
      const { config } = await load(
        `${SOUND}ccg: { directory: d, namespace: ${name}, client: { certificate: c, key: k } }`,
      )
      expect(config.ccg?.namespace).toBe(name.replaceAll('"', ''))
    }
  })

  test('accepts fingerprints with and without colons, in any case', async () => {
    for (const fingerprint of ['ab'.repeat(32), `${'AB:'.repeat(31)}AB`]) {
      const { config } = await load(
        `${SOUND}clients: [{ match: { fingerprint256: "${fingerprint}" }, allow: [credential], accounts: [svc] }]`,
      )
      expect(config.clients?.[0]?.match).toEqual({ fingerprint256: fingerprint })
    }
  })

  test('accepts listeners whose ports the system chooses, and one port on two addresses', async () => {
    await load(`${SOUND}listen: { port: 0 }\nadmin: { port: 0 }\n`)
    await load(`${SOUND}listen: { hosts: [127.0.0.1], port: 9000 }\nadmin: { host: '::1', port: 9000 }\n`)
  })

  test('warns of what can hardly be meant', async () => {
    const { warnings } =
      await load(`${SOUND.replace('} }\n', '}, spare: { type: file, directory: d } }\n')}shutdown: { grace: 1s }
clients: [{ match: { dns: a }, allow: [credential], accounts: [sv, 's*'] }]
`)
    expect(warnings.map((warning) => warning.replace(`${folder}/gmsa.yaml:`, ''))).toEqual([
      '5:64: clients[0].accounts[0]: no such account, did you mean svc?',
      '2:64: providers.spare: no account uses this provider',
      '4:20: shutdown.grace: shorter than shutdown.drainDelay: the listener is cut before it drains',
    ])
  })
})

describe('provider types', () => {
  const path = { type: 'string', format: 'path' } as const
  const fake = defineProvider({
    type: 'fake',
    summary: 'A type with options in depth.',
    schema: {
      type: 'object',
      properties: {
        ca: path,
        auth: {
          type: 'object',
          properties: { tokenFile: path, tries: { type: 'integer', default: 3 } },
          required: ['tokenFile'],
          default: {},
        },
        roots: { type: 'array', items: path },
      },
    },
    accountSchema: { type: 'object', properties: { keytab: path } },
    open: () => Promise.reject(new Error('not opened here')),
  })

  async function loadFake(options: string, account = ''): Promise<Loaded> {
    const file = join(folder, 'fake.yaml')
    writeFileSync(
      file,
      `tls: { certificate: c, key: k, clientCa: a }\nproviders: { f: { type: fake, ${options} } }\naccounts: { svc: { provider: f, ${account} } }`,
    )
    return expectLoaded(await loadConfig({ file, env: {}, cwd: '/', types: [fake] }))
  }

  test('have the paths in their options and in those of their accounts made absolute', async () => {
    const { config } = await loadFake('ca: ca.crt, auth: { tokenFile: t, tries: 1 }, roots: [r, /s]', 'keytab: k')
    expect(config.providers.get('f')?.options).toEqual({
      ca: join(folder, 'ca.crt'),
      auth: { tokenFile: join(folder, 't'), tries: 1 },
      roots: [join(folder, 'r'), '/s'],
    })
    expect(config.accounts.get('svc')?.options).toEqual({ keytab: join(folder, 'k') })
  })

  test('have their options checked closely even where their schema is open', async () => {
    await expect(loadFake('cb: ca.crt', 'keytap: k')).rejects.toThrow(
      /providers\.f\.cb: unknown option, did you mean ca\?\n.*accounts\.svc\.keytap: unknown option, did you mean keytab\?/,
    )
  })
})

describe('the file is looked for', () => {
  const elsewhere = () => join(folder, 'elsewhere')
  beforeAll(() => {
    mkdirSync(elsewhere())
    writeFileSync(join(elsewhere(), 'gmsa-account-provider.yaml'), `${SOUND}log: { level: error }`)
    writeFileSync(join(elsewhere(), 'env.yaml'), `${SOUND}log: { level: warn }`)
    writeFileSync(join(elsewhere(), 'flag.yaml'), `${SOUND}log: { level: debug }`)
  })

  test.each([
    ['where --config says', 'flag.yaml', { GMSA_PROVIDER_CONFIG: 'env.yaml' }, 'debug'],
    ['where GMSA_PROVIDER_CONFIG says', undefined, { GMSA_PROVIDER_CONFIG: 'env.yaml' }, 'warn'],
    ['in the working directory', undefined, { GMSA_PROVIDER_CONFIG: '' }, 'error'],
  ])('%s', async (_, file, env, level) => {
    const { config } = expectLoaded(await loadConfig({ file, env, cwd: elsewhere() }))
    expect(config.log.level).toBe(level)
  })

  test('and not elsewhere when the one that was named is missing', async () => {
    const result = await loadConfig({ env: { GMSA_PROVIDER_CONFIG: 'none.yaml' }, cwd: elsewhere() })
    expect(result).toMatchObject({
      ok: false,
      problems: [{ source: join(elsewhere(), 'none.yaml'), message: 'no such file' }],
    })
  })
})

const directory = defineProvider({
  type: 'directory',
  summary: 'Logs on with an account of another store.',
  schema: {
    type: 'object',
    properties: {
      bind: {
        type: 'object',
        description: 'Where the credential lies.',
        properties: { provider: { type: 'string' }, account: { type: 'string' } },
      },
    },
    additionalProperties: false,
  },
  accountSchema: { type: 'object', properties: {}, additionalProperties: false },
  open: () => Promise.reject(new Error('not opened here')),
})

describe('an account that a provider logs on with', () => {
  const types = [...PROVIDER_TYPES, directory]
  const text = (provider: string) => `tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers:
  local: { type: file, directory: secrets }
  other: { type: file, directory: others }
  ad: { type: directory, bind: { provider: ${provider}, account: svc-ccg } }
accounts:
  svc-ccg: { provider: local, secret: ccg }
  alias: { provider: local, secret: ccg }
  svc: { provider: local }
  elsewhere: { provider: other, secret: ccg }
  web01: { provider: ad, samAccountName: web01$ }
`
  const loadText = (text: string) => {
    const file = join(folder, 'bind.yaml')
    writeFileSync(file, text)
    return loadConfig({ file, env: {}, cwd: folder, types })
  }

  test('is reserved under every name of its record', async () => {
    const { config, warnings } = expectLoaded(await loadText(text('local')))
    expect([...config.reservedAccounts]).toEqual(['svc-ccg', 'alias'])
    expect(config.accounts.get('web01')?.options).toEqual({ samAccountName: 'web01$' })
    expect(warnings).toEqual([])
  })

  test('needs a provider that exists', async () => {
    const result = await loadText(text('locl'))
    expect(result).toMatchObject({ ok: false, problems: [{ message: 'no such provider, did you mean local?' }] })
  })
})

test('problems become one error of CONFIG_INVALID with a line each', () => {
  const problems = [
    { source: 'a.yaml', line: 1, column: 2, path: 'log', message: 'expected a mapping of level' },
    { source: 'environment GMSA_PROVIDER_A__B', path: 'a', message: 'unknown option' },
  ]
  const thrown = (() => {
    try {
      return expectLoaded({ ok: false, problems })
    } catch (error) {
      return error
    }
  })()
  expect(thrown).toBeInstanceOf(GmsaError)
  expect(thrown).toMatchObject({
    code: 'CONFIG_INVALID',
    message:
      'the configuration has 2 problems\n  a.yaml:1:2: log: expected a mapping of level\n  environment GMSA_PROVIDER_A__B: a: unknown option',
  })
})

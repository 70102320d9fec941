import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Config, expectLoaded, type LoadOptions, loadConfig } from '../../src/cli/config.ts'
import { formatProblem } from '../../src/cli/config-problem.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'config-'))
  writeFileSync(
    join(folder, 'gmsa.yaml'),
    `listen: { port: 1000 }
tls: { certificate: tls.crt, key: tls.key, clientCa: ca.crt }
providers: { myStore: { type: file, directory: secrets }, twin: { type: file, directory: d }, Twin: { type: file, directory: d } }
accounts: { svc: { provider: myStore } }
log: { level: warn }
`,
  )
})
afterAll(() => rmSync(folder, { recursive: true }))

const options = (env: NodeJS.ProcessEnv): LoadOptions => ({ file: join(folder, 'gmsa.yaml'), env, cwd: '/srv' })

async function load(env: NodeJS.ProcessEnv): Promise<Config> {
  return expectLoaded(await loadConfig(options(env))).config
}

async function problems(env: NodeJS.ProcessEnv): Promise<string[]> {
  const result = await loadConfig(options(env))
  return result.ok ? [] : result.problems.map(formatProblem)
}

describe('the environment stands above the file', () => {
  test('for numbers, words, truth values and text, whatever the case', async () => {
    const config = await load({
      GMSA_PROVIDER_LISTEN__PORT: '8443',
      GMSA_PROVIDER_admin__statusPage: 'false',
      GMSA_PROVIDER_CACHE__MAXAGE: '1m',
      GMSA_PROVIDER_Limits__requestsPERsecond: '7',
      GMSA_PROVIDER_LOG__LEVEL: 'trace',
    })
    expect(config.listen.port).toBe(8443)
    expect(config.admin.statusPage).toBe(false)
    expect(config.cache).toEqual({ maxAge: 60_000, serveStale: 3_600_000 })
    expect(config.limits.requestsPerSecond).toBe(7)
    expect(config.log.level).toBe('trace')
  })

  test('for words and for text that looks like a number', async () => {
    const config = await load({ GMSA_PROVIDER_ADMIN__STATUSPAGE: 'loopback', GMSA_PROVIDER_TLS__KEY: '12' })
    expect(config.admin.statusPage).toBe('loopback')
    expect(config.tls?.key).toBe('/srv/12')
  })

  test('for lists and mappings as JSON, of which a longer path replaces a part', async () => {
    const config = await load({
      GMSA_PROVIDER_LISTEN__HOSTS: '["0.0.0.0"]',
      GMSA_PROVIDER_CCG__CLIENT__KEY: 'other.key',
      GMSA_PROVIDER_CCG__CLIENT: '{"certificate":"c","key":"k"}',
      GMSA_PROVIDER_CCG__NAMESPACE: 'contoso',
      GMSA_PROVIDER_CCG__DIRECTORY: '/d',
    })
    expect(config.listen.hosts).toEqual(['0.0.0.0'])
    expect(config.ccg).toEqual({
      directory: '/d',
      namespace: 'contoso',
      client: { certificate: '/srv/c', key: '/srv/other.key' },
    })
  })

  test('paths are relative to the working directory there, those of the file stay', async () => {
    const { tls } = await load({ GMSA_PROVIDER_TLS__CERTIFICATE: 'x/tls.crt' })
    expect(tls).toMatchObject({ certificate: '/srv/x/tls.crt', key: join(folder, 'tls.key') })
  })

  test('for options of a provider in the file, and for a new provider', async () => {
    const { providers } = await load({
      GMSA_PROVIDER_PROVIDERS__MYSTORE__ALLOWREADABLE: 'true',
      GMSA_PROVIDER_PROVIDERS__NEW__ALLOWREADABLE: 'true',
      GMSA_PROVIDER_PROVIDERS__NEW__DIRECTORY: '/new',
      GMSA_PROVIDER_PROVIDERS__NEW__TYPE: 'file',
    })
    expect(providers.get('myStore')?.options).toEqual({ directory: join(folder, 'secrets'), allowReadable: true })
    expect(providers.get('new')).toEqual({ type: 'file', options: { directory: '/new', allowReadable: true } })
  })

  test('names without two underscores are not ours', async () => {
    const config = await load({ GMSA_PROVIDER_PORT: '9', GMSA_PROVIDER_SERVICE_HOST: 'x', GMSA_LISTEN__PORT: '5' })
    expect(config.listen.port).toBe(1000)
  })

  test('flags stand above it', async () => {
    const { config } = expectLoaded(
      await loadConfig({
        ...options({ GMSA_PROVIDER_LOG__LEVEL: 'error' }),
        flags: [{ source: 'flag --debug', path: ['log', 'level'], text: 'debug' }],
      }),
    )
    expect(config.log.level).toBe('debug')
  })
})

describe('a wrong variable is a problem that names it', () => {
  const of = (name: string, rest: string) => [`environment GMSA_PROVIDER_${name}: ${rest}`]

  test.each([
    ['LISTN__PORT', '1', 'listn: unknown option, did you mean listen?'],
    ['LISTEN__PROT', '1', 'listen.prot: unknown option, did you mean port?'],
    ['LISTEN__PORT__X', '1', 'listen.port.x: unknown option'],
    ['LISTEN__HOSTS__0', 'x', 'listen.hosts.0: unknown option'],
    ['LISTEN__', '1', 'listen[""]: unknown option'],
    ['__LISTEN', '1', '[""]: unknown option'],
    ['PROVIDERS____TYPE', 'file', 'providers[""]: unknown option'],
    ['PROVIDERS__MYSTORE__DIRECTRY', 'x', 'providers.myStore.directry: unknown option, did you mean directory?'],
    ['PROVIDERS__TWIN__DIRECTORY', 'x', 'providers.twin: several entries have this name but for case'],
    ['ACCOUNTS__SVC__PROVIDER', 'x', 'accounts.svc.provider: accounts can be set in the file only'],
    ['Clients__X', '[]', 'clients.x: clients can be set in the file only'],
    ['LISTEN__PORT', 'x', 'listen.port: expected an integer from 0 to 65535'],
    ['LISTEN__PORT', '', 'listen.port: expected an integer from 0 to 65535'],
    ['LISTEN__PORT', '0x10', 'listen.port: expected an integer from 0 to 65535'],
    ['LISTEN__HOSTS', '127.0.0.1', 'listen.hosts: expected a list of 1 or more, 16 at most: each text'],
    ['LOG__LEVEL', 'warning', 'log.level: expected error, warn, info, debug or trace, did you mean warn?'],
    ['CACHE__MAXAGE', '30', 'cache.maxAge: expected a duration such as 30s, 5m or 10h5m'],
    ['TLS__CRL', '', 'tls.crl: expected a path'],
  ])('%s=%s', async (name, text, problem) => {
    expect(await problems({ [`GMSA_PROVIDER_${name}`]: text })).toEqual(of(name, problem))
  })

  test('also where a new provider lacks its type', async () => {
    expect(await problems({ GMSA_PROVIDER_PROVIDERS__NEW__DIRECTORY: '/x' })).toEqual([
      'environment GMSA_PROVIDER_PROVIDERS__NEW__DIRECTORY: providers.new.type: required: expected text',
    ])
  })

  test('several at once, after those of the file', async () => {
    const file = join(folder, 'broken.yaml')
    writeFileSync(file, 'log: 5\n')
    const result = await loadConfig({
      file,
      env: { GMSA_PROVIDER_LOG__LEVEL: 'info', GMSA_PROVIDER_X__Y: '1', GMSA_PROVIDER_TLS__KEY: 'k' },
      cwd: '/',
    })
    expect(result.ok ? [] : result.problems.map(({ source, path }) => `${source.replace(folder, '')} ${path}`)).toEqual(
      [
        '/broken.yaml providers',
        '/broken.yaml accounts',
        '/broken.yaml log',
        'environment GMSA_PROVIDER_X__Y x',
        'environment GMSA_PROVIDER_TLS__KEY tls.certificate',
        'environment GMSA_PROVIDER_TLS__KEY tls.clientCa',
      ],
    )
  })
})

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectLoaded, type Loaded, loadConfig } from '../../src/cli/config.ts'
import { formatProblem } from '../../src/cli/config-problem.ts'
import { loadRunConfig, type RancherFlags, rancherMode } from '../../src/cli/rancher-mode.ts'

let empty = ''
beforeAll(() => {
  empty = mkdtempSync(join(tmpdir(), 'rancher-'))
})
afterAll(() => rmSync(empty, { recursive: true }))

async function load(flags: RancherFlags, env: NodeJS.ProcessEnv = {}): Promise<Loaded> {
  return expectLoaded(await loadRunConfig({ env, cwd: empty }, flags))
}

async function problems(flags: RancherFlags, env: NodeJS.ProcessEnv = {}): Promise<string[]> {
  const result = await loadRunConfig({ env, cwd: empty }, flags)
  return result.ok ? [] : result.problems.map(formatProblem)
}

const SSL = '/var/lib/rancher/gmsa/contoso/container/ssl'

describe('Rancher mode', () => {
  test('serves the Secrets of the namespace, with the certificates and host files of the charts', async () => {
    const { config, file } = await load({ namespace: 'contoso' })
    expect(file).toBeUndefined()
    expect(config).toMatchObject({
      listen: { hosts: ['127.0.0.1', '::1'], port: 0 },
      tls: { certificate: `${SSL}/server/tls.crt`, key: `${SSL}/server/tls.key`, clientCa: `${SSL}/ca/ca.crt` },
      providers: new Map([
        ['cluster', { type: 'kubernetes', options: { namespace: 'contoso', allowReadable: false } }],
      ]),
      accounts: new Map([['*', { provider: 'cluster', options: {} }]]),
      openAccounts: true,
      ccg: {
        directory: '/var/lib/rancher/gmsa',
        namespace: 'contoso',
        client: { certificate: `${SSL}/client/tls.crt`, key: `${SSL}/client/tls.key` },
      },
      log: { level: 'info' },
    })
    expect(config.clients).toBeUndefined()
  })

  test('says that every name is served', async () => {
    const { warnings } = await load({ namespace: 'contoso' })
    expect(warnings).toEqual([
      'Rancher mode: every client with a verified certificate may read the credential in any Secret of namespace contoso; --secret-names narrows this',
    ])
  })

  test('takes namespace and kubeconfig from flags, and the namespace from the environment otherwise', async () => {
    const env = { NAMESPACE: 'from-env', KUBECONFIG: 'kube/config', POWERSHELL_PATH: 'powershell.exe' }
    const options = async (flags: RancherFlags) => (await load(flags, env)).config.providers.get('cluster')?.options
    // The variable is the provider's own, with or without this mode.
    expect(await options({})).toEqual({ namespace: 'from-env', allowReadable: false })
    expect(await options({ namespace: 'from-flag', kubeconfig: 'k' })).toEqual({
      namespace: 'from-flag',
      kubeconfig: join(empty, 'k'),
      allowReadable: false,
    })
  })

  test('--secret-names narrows what is served, and no warning is left', async () => {
    const { config, warnings } = await load({ namespace: 'contoso', secretNames: 'svc-a, svc-b' })
    expect([...config.accounts.keys()]).toEqual(['svc-a', 'svc-b'])
    expect(warnings).toEqual([])
  })

  test.each([
    [{ skipArtifacts: true }, {}],
    [{}, { SKIP_ARTIFACTS: 'true' }],
    [{}, { DISABLE_ARTIFACTS: '1' }],
    [{}, { SKIP_ARTIFACTS: 'false', DISABLE_ARTIFACTS: 'TRUE' }],
  ])('%j with %j writes no host files and keeps mutual TLS', async (flags, env) => {
    const { config } = await load({ namespace: 'contoso', ...flags }, env)
    expect(config.ccg).toBeUndefined()
    expect(config.tls?.clientCa).toBe(`${SSL}/ca/ca.crt`)
  })

  test.each(['', 'false', '0', 'no'])('SKIP_ARTIFACTS=%s keeps the host files', async (text) => {
    const { config } = await load({ namespace: 'contoso' }, { SKIP_ARTIFACTS: text })
    expect(config.ccg?.namespace).toBe('contoso')
  })

  test('--disable-mtls leaves only port.txt, and warns loudly', async () => {
    const { config, warnings } = await load({ namespace: 'contoso', disableMtls: true })
    expect(config.tls).toBeUndefined()
    expect(config.listen.hosts).toEqual(['127.0.0.1', '::1'])
    expect(config.ccg).toEqual({ directory: '/var/lib/rancher/gmsa', namespace: 'contoso' })
    expect(warnings.join('\n')).toMatch(/whoever reaches the listener[\s\S]*plain http/)
  })

  test('the variable DISABLE_MTLS turns nothing off and is warned of', async () => {
    const { config, warnings } = await load({ namespace: 'contoso' }, { DISABLE_MTLS: 'true' })
    expect(config.tls).toBeDefined()
    expect(warnings.at(-1)).toContain('DISABLE_MTLS is ignored')
  })

  test.each([
    [{ debug: true }, 'debug'],
    [{ debug: true, debugLevel: '5' }, 'debug'],
    [{ debug: true, debugLevel: '6' }, 'trace'],
    [{ debugLevel: '6' }, 'info'],
  ])('%j logs from %s on', async (flags, level) => {
    expect((await load({ namespace: 'contoso', ...flags })).config.log.level).toBe(level)
  })

  test('is overridden by the environment as a file is, but stays on mutual TLS', async () => {
    const env = { GMSA_PROVIDER_ADMIN__PORT: '9999' }
    const { config } = await load({ namespace: 'contoso' }, env)
    expect(config.admin.port).toBe(9999)
    expect(config.tls).toBeDefined()
  })

  test.each(['default', 'a', 'ab', '0a', 'a-1', 'a'.repeat(63)])('takes the namespace %s', async (namespace) => {
    expect(await problems({ namespace })).toEqual([])
  })

  test.each(['', 'A', '-a', 'a-', 'a'.repeat(64), '../x', 'a/b', 'a.b', 'a\n'])(
    'refuses the namespace %j',
    async (namespace) => {
      expect(await problems({ namespace })).toEqual([
        'Rancher mode: --namespace: expected lower-case letters, digits and inner dashes, 63 characters at most, as Kubernetes names namespaces',
      ])
    },
  )

  test('reports what else is wrong', async () => {
    expect(await problems({ namespace: 'a', secretNames: ' ,' }, { SKIP_ARTIFACTS: 'maybe' })).toEqual([
      'Rancher mode: SKIP_ARTIFACTS: expected true or false',
      'Rancher mode: --secret-names: expected names with commas between them',
    ])
    expect(await problems({ namespace: 'a', debugLevel: 'x' })).toEqual([
      'flag: --debug-level: expected an integer from 0 to 99',
    ])
    expect(await problems({ namespace: 'a', secretNames: '../x' })).toHaveLength(1)
  })
})

describe('Rancher mode is not entered', () => {
  test('without a namespace', async () => {
    expect(rancherMode({ disableMtls: true }, { NAMESPACE: '' })).toBeUndefined()
    expect((await problems({}))[0]).toMatch(/^--config: not given, and there is no /)
  })

  test('where there is a configuration file, and --disable-mtls is refused then', async () => {
    const file = join(empty, 'c.yaml')
    writeFileSync(
      file,
      'tls: { certificate: c, key: k, clientCa: a }\nproviders: { c: { type: kubernetes, namespace: n } }\naccounts: { a: { provider: c } }',
    )
    const options = { file, env: { NAMESPACE: 'contoso' }, cwd: empty }
    const { config } = expectLoaded(await loadRunConfig(options, { debug: true }))
    expect(config).toMatchObject({ openAccounts: false, listen: { port: 8443 }, log: { level: 'debug' } })
    expect(await loadRunConfig(options, { disableMtls: true })).toMatchObject({
      ok: false,
      problems: [{ path: '--disable-mtls' }],
    })
  })
})

test('a file cannot ask for what only Rancher mode has', async () => {
  const file = join(empty, 'open.yaml')
  writeFileSync(
    file,
    'openAccounts: true\nproviders: { c: { type: kubernetes, namespace: n } }\naccounts: { "*": { provider: c } }\nccg: { directory: d, namespace: n }',
  )
  const result = await loadConfig({ file, env: {}, cwd: empty })
  expect(result.ok ? [] : result.problems.map(({ path }) => path)).toEqual([
    'tls',
    'openAccounts',
    'accounts.*',
    'ccg.client',
  ])
})

import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { openVault } from '../../src/providers/vault/open.ts'
import type { Options } from '../../src/providers/vault/schema.ts'
import { failure, type ProviderFixture, providerContract } from '../contract/provider-contract.ts'
import { runCli } from '../fakes/cli.ts'
import { makeCa, makePki, writePki } from '../fakes/pki.ts'
import { type OpenBao, startOpenBao } from '../lab/openbao.ts'
import { needs } from '../lab/skip.ts'
import { makeIssuer, serviceAccount, startTokenReview } from '../lab/token-issuer.ts'
import { GOOD, logTo, makeSecretFolder, type SecretFolder } from '../providers/vault/rig.ts'

describe.skipIf(!needs('openbao'))('a real OpenBao', () => {
  let bao: OpenBao
  let files: SecretFolder
  let mounts = 0

  beforeAll(async () => {
    bao = await startOpenBao()
    files = await makeSecretFolder()
    await files.write('ca.crt', bao.ca)
    await bao.admin('POST', 'sys/auth/approle', { type: 'approle' })
  })
  afterAll(async () => {
    await bao?.[Symbol.asyncDispose]()
    await files?.[Symbol.asyncDispose]()
  })

  /** A KV engine of its own, and a policy of its name that lets read what is in it. */
  async function mountKv(version: 1 | 2, namespace?: string): Promise<string> {
    mounts += 1
    const mount = `team/kv${mounts}`
    await bao.admin('POST', `sys/mounts/${mount}`, { type: 'kv', options: { version: String(version) } }, namespace)
    const rule = { capabilities: ['read'] }
    const policy = { path: { [`${mount}/${version === 2 ? 'data/' : ''}*`]: rule } }
    await bao.admin('PUT', `sys/policies/acl/kv${mounts}`, { policy: JSON.stringify(policy) }, namespace)
    return mount
  }

  const policyOf = (mount: string) => mount.replace('team/', '')

  async function put(mount: string, version: 1 | 2, secret: string, data: object, namespace?: string): Promise<void> {
    const path = version === 2 ? `${mount}/data/${secret}` : `${mount}/${secret}`
    const body = version === 2 ? { data } : data
    // A new engine of version 2 refuses writes for a moment.
    for (let tries = 0; ; tries += 1) {
      try {
        await bao.admin('POST', path, body, namespace)
        return
      } catch (error) {
        if (tries === 40) throw error
        await setTimeout(50)
      }
    }
  }

  /** An AppRole whose tokens have this policy; its secret ID is in the file that is returned. */
  async function makeAppRole(name: string, policy: string, settings: object = {}): Promise<Options['auth']> {
    await bao.admin('POST', `auth/approle/role/${name}`, { token_policies: [policy], ...settings })
    const { role_id: roleId } = await bao.admin('GET', `auth/approle/role/${name}/role-id`)
    const { secret_id: secretId } = await bao.admin('POST', `auth/approle/role/${name}/secret-id`, {})
    const secretIdFile = await files.write(`${name}-secret-id`, `${secretId}\n`)
    return { method: 'approle', roleId: String(roleId), secretIdFile }
  }

  const open = (
    mount: string,
    auth: Options['auth'],
    options: Partial<Options> = {},
    lines: Record<string, unknown>[] = [],
  ) =>
    openVault(
      'vault',
      { address: bao.address, mount, ca: files.path('ca.crt'), auth, ...options },
      { log: logTo(lines), clock: systemClock },
    )

  async function read({ reads }: Provider, secret = 'one', options = {}): Promise<string | undefined> {
    const account = { name: 'web', secret, options }
    return (await reads.credential?.(account, AbortSignal.timeout(10_000)))?.password.revealText()
  }

  /** Tokens that a log-in gave and that are alive: all but the operator's. */
  async function livingTokens(): Promise<number> {
    const { keys } = await bao.admin('LIST', 'auth/token/accessors')
    return (keys as string[]).length - 1
  }

  for (const version of [1, 2] as const) {
    providerContract(`vault (OpenBao, KV version ${version})`, async (): Promise<ProviderFixture> => {
      const mount = await mountKv(version)
      const auth = await makeAppRole(`contract-${mounts}`, policyOf(mount))
      return {
        open: (context) => openVault('vault', { address: bao.address, mount, ca: files.path('ca.crt'), auth }, context),
        put: (secret, members) => put(mount, version, secret, members),
        remove: async (secret) =>
          void (await bao.admin('DELETE', `${mount}/${version === 2 ? 'metadata/' : ''}${secret}`)),
        makeUnreachable: () => bao.seal(),
        async hang() {
          process.kill(bao.pid, 'SIGSTOP')
        },
        async restore() {
          process.kill(bao.pid, 'SIGCONT')
          await bao.unseal()
        },
        async [Symbol.asyncDispose]() {
          process.kill(bao.pid, 'SIGCONT')
          await bao.unseal()
        },
      }
    })
  }

  describe('with KV version 2', () => {
    test('gives the newest version, a pinned one, and the one before', async () => {
      const mount = await mountKv(2)
      await using provider = await open(mount, await makeAppRole('versions', policyOf(mount)))
      for (const password of ['first', 'second', 'third']) await put(mount, 2, 'one', { ...GOOD, password })
      expect(await read(provider)).toBe('third')
      expect(await read(provider, 'one', { version: 1 })).toBe('first')
      const account = { name: 'web', secret: 'one', options: {} }
      const previous = await provider.readPrevious?.(account, AbortSignal.timeout(10_000))
      expect(previous?.password.revealText()).toBe('second')
      await bao.admin('POST', `${mount}/destroy/one`, { versions: [2] })
      const missing = provider.readPrevious?.(account, AbortSignal.timeout(10_000)) ?? Promise.resolve()
      expect((await failure(missing, 'ACCOUNT_NOT_FOUND')).message).toContain('destroyed')
      await bao.admin('POST', `${mount}/delete/one`, { versions: [3] })
      expect((await failure(read(provider), 'ACCOUNT_NOT_FOUND')).message).toContain('deleted')
      expect((await failure(read(provider, 'one', { version: 9 }), 'ACCOUNT_NOT_FOUND')).message).toContain('version 9')
    })

    test('finds secrets in parts and with signs in their names', async () => {
      const mount = await mountKv(2)
      await using provider = await open(mount, await makeAppRole('signs', policyOf(mount)), { prefix: 'a/b' })
      await put(mount, 2, 'a/b/c%20d/e%3F', GOOD)
      expect(await read(provider, 'c d/e?')).toBe(GOOD.password)
    })
  })

  test('in a namespace', async () => {
    await bao.admin('POST', 'sys/namespaces/org', {})
    const mount = await mountKv(2, 'org')
    await put(mount, 2, 'one', GOOD, 'org')
    const { auth } = await bao.admin('POST', 'auth/token/create', { policies: [policyOf(mount)] }, 'org')
    const tokenFile = await files.write('org-token', String((auth as { client_token: string }).client_token))
    await using provider = await open(mount, { method: 'token', tokenFile }, { namespace: 'org' })
    await provider.probe(AbortSignal.timeout(10_000))
    expect(await read(provider)).toBe(GOOD.password)
    await using lost = await open(mount, { method: 'token', tokenFile }, { namespace: 'gro' })
    expect(await failure(read(lost), 'STORE_DENIED')).toMatchObject({ reason: 'not-found' })
  })

  test('is judged by the command check', async () => {
    const mount = await mountKv(2)
    await put(mount, 2, 'team/one', GOOD)
    const auth = await makeAppRole('check', policyOf(mount))
    const { server, ca } = await writePki(files.path('pki'), await makePki())
    const provider = { type: 'vault', address: bao.address, mount, prefix: 'team', ca: 'ca.crt', auth }
    const config = {
      tls: { ...server, clientCa: ca },
      providers: { bao: provider },
      accounts: { one: { provider: 'bao' }, two: { provider: 'bao', secret: 'nothing' } },
    }
    const before = await livingTokens()
    const { code, stdout } = await runCli(['check', '--config', await files.write('gmsa.json', JSON.stringify(config))])
    expect(code).toBe(1)
    expect(stdout).toMatch(/provider bao.*vault: answers/)
    expect(stdout).toMatch(/account one.*credential of svc-ccg, domain ad\.test/)
    expect(stdout).toMatch(/account two.*has no .*data\/team\/nothing/)
    expect(await livingTokens()).toBe(before)
  })

  describe('what is refused', () => {
    test('is told apart: a policy, a mount that is not there, another engine, a part of a mount', async () => {
      const mount = await mountKv(2)
      await put(mount, 2, 'one', GOOD)
      const auth = await makeAppRole('refused', policyOf(mount))
      const before = await livingTokens()
      await using provider = await open(mount, auth, { kvVersion: 2 })
      await bao.admin('PUT', `sys/policies/acl/${policyOf(mount)}`, {
        policy: `path "${mount}/data/two" { capabilities = ["read"] }`,
      })
      for (let index = 0; index < 3; index += 1) {
        const error = await failure(read(provider), 'STORE_DENIED')
        expect(error).toMatchObject({ reason: 'not-permitted', hint: expect.stringContaining(`${mount}/data/one`) })
      }
      expect(await livingTokens()).toBe(before + 1)
      await failure(read(provider, 'two'), 'ACCOUNT_NOT_FOUND')
      await using elsewhere = await open('nowhere', auth)
      expect(await failure(read(elsewhere), 'STORE_DENIED')).toMatchObject({ reason: 'not-permitted' })
      await using within = await open(`${mount}/data`, auth)
      expect((await failure(read(within), 'STORE_DENIED')).message).toContain(`lies within the mount ${mount}/`)
    })

    test('by a quota is an outage', async () => {
      const mount = await mountKv(2)
      await put(mount, 2, 'one', GOOD)
      await using provider = await open(mount, await makeAppRole('quota', policyOf(mount)))
      await read(provider)
      await bao.admin('POST', 'sys/quotas/rate-limit/q', { path: mount, rate: 1, interval: '60s' })
      await read(provider).catch(() => {})
      expect((await failure(read(provider), 'STORE_UNAVAILABLE')).message).toContain('slow down')
      await bao.admin('DELETE', 'sys/quotas/rate-limit/q')
      expect(await read(provider)).toBe(GOOD.password)
    })

    test('while it is sealed is an outage with that name', async () => {
      const mount = await mountKv(2)
      await using provider = await open(mount, await makeAppRole('sealed', policyOf(mount)))
      await provider.probe(AbortSignal.timeout(10_000))
      await bao.seal()
      expect((await failure(provider.probe(AbortSignal.timeout(10_000)), 'STORE_UNAVAILABLE')).message).toContain(
        'sealed',
      )
      await bao.unseal()
      await provider.probe(AbortSignal.timeout(10_000))
    })
  })

  describe('the token', () => {
    test('is renewed while nobody reads, replaced when it was revoked, and given back at the end', async () => {
      const mount = await mountKv(2)
      await put(mount, 2, 'one', GOOD)
      const auth = await makeAppRole('short', policyOf(mount), { token_ttl: '3s', token_max_ttl: '1h' })
      const before = await livingTokens()
      const lines: Record<string, unknown>[] = []
      const provider = await open(mount, auth, {}, lines)
      await read(provider)
      await setTimeout(5_000)
      expect(await read(provider)).toBe(GOOD.password)
      expect(await livingTokens()).toBe(before + 1)
      await bao.admin('POST', 'sys/leases/revoke-prefix/auth/approle', {})
      expect(await read(provider)).toBe(GOOD.password)
      const after = await livingTokens()
      await provider[Symbol.asyncDispose]()
      expect(await livingTokens()).toBe(after - 1)
      expect(lines).toEqual([])
    })

    test.each([
      ['comes to its greatest age', { token_ttl: '2s', token_max_ttl: '3s' }],
      ['is a batch token', { token_ttl: '2s', token_type: 'batch' }],
      ['may not renew itself', { token_ttl: '2s', token_no_default_policy: true }],
    ])('that %s is followed by the next one, and no read fails', async (what, settings) => {
      const mount = await mountKv(2)
      await put(mount, 2, 'one', GOOD)
      await using provider = await open(mount, await makeAppRole(what.replaceAll(' ', '-'), policyOf(mount), settings))
      for (let index = 0; index < 20; index += 1) {
        expect(await read(provider)).toBe(GOOD.password)
        await provider.probe(AbortSignal.timeout(10_000))
        await setTimeout(200)
      }
    })
  })

  describe('logs in by', () => {
    let mount: string
    beforeAll(async () => {
      mount = await mountKv(2)
      await put(mount, 2, 'one', GOOD)
    })

    /** The auth method is mounted in a place of its own, with this configuration and this role. */
    async function mountAuth(type: Options['auth']['method'], config: object, rolePath: string, role: object) {
      await bao.admin('POST', `sys/auth/of/${type}`, { type })
      await bao
        .admin('POST', `auth/of/${type}/config`, config)
        .catch((error) => type !== 'cert' && Promise.reject(error))
      await bao.admin('POST', `auth/of/${type}/${rolePath}`, { token_policies: [policyOf(mount)], ...role })
      return `of/${type}`
    }

    async function refusal(auth: Options['auth']) {
      await using provider = await open(mount, auth)
      return await failure(read(provider), 'STORE_DENIED')
    }

    async function expectRead(auth: Options['auth']) {
      await using provider = await open(mount, auth)
      expect(await read(provider)).toBe(GOOD.password)
    }

    test('approle', async () => {
      const auth = await makeAppRole('role', policyOf(mount))
      await expectRead(auth)
      const secretIdFile = await files.write('wrong-secret-id', 'wrong')
      expect(await refusal({ ...auth, secretIdFile })).toMatchObject({ reason: 'bad-password' })
      const elsewhere = await makeAppRole('elsewhere', policyOf(mount), { secret_id_bound_cidrs: ['10.0.0.0/8'] })
      expect((await refusal(elsewhere)).message).toContain('our address')
    })

    test('jwt', async () => {
      const issuer = makeIssuer()
      const role = { role_type: 'jwt', user_claim: 'sub', bound_audiences: ['bao'], bound_subject: 'web' }
      const at = await mountAuth('jwt', { jwt_validation_pubkeys: [issuer.publicKey] }, 'role/gmsa', role)
      const auth = async (claims: object, name = 'gmsa'): Promise<Options['auth']> => {
        const jwt = issuer.sign({ sub: 'web', aud: 'bao', ...claims })
        return { method: 'jwt', mount: at, role: name, tokenFile: await files.write('jwt', jwt) }
      }
      await expectRead(await auth({}))
      expect(await refusal(await auth({ iat: 1_000, exp: 2_000 }))).toMatchObject({ reason: 'expired' })
      expect((await refusal(await auth({ aud: 'other' }))).message).toContain('audience')
      expect((await refusal(await auth({ sub: 'other' }))).message).toContain('does not take the token')
      expect(await refusal(await auth({}, 'none'))).toMatchObject({ reason: 'not-found' })
      const later = Math.floor(Date.now() / 1000) + 3_600
      expect(await refusal(await auth({ nbf: later, exp: later + 60 }))).toMatchObject({ reason: 'clock' })
    })

    test('kubernetes, whose API server is a stand-in', async () => {
      await using api = await startTokenReview()
      const config = { kubernetes_host: api.address, kubernetes_ca_cert: bao.ca, disable_local_ca_jwt: true }
      const bound = { bound_service_account_names: ['web'], bound_service_account_namespaces: ['gmsa'] }
      const at = await mountAuth('kubernetes', config, 'role/gmsa', bound)
      const auth = async (namespace: string, name: string, claims = {}): Promise<Options['auth']> => {
        const jwt = makeIssuer().sign({ ...serviceAccount(namespace, name), ...claims })
        return { method: 'kubernetes', mount: at, role: 'gmsa', tokenFile: await files.write('projected', jwt) }
      }
      await expectRead(await auth('gmsa', 'web'))
      expect((await refusal(await auth('gmsa', 'other'))).message).toContain('service account')
      expect((await refusal(await auth('other', 'web'))).message).toContain('service account')
      expect(await refusal(await auth('gmsa', 'web', { iat: 1_000, exp: 2_000 }))).toMatchObject({ reason: 'expired' })
      expect((await refusal(await auth('gmsa', 'web', { unknown: true }))).message).toContain('refuses the log-in')
      expect(api.seen).toContain('POST /apis/authentication.k8s.io/v1/tokenreviews')
    })

    test('cert', async () => {
      const ca = await makeCa({ name: 'Client CA' })
      const at = await mountAuth('cert', {}, 'certs/gmsa', { certificate: ca.certificate })
      const auth = async (from = ca): Promise<Options['auth']> => {
        const leaf = await from.issue()
        const certificate = await files.write('tls.crt', leaf.certificate)
        return { method: 'cert', mount: at, certificate, key: await files.write('tls.key', leaf.key) }
      }
      await expectRead(await auth())
      await expectRead({ ...(await auth()), name: 'gmsa' })
      expect((await refusal({ ...(await auth()), name: 'none' })).code).toBe('STORE_DENIED')
      expect((await refusal(await auth(await makeCa()))).message).toContain('client certificate')
    })

    test('a token in a file', async () => {
      const { auth } = await bao.admin('POST', 'auth/token/create', { policies: [policyOf(mount)], period: '3s' })
      const { client_token: token } = auth as { client_token: string }
      await using provider = await open(mount, { method: 'token', tokenFile: await files.write('token', token) })
      await read(provider)
      await setTimeout(5_000)
      expect(await read(provider)).toBe(GOOD.password)
      await bao.admin('POST', 'auth/token/revoke', { token })
      expect(await failure(read(provider), 'STORE_DENIED')).toMatchObject({ reason: 'expired' })
    })
  })
})

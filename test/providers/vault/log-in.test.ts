import { chmod, rm } from 'node:fs/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Options } from '../../../src/providers/vault/schema.ts'
import { printed } from '../../contract/printed.ts'
import { failure, rejection } from '../../contract/provider-contract.ts'
import { movableClock } from '../../fakes/clock.ts'
import { makeCa } from '../../fakes/pki.ts'
import { GOOD, openRig, type RigOptions, type SecretFolder, type VaultRig } from './rig.ts'

let open: VaultRig | undefined

async function start(options: Omit<RigOptions, 'clock'> = {}, clock = movableClock()): Promise<VaultRig> {
  open = await openRig({ clock, ...options })
  return open
}
afterEach(async () => {
  await open?.[Symbol.asyncDispose]()
  expect(open?.vault.violations).toEqual([])
  expect(printed(open?.lines)).not.toMatch(/kanari|secret-1|jwt-1/i)
})

type Auth = (files: SecretFolder) => Options['auth']
const kubernetes: Auth = (files) => ({ method: 'kubernetes', role: 'gmsa', tokenFile: files.path('jwt') })
const jwt: Auth = (files) => ({ method: 'jwt', role: 'gmsa', tokenFile: files.path('jwt') })
const approle: Auth = (files) => ({ method: 'approle', roleId: 'role-1', secretIdFile: files.path('secret-id') })
const approleFiles: Auth = (files) => ({
  method: 'approle',
  roleIdFile: files.path('role-id'),
  secretIdFile: files.path('secret-id'),
})
const tokenFile: Auth = (files) => ({ method: 'token', tokenFile: files.path('token') })

/** What the first log-in sent, and where to. */
function shownBy({ vault }: VaultRig) {
  const { path, body, headers } = vault.server.seen.find(({ method }) => method === 'POST') ?? {}
  return { path, body: JSON.parse(body ?? '{}'), token: headers?.['x-vault-token'] }
}

describe('a log-in', () => {
  test.each<[string, Auth, object]>([
    ['kubernetes', kubernetes, { role: 'gmsa', jwt: 'jwt-1' }],
    ['jwt', jwt, { role: 'gmsa', jwt: 'jwt-1' }],
    ['approle', approle, { role_id: 'role-1', secret_id: 'secret-1' }],
    ['approle', approleFiles, { role_id: 'role-1', secret_id: 'secret-1' }],
  ])('by %s shows what its files hold, and no token', async (method, auth, body) => {
    const rig = await start({ auth })
    expect(await rig.read()).toBe(GOOD.password)
    expect(shownBy(rig)).toEqual({ path: `/v1/auth/${method}/login`, body, token: undefined })
    expect(rig.vault.logIns()).toBe(1)
  })

  test('goes to where the method is mounted', async () => {
    const rig = await start({ auth: (files) => ({ ...kubernetes(files), mount: 'clusters/eu' }) })
    await failure(rig.read(), 'STORE_DENIED')
    expect(shownBy(rig).path).toBe('/v1/auth/clusters/eu/login')
  })

  test('is one for many reads at once', async () => {
    const { vault, read } = await start()
    const all = await Promise.all(Array.from({ length: 200 }, () => read()))
    expect(new Set(all)).toEqual(new Set([GOOD.password]))
    expect(vault.logIns()).toBe(1)
  })

  test('is not repeated for reads after, nor for absent records and forbidden ones', async () => {
    const { vault, read } = await start()
    vault.forbid('kv/data/secret')
    for (const each of ['one', 'two', 'secret', 'secret', 'one']) await read(each).catch(() => {})
    expect(vault.logIns()).toBe(1)
  })

  test('is repeated when the token was revoked, within the same reads, once for all of them', async () => {
    const { vault, read } = await start()
    await read()
    vault.revokeAll()
    expect(await Promise.all(Array.from({ length: 50 }, () => read()))).toHaveLength(50)
    expect(vault.logIns()).toBe(2)
  })

  test('with an answer that has no token is no log-in', async () => {
    const { vault, read } = await start()
    vault.server.fail({ status: 200, body: { auth: null } }, ({ method }) => method === 'POST')
    expect(await failure(read(), 'STORE_UNAVAILABLE')).toMatchObject({ reason: 'protocol' })
  })
})

describe('a log-in by certificate', () => {
  async function startWithCertificate(name?: string) {
    const clientCa = await makeCa({ name: 'Client CA' })
    const rig = await start({
      server: { clientCa },
      auth: (files) => ({
        method: 'cert',
        certificate: files.path('tls.crt'),
        key: files.path('tls.key'),
        ...(name && { name }),
      }),
    })
    const show = async (ca = clientCa) => {
      const leaf = await ca.issue()
      await rig.files.write('tls.crt', leaf.certificate)
      await rig.files.write('tls.key', leaf.key)
      return leaf.serial
    }
    return { rig, show }
  }

  test.each([[undefined], ['gmsa']])('shows it on the connection (role %s)', async (name) => {
    const { rig, show } = await startWithCertificate(name)
    rig.vault.accepts.cert.serials = [await show()]
    expect(await rig.read()).toBe(GOOD.password)
    expect(shownBy(rig)).toEqual({ path: '/v1/auth/cert/login', body: name ? { name } : {}, token: undefined })
  })

  test('of another authority is refused, and taken at once when its files are replaced', async () => {
    const { rig, show } = await startWithCertificate()
    await show(await makeCa())
    expect(await failure(rig.read(), 'STORE_DENIED')).toMatchObject({ reason: 'not-permitted' })
    rig.vault.accepts.cert.serials = [await show()]
    expect(await rig.read()).toBe(GOOD.password)
  })

  test('whose key is missing, or readable by others, says so', async () => {
    const { rig, show } = await startWithCertificate()
    await show()
    await chmod(rig.files.path('tls.key'), 0o644)
    expect((await failure(rig.read(), 'STORE_DENIED')).hint).toContain('chmod 600')
    await rm(rig.files.path('tls.key'))
    expect((await failure(rig.read(), 'STORE_DENIED')).message).toContain('no such file')
    await rm(rig.files.path('tls.crt'))
    expect((await failure(rig.read(), 'STORE_UNAVAILABLE')).hint).toContain('auth.certificate')
  })
})

describe('a refused log-in', () => {
  test.each<[string, Auth, number]>([
    ['kubernetes', kubernetes, 60],
    ['approle', approle, 16 * 60],
  ])('(%s) is not tried again with the same files until later, and ever later', async (method, auth, most) => {
    const clock = movableClock()
    const { vault, read } = await start({ auth }, clock)
    vault.accepts.approle.secretIds = []
    vault.accepts.kubernetes.jwts = []
    const refusal = await failure(read(), 'STORE_DENIED')
    expect(printed(refusal)).not.toMatch(/jwt-1|secret-1/)
    const at = [0]
    for (let second = 1; second < 3_600; second += 1) {
      await clock.advance(1_000)
      const before = vault.logIns()
      await failure(read(), 'STORE_DENIED')
      if (vault.logIns() > before) at.push(second)
    }
    const gaps = at.slice(1).map((second, index) => second - (at[index] ?? 0))
    expect(Math.max(...gaps)).toBe(most)
    expect(gaps).toEqual([...gaps].sort((a, b) => a - b))
    // OpenBao and Vault lock an AppRole after five refusals with no more than a quarter of an hour between them.
    if (method === 'approle') expect(gaps.slice(0, 4)).toEqual([60, 240, 960, 960])
  })

  test.each<[string, Auth, string]>([
    ['JWT', kubernetes, 'jwt'],
    ['secret ID', approle, 'secret-id'],
  ])('is tried at once with another %s', async (_what, auth, file) => {
    const { vault, files, read } = await start({ auth })
    vault.accepts.kubernetes.jwts = ['next-1']
    vault.accepts.approle.secretIds = ['next-1']
    await failure(read(), 'STORE_DENIED')
    await files.write(file, 'next-1')
    expect(await read()).toBe(GOOD.password)
  })

  test('leaves the outage of the server an outage, that is over when it is over', async () => {
    const { vault, read } = await start()
    vault.server.fail({ status: 503, headers: { 'retry-after': '4' } })
    expect((await failure(read(), 'STORE_UNAVAILABLE')).retryAfter).toBe(4)
    vault.server.fail()
    expect(await read()).toBe(GOOD.password)
  })
})

test.each<[string, Auth, string]>([
  ['JWT', jwt, 'jwt'],
  ['secret ID', approle, 'secret-id'],
])('a rotated %s is used by the next log-in, and the old one by none', async (_what, auth, file) => {
  const { vault, files, read } = await start({ auth })
  await read()
  await files.write(file, 'next-1')
  vault.accepts.jwt.jwts = ['next-1']
  vault.accepts.approle.secretIds = ['next-1']
  expect(await read()).toBe(GOOD.password)
  vault.revokeAll()
  expect(await read()).toBe(GOOD.password)
  expect(vault.logIns()).toBe(2)
})

describe('a token in a file', () => {
  async function startWithToken(clock = movableClock()) {
    const rig = await start({ auth: tokenFile }, clock)
    const put = (token = rig.vault.issue()) => rig.files.write('token', `${token}\n`)
    await put()
    return { rig, put, clock }
  }
  const shown = ({ vault }: VaultRig) => vault.server.seen.at(-1)?.headers['x-vault-token']

  test('is used as it is, and looked up once', async () => {
    const { rig } = await startWithToken()
    expect(await rig.read()).toBe(GOOD.password)
    await rig.read()
    expect(rig.vault.requests('auth/token/lookup-self')).toBe(1)
    expect(rig.vault.logIns()).toBe(0)
  })

  test('is replaced as soon as the file is', async () => {
    const { rig, put } = await startWithToken()
    await rig.read()
    const before = shown(rig)
    await put()
    expect(await rig.read()).toBe(GOOD.password)
    expect(shown(rig)).not.toBe(before)
  })

  test('is renewed before it ends, and not revoked at the end', async () => {
    const { rig, clock } = await startWithToken()
    await rig.read()
    await clock.advance(2_400_000)
    await vi.waitFor(() => expect(rig.vault.requests('auth/token/renew-self')).toBe(1))
    await rig.provider[Symbol.asyncDispose]()
    expect(rig.vault.requests('auth/token/revoke-self')).toBe(0)
  })

  test('that was revoked is reported, without asking again and again, until there is another', async () => {
    const { rig, put } = await startWithToken()
    await rig.read()
    rig.vault.revokeAll()
    for (let index = 0; index < 20; index += 1) {
      expect(await failure(rig.read(), 'STORE_DENIED')).toMatchObject({ reason: 'expired' })
    }
    expect(rig.vault.requests('auth/token/lookup-self')).toBeLessThan(5)
    await put()
    expect(await rig.read()).toBe(GOOD.password)
  })

  test('that may not look itself up is used all the same', async () => {
    const { rig } = await startWithToken()
    rig.vault.forbid('auth/token/')
    expect(await rig.read()).toBe(GOOD.password)
  })

  test('is not guessed at when the file is gone', async () => {
    const { rig } = await startWithToken()
    await rig.read()
    await rm(rig.files.path('token'))
    expect((await failure(rig.read(), 'STORE_DENIED')).message).toContain('no such file')
  })

  test.each([
    ['two words', 'pa55 Kanari'],
    ['two lines', 'pa55\nX-Evil: Kanari'],
    ['nothing', '\n'],
    ['what is no ASCII', 'pa55-Kanärí'],
  ])('that is %s is refused and shown nowhere', async (_what, text) => {
    const { rig } = await startWithToken()
    await rig.files.write('token', text)
    const error = await failure(rig.read(), 'STORE_DENIED')
    expect(printed(error)).not.toMatch(/pa55|Kan/)
    expect(rig.vault.server.seen).toEqual([])
  })

  test('that others can read is refused, unless the option allows it', async () => {
    const { rig } = await startWithToken()
    await chmod(rig.files.path('token'), 0o640)
    expect((await failure(rig.read(), 'STORE_DENIED')).hint).toContain('allowReadable')
    await rig[Symbol.asyncDispose]()
    const lax = await start({ auth: tokenFile, options: { allowReadable: true } })
    await lax.files.write('token', lax.vault.issue(), 0o640)
    expect(await lax.read()).toBe(GOOD.password)
  })
})

describe('the life of a token', () => {
  test('goes on by renewals while nobody reads, and its log-in stays the only one', async () => {
    const clock = movableClock()
    const { vault, read } = await start({}, clock)
    await read()
    for (let renewals = 1; renewals <= 5; renewals += 1) {
      await clock.advance(2_400_000)
      await vi.waitFor(() => expect(vault.requests('auth/token/renew-self')).toBe(renewals))
    }
    expect(await read()).toBe(GOOD.password)
    expect(vault.logIns()).toBe(1)
  })

  test('is not taken for renewed by an answer that is none: it is tried again, and said so once', async () => {
    const clock = movableClock()
    const { vault, lines, read } = await start({}, clock)
    await read()
    vault.server.fail('not-json', ({ path }) => path.endsWith('renew-self'))
    for (const [index, seconds] of [2_400, 400, 270].entries()) {
      await clock.advance(seconds * 1_000)
      await vi.waitFor(() => expect(lines).toHaveLength(index + 1))
    }
    expect(lines.map(({ level }) => level)).toEqual(['warn', 'debug', 'debug'])
    expect(lines[0]).toMatchObject({ provider: 'vault', code: 'STORE_UNAVAILABLE', reason: 'protocol' })
    vault.server.fail()
    await clock.advance(180_000)
    await vi.waitFor(() => expect(vault.requests('auth/token/renew-self')).toBe(4))
    expect(await read()).toBe(GOOD.password)
    expect(vault.logIns()).toBe(1)
  })

  test('ends at its greatest age: a log-in follows before that, and the old one is given back', async () => {
    const clock = movableClock()
    const { vault, read } = await start({}, clock)
    vault.issues.maxTtl = 3_900
    await read()
    await clock.advance(2_400_000)
    await vi.waitFor(() => expect(vault.requests('auth/token/renew-self')).toBe(1))
    await clock.advance(1_000_000)
    await vi.waitFor(() => expect([...vault.tokens.values()].map(({ revoked }) => revoked)).toEqual([true, false]))
    expect(vault.logIns()).toBe(2)
    expect(await read()).toBe(GOOD.password)
  })

  test('of a batch token is not prolonged: the next one is logged in for, and none is given back', async () => {
    const clock = movableClock()
    const { vault, read, provider } = await start({}, clock)
    vault.issues.batch = true
    await read()
    await clock.advance(2_400_000)
    await vi.waitFor(() => expect(vault.logIns()).toBe(2))
    await provider[Symbol.asyncDispose]()
    expect(vault.server.seen.some(({ path }) => /re(?:new|voke)-self/.test(path))).toBe(false)
  })

  test('of a token for two requests is short: log-ins come ever more slowly', async () => {
    const clock = movableClock()
    const { vault, read } = await start({ options: { kvVersion: 2 } }, clock)
    vault.issues.uses = 1
    let served = 0
    for (let second = 0; second < 300; second += 1) {
      await read().then(
        () => (served += 1),
        () => {},
      )
      await clock.advance(1_000)
    }
    expect(served).toBeGreaterThan(5)
    expect(vault.logIns()).toBeLessThan(15)
  })

  test('ends with the provider: the token is revoked', async () => {
    const { vault, provider, read } = await start()
    await read()
    await provider[Symbol.asyncDispose]()
    expect([...vault.tokens.values()].map(({ revoked }) => revoked)).toEqual([true])
  })
})

test('nothing that is held, logged or thrown shows a token or what a log-in sent', async () => {
  const { provider, vault, lines, read } = await start({ auth: approle })
  await read()
  const secrets = /kanari|secret-1/i
  expect(printed(provider)).not.toMatch(secrets)
  vault.server.fail({ status: 400, body: { errors: ['pa55-Kanari secret-1'] } })
  vault.revokeAll()
  expect(printed(await rejection(read()))).not.toMatch(secrets)
  expect(printed(lines)).not.toMatch(secrets)
})

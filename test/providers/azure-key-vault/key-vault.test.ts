import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { describe, expect, test, vi } from 'vitest'
import type { ErrorCode, Reason } from '../../../src/base/errors.ts'
import { azureKeyVault } from '../../../src/providers/azure-key-vault/index.ts'
import { printed } from '../../contract/printed.ts'
import { failure } from '../../contract/provider-contract.ts'
import { context, text, useKeyVault } from './rig.ts'
import { azureFixture } from './stand-in.ts'

const at = useKeyVault()

describe('a secret', () => {
  test('is asked for by its name, its URI or the input of the plug-in', async () => {
    const { vault, options } = at.fixture
    vault.put('one', text('pw'))
    const uri = `${options.vault}/secrets/one`
    for (const secret of ['one', uri, `SecretUri=${uri}`]) expect(await at.passwordOf(secret)).toBe('pw')
    expect(new Set(vault.reads())).toEqual(new Set(['/secrets/one/?api%2Dversion=7.4']))
  })

  test('of a vault that is not configured is not asked for, nor is a token sent there', async () => {
    const other = await azureFixture()
    await failure(at.passwordOf(`${other.options.vault}/secrets/one`), 'ACCOUNT_NOT_FOUND')
    expect(other.vault.server.seen).toEqual([])
    await other[Symbol.asyncDispose]()
  })

  test('of another configured vault is read there', async () => {
    const other = await azureFixture()
    await writeFile(at.fixture.options.ca, at.fixture.vault.server.ca + other.vault.server.ca)
    other.vault.put('one', text('there'))
    await at.reopen({ otherVaults: [other.options.vault] })
    // It has no way to know tokens of the first stand-in; that it is asked is enough.
    await failure(at.passwordOf(`${other.options.vault}/secrets/one`), 'STORE_DENIED')
    expect(other.vault.reads()).not.toEqual([])
    await other[Symbol.asyncDispose]()
  })

  test('without a value is malformed', async () => {
    at.fixture.vault.server.fail(
      { status: 200, body: { id: `${at.fixture.options.vault}/secrets/one/a` } },
      ({ path }) => path.startsWith('/secrets/'),
    )
    expect((await failure(at.passwordOf(), 'MATERIAL_MALFORMED')).message).toContain('has no value')
  })
})

describe('versions', () => {
  test('the latest is read, a pinned one stays', async () => {
    const first = at.fixture.vault.put('one', text('first'))
    at.fixture.vault.put('one', text('second'))
    expect(await at.passwordOf()).toBe('second')
    expect(await at.passwordOf('one', { version: first })).toBe('first')
    expect(await at.passwordOf(`${at.fixture.options.vault}/secrets/one/${first}`)).toBe('first')
    await failure(at.passwordOf('one', { version: 'f'.repeat(32) }), 'ACCOUNT_NOT_FOUND')
    await failure(at.passwordOf('one', { version: first }, 'previous'), 'ACCOUNT_NOT_FOUND')
  })

  test('P4: the one before is the newest enabled one, wherever it stands in the list', async () => {
    const { vault } = at.fixture
    vault.put('one', text('latest'), { created: 1_900_000_000 })
    await failure(at.passwordOf('one', {}, 'previous'), 'ACCOUNT_NOT_FOUND')
    vault.put('one', text('oldest'), { created: 1_600_000_000 })
    vault.put('one', text('disabled'), { created: 1_890_000_000, enabled: false })
    vault.put('one', text('previous'), { created: 1_880_000_000 })
    vault.put('one', text('older'), { created: 1_700_000_000 })
    expect(await at.passwordOf('one', {}, 'previous')).toBe('previous')
    expect(await at.passwordOf()).toBe('latest')
  })

  test('without the right to list them there is none before, and the reason is told', async () => {
    at.fixture.vault.put('one', text('first'))
    at.fixture.vault.put('one', text('second'))
    at.fixture.vault.mayList = false
    const error = await failure(at.passwordOf('one', {}, 'previous'), 'ACCOUNT_NOT_FOUND')
    expect(error.message).toBe('the vault does not let us list the versions of the secret of account web01')
  })

  test('an outage is not the absence of one before', async () => {
    await at.passwordOf().catch(() => {})
    await at.fixture.vault.server.stop()
    await failure(at.passwordOf('one', {}, 'previous'), 'STORE_UNAVAILABLE')
  })
})

describe('a refusal', () => {
  test.each<[string, ErrorCode, Reason | undefined, string]>([
    ['ForbiddenByRbac', 'STORE_DENIED', 'not-permitted', 'does not let us read'],
    ['ForbiddenByPolicy', 'STORE_DENIED', 'not-permitted', 'does not let us read'],
    ['AccessDenied', 'STORE_DENIED', 'not-permitted', 'does not let us read'],
    ['ForbiddenByFirewall', 'STORE_DENIED', 'refused', 'does not take calls from here'],
    ['SecretDisabled', 'ACCOUNT_NOT_FOUND', undefined, 'but disabled'],
  ])('%s is %s', async (inner, code, reason, said) => {
    at.fixture.vault.forbidden = inner
    const error = await failure(at.passwordOf(), code)
    expect(error.reason).toBe(reason)
    expect(error.message).toContain(`vault localhost:${at.fixture.vault.server.port}`)
    expect(error.message).toContain(said)
    expect(printed(error)).not.toContain('pa55')
  })

  test('of one secret, disabled as it is, says nothing against the others', async () => {
    at.fixture.vault.put('one', text('pw'), { enabled: false })
    at.fixture.vault.put('two', text('pw'))
    expect((await failure(at.passwordOf(), 'ACCOUNT_NOT_FOUND')).message).toContain('disabled')
    expect(await at.passwordOf('two')).toBe('pw')
  })

  test('of the right to read does not fail the probe, one of our network or our token does', async () => {
    const probe = () => at.provider.probe(AbortSignal.timeout(5_000))
    await probe()
    at.fixture.vault.forbidden = 'ForbiddenByRbac'
    await probe()
    at.fixture.vault.forbidden = 'ForbiddenByFirewall'
    await failure(probe(), 'STORE_DENIED')
    at.fixture.vault.server.fail({ status: 401, body: {} }, ({ path }) => path.startsWith('/secrets/'))
    await failure(probe(), 'STORE_DENIED')
  })

  test('in a challenge for somebody else: no token is asked for, and none is sent', async () => {
    at.fixture.vault.put('one', text('pw'))
    for (const audience of ['https://graph.microsoft.com', 'https://vault.azure.net.evil.example']) {
      at.fixture.vault.audience = audience
      const error = await failure(at.passwordOf(), 'STORE_DENIED')
      expect(error.message).toContain('a token that is not for vaults of this cloud')
    }
    expect(at.fixture.vault.issued).toEqual([])
    expect(at.fixture.vault.server.seen.some(({ headers }) => headers['authorization'])).toBe(false)
  })

  test('by a redirect is an answer that makes no sense: nobody is followed', async () => {
    const other = await azureFixture()
    at.fixture.vault.server.fail({ status: 307, headers: { location: other.options.vault } }, ({ path }) =>
      path.startsWith('/secrets/'),
    )
    expect((await failure(at.passwordOf(), 'STORE_UNAVAILABLE')).reason).toBe('protocol')
    expect(other.vault.server.seen).toEqual([])
    await other[Symbol.asyncDispose]()
  })

  test('of the moment is not tried again in here: that is the affair of the broker', async () => {
    for (const status of [408, 429, 500, 503]) {
      at.fixture.vault.server.fail({ status, body: {} }, ({ path }) => path.startsWith('/secrets/'))
      const before = at.fixture.vault.reads().length
      await failure(at.passwordOf(), 'STORE_UNAVAILABLE')
      expect(at.fixture.vault.reads()).toHaveLength(before + 1)
    }
  })
})

describe('options', () => {
  test.each<[string, object, string]>([
    [
      'what the method needs is missing',
      { method: 'client-secret', clientId: 'a' },
      'needs tenantId, clientSecretFile',
    ],
    ['what the method does not know', { method: 'managed-identity', tenantId: 'a' }, 'does not know tenantId'],
    ['two ids of a managed identity', { method: 'managed-identity', clientId: 'a', objectId: 'b' }, 'takes one id'],
  ])('%s', async (_, auth, said) => {
    const error = await failure(azureKeyVault.open('akv', { vault: 'contoso', auth }, context), 'CONFIG_INVALID')
    expect(error.message).toContain(`providers.akv.auth: `)
    expect(error.message).toContain(said)
  })

  test.each(['http://login.example', 'http://localhost:1', 'login'])('authority %s is refused', async (authority) => {
    await failure(azureKeyVault.open('akv', { vault: 'contoso', authority }, context), 'CONFIG_INVALID')
  })
})

describe('the proxy of the environment', () => {
  test('is used, and not for what NO_PROXY names', async () => {
    const asked: string[] = []
    const proxy = createServer().on('connect', ({ url = '' }, socket) => {
      asked.push(url)
      const far = connect(Number(url.split(':')[1]), '127.0.0.1')
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      for (const each of [socket, far]) each.on('error', () => {})
      socket.pipe(far).pipe(socket)
    })
    await once(proxy.listen(0, '127.0.0.1'), 'listening')
    const { vault } = at.fixture
    vault.put('one', text('pw'))
    vi.stubEnv('HTTPS_PROXY', `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`)
    await at.reopen({})
    expect(await at.passwordOf()).toBe('pw')
    expect(new Set(asked)).toEqual(new Set([`localhost:${vault.server.port}`]))
    vi.stubEnv('NO_PROXY', 'localhost')
    asked.length = 0
    await at.reopen({})
    expect(await at.passwordOf()).toBe('pw')
    expect(asked).toEqual([])
    proxy.close()
    proxy.closeAllConnections()
  })
})

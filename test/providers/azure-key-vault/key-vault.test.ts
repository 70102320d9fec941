import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import type { ErrorCode, Reason } from '../../../src/base/errors.ts'
import { silentLog } from '../../../src/base/log.ts'
import { azureKeyVault } from '../../../src/providers/azure-key-vault/index.ts'
import type { Account, Provider } from '../../../src/providers/provider.ts'
import { printed } from '../../contract/printed.ts'
import { failure } from '../../contract/provider-contract.ts'
import { makeCa } from '../../fakes/pki.ts'
import { type AzureFixture, azureFixture } from './stand-in.ts'

const context = { log: silentLog, clock: systemClock }
const text = (password: string) => `AD\\svc:${password}`

let fixture: AzureFixture
let provider: Provider

beforeEach(async () => {
  fixture = await azureFixture()
  provider = await fixture.open(context)
})
afterEach(async () => {
  vi.useRealTimers()
  await provider[Symbol.asyncDispose]()
  await fixture[Symbol.asyncDispose]()
})

async function passwordOf(secret = 'one', options: Account['options'] = {}, which: 'reads' | 'previous' = 'reads') {
  const read = which === 'reads' ? provider.reads.credential : provider.readPrevious
  const credential = await read?.({ name: 'web01', secret, options }, AbortSignal.timeout(10_000))
  return credential?.password.revealText()
}

/** Opens another provider in place of the fixture's. */
async function reopen(more: Readonly<Record<string, unknown>>): Promise<void> {
  await provider[Symbol.asyncDispose]()
  provider = await azureKeyVault.open('akv', { ...fixture.options, ...more }, context)
}

describe('a secret', () => {
  test('is asked for by its name, its URI or the input of the plug-in', async () => {
    const { vault, options } = fixture
    vault.put('one', text('pw'))
    const uri = `${options.vault}/secrets/one`
    for (const secret of ['one', uri, `SecretUri=${uri}`]) expect(await passwordOf(secret)).toBe('pw')
    expect(new Set(vault.reads())).toEqual(new Set(['/secrets/one/?api%2Dversion=7.4']))
  })

  test('of a vault that is not configured is not asked for, nor is a token sent there', async () => {
    const other = await azureFixture()
    await failure(passwordOf(`${other.options.vault}/secrets/one`), 'ACCOUNT_NOT_FOUND')
    expect(other.vault.server.seen).toEqual([])
    await other[Symbol.asyncDispose]()
  })

  test('of another configured vault is read there', async () => {
    const other = await azureFixture()
    await writeFile(fixture.options.ca, fixture.vault.server.ca + other.vault.server.ca)
    other.vault.put('one', text('there'))
    await reopen({ otherVaults: [other.options.vault] })
    // It has no way to know tokens of the first stand-in; that it is asked is enough.
    await failure(passwordOf(`${other.options.vault}/secrets/one`), 'STORE_DENIED')
    expect(other.vault.reads()).not.toEqual([])
    await other[Symbol.asyncDispose]()
  })

  test('without a value is malformed', async () => {
    fixture.vault.server.fail({ status: 200, body: { id: `${fixture.options.vault}/secrets/one/a` } }, ({ path }) =>
      path.startsWith('/secrets/'),
    )
    expect((await failure(passwordOf(), 'MATERIAL_MALFORMED')).message).toContain('has no value')
  })
})

describe('versions', () => {
  test('the latest is read, a pinned one stays', async () => {
    const first = fixture.vault.put('one', text('first'))
    fixture.vault.put('one', text('second'))
    expect(await passwordOf()).toBe('second')
    expect(await passwordOf('one', { version: first })).toBe('first')
    expect(await passwordOf(`${fixture.options.vault}/secrets/one/${first}`)).toBe('first')
    await failure(passwordOf('one', { version: 'f'.repeat(32) }), 'ACCOUNT_NOT_FOUND')
    await failure(passwordOf('one', { version: first }, 'previous'), 'ACCOUNT_NOT_FOUND')
  })

  test('P4: the one before is the newest enabled one, wherever it stands in the list', async () => {
    const { vault } = fixture
    vault.put('one', text('latest'), { created: 1_900_000_000 })
    await failure(passwordOf('one', {}, 'previous'), 'ACCOUNT_NOT_FOUND')
    vault.put('one', text('oldest'), { created: 1_600_000_000 })
    vault.put('one', text('disabled'), { created: 1_890_000_000, enabled: false })
    vault.put('one', text('previous'), { created: 1_880_000_000 })
    vault.put('one', text('older'), { created: 1_700_000_000 })
    expect(await passwordOf('one', {}, 'previous')).toBe('previous')
    expect(await passwordOf()).toBe('latest')
  })

  test('without the right to list them there is none before, and the reason is told', async () => {
    fixture.vault.put('one', text('first'))
    fixture.vault.put('one', text('second'))
    fixture.vault.mayList = false
    const error = await failure(passwordOf('one', {}, 'previous'), 'ACCOUNT_NOT_FOUND')
    expect(error.message).toBe('the vault does not let us list the versions of the secret of account web01')
  })

  test('an outage is not the absence of one before', async () => {
    await passwordOf().catch(() => {})
    await fixture.vault.server.stop()
    await failure(passwordOf('one', {}, 'previous'), 'STORE_UNAVAILABLE')
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
    fixture.vault.forbidden = inner
    const error = await failure(passwordOf(), code)
    expect(error.reason).toBe(reason)
    expect(error.message).toContain(`vault localhost:${fixture.vault.server.port}`)
    expect(error.message).toContain(said)
    expect(printed(error)).not.toContain('pa55')
  })

  test('of one secret, disabled as it is, says nothing against the others', async () => {
    fixture.vault.put('one', text('pw'), { enabled: false })
    fixture.vault.put('two', text('pw'))
    expect((await failure(passwordOf(), 'ACCOUNT_NOT_FOUND')).message).toContain('disabled')
    expect(await passwordOf('two')).toBe('pw')
  })

  test('of the right to read does not fail the probe, one of our network or our token does', async () => {
    const probe = () => provider.probe(AbortSignal.timeout(5_000))
    await probe()
    fixture.vault.forbidden = 'ForbiddenByRbac'
    await probe()
    fixture.vault.forbidden = 'ForbiddenByFirewall'
    await failure(probe(), 'STORE_DENIED')
    fixture.vault.server.fail({ status: 401, body: {} }, ({ path }) => path.startsWith('/secrets/'))
    await failure(probe(), 'STORE_DENIED')
  })

  test('in a challenge for somebody else: no token is asked for, and none is sent', async () => {
    fixture.vault.put('one', text('pw'))
    for (const audience of ['https://graph.microsoft.com', 'https://vault.azure.net.evil.example']) {
      fixture.vault.audience = audience
      const error = await failure(passwordOf(), 'STORE_DENIED')
      expect(error.message).toContain('a token that is not for vaults of this cloud')
    }
    expect(fixture.vault.issued).toEqual([])
    expect(fixture.vault.server.seen.some(({ headers }) => headers['authorization'])).toBe(false)
  })

  test('by a redirect is an answer that makes no sense: nobody is followed', async () => {
    const other = await azureFixture()
    fixture.vault.server.fail({ status: 307, headers: { location: other.options.vault } }, ({ path }) =>
      path.startsWith('/secrets/'),
    )
    expect((await failure(passwordOf(), 'STORE_UNAVAILABLE')).reason).toBe('protocol')
    expect(other.vault.server.seen).toEqual([])
    await other[Symbol.asyncDispose]()
  })

  test('of the moment is not tried again in here: that is the affair of the broker', async () => {
    for (const status of [408, 429, 500, 503]) {
      fixture.vault.server.fail({ status, body: {} }, ({ path }) => path.startsWith('/secrets/'))
      const before = fixture.vault.reads().length
      await failure(passwordOf(), 'STORE_UNAVAILABLE')
      expect(fixture.vault.reads()).toHaveLength(before + 1)
    }
  })
})

describe('a token', () => {
  beforeEach(() => void fixture.vault.put('one', text('pw')))

  test('is asked for once for many reads', async () => {
    await Promise.all(Array.from({ length: 20 }, () => passwordOf()))
    expect(fixture.vault.issued).toHaveLength(1)
  })

  test('is renewed before it ends, and no read meets an ended one', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    await passwordOf()
    for (let minute = 0; minute < 180; minute++) {
      vi.setSystemTime(Date.now() + 60_000)
      expect(await passwordOf()).toBe('pw')
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    expect(fixture.vault.issued.length).toBeGreaterThanOrEqual(3)
    expect(fixture.vault.issued.length).toBeLessThanOrEqual(6)
    // One challenge at the very start, and none after.
    expect(fixture.vault.reads()).toHaveLength(182)
  })

  test('is found anew when the clock has stepped, forward or back', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    await passwordOf()
    vi.setSystemTime(Date.now() + 7_200_000)
    expect(await passwordOf()).toBe('pw')
    // Back: by this clock the token is good for hours, by that of the vault it has ended.
    vi.setSystemTime(Date.now() - 86_400_000)
    fixture.vault.withdrawTokens()
    expect(await passwordOf()).toBe('pw')
  })

  test('that stays refused is not asked for again and again', async () => {
    await passwordOf()
    fixture.vault.server.fail({ status: 401, body: {} }, ({ path }) => path.startsWith('/secrets/'))
    for (let count = 0; count < 10; count++) await failure(passwordOf(), 'STORE_DENIED')
    expect(fixture.vault.issued.length).toBeLessThanOrEqual(2)
  })
})

describe('the service that gives tokens', () => {
  const atEntra = ({ path }: { path: string }) => path.includes('/oauth2/')
  const entra = (number: number) => ({
    status: 401,
    body: { error: 'invalid_client', error_description: `AADSTS${number}: pa55 Trace ID: x`, error_codes: [number] },
  })

  test.each<[number, ErrorCode, Reason]>([
    [7000215, 'STORE_DENIED', 'bad-password'],
    [7000222, 'STORE_DENIED', 'expired'],
    [7000112, 'STORE_DENIED', 'disabled'],
    [700016, 'STORE_DENIED', 'not-found'],
    [90002, 'STORE_DENIED', 'not-found'],
    [700213, 'STORE_DENIED', 'not-permitted'],
    [700024, 'STORE_UNAVAILABLE', 'clock'],
    [99999, 'STORE_DENIED', 'not-permitted'],
  ])('says AADSTS%i: %s, %s', async (number, code, reason) => {
    fixture.vault.server.fail(entra(number), atEntra)
    const error = await failure(passwordOf(), code)
    expect(error.reason).toBe(reason)
    expect(error.message).toMatch(/^the service that gives tokens .*: a token for the vault$/)
    await failure(provider.probe(AbortSignal.timeout(5_000)), code)
    await failure(passwordOf('one', {}, 'previous'), code)
    expect(printed(error)).not.toContain('pa55')
    fixture.vault.server.fail()
    await failure(passwordOf(), 'ACCOUNT_NOT_FOUND')
  })

  test.each([
    [{ status: 500, body: 'pa55' }, undefined, undefined],
    [{ status: 429, headers: { 'retry-after': '7' }, body: { error: 'x' } }, undefined, 7],
    ['reset', 'protocol', undefined],
    ['truncated', 'protocol', undefined],
    ['not-json', undefined, undefined],
    ['oversized', 'protocol', undefined],
  ] as const)('fails: %j', async (how, reason, retryAfter) => {
    vi.useFakeTimers({ toFake: ['Date'] })
    fixture.vault.server.fail(how, atEntra)
    const error = await failure(passwordOf(), 'STORE_UNAVAILABLE')
    expect(error.message).toContain('the service that gives tokens')
    expect(error.retryAfter).toBe(retryAfter)
    expect(error.reason).toBe(reason)
    expect(printed(error)).not.toContain('pa55')
    fixture.vault.server.fail()
    // The library itself does not ask before its time.
    if (retryAfter) await failure(passwordOf(), 'STORE_UNAVAILABLE')
    vi.setSystemTime(Date.now() + 8_000)
    await failure(passwordOf(), 'ACCOUNT_NOT_FOUND')
  })

  test('is not asked for another tenant than ours', async () => {
    const challenge = 'Bearer authorization="https://localhost/other-tenant", resource="https://vault.azure.net"'
    fixture.vault.server.fail({ status: 401, headers: { 'www-authenticate': challenge }, body: {} }, ({ path }) =>
      path.startsWith('/secrets/'),
    )
    const error = await failure(passwordOf(), 'STORE_DENIED')
    expect(error).toMatchObject({ reason: 'not-permitted', message: expect.stringContaining('another tenant') })
  })
})

describe('an application', () => {
  beforeEach(() => void fixture.vault.put('one', text('pw')))

  test('whose client secret was replaced in its file is known by the new one', async () => {
    const { auth } = fixture.options
    expect(await passwordOf()).toBe('pw')
    const id = auth['clientId'] ?? ''
    fixture.vault.principals.set(id, { secret: 'next' })
    fixture.vault.withdrawTokens()
    expect((await failure(passwordOf(), 'STORE_DENIED')).reason).toBe('bad-password')
    await writeFile(auth['clientSecretFile'] ?? '', 'next')
    expect(await passwordOf()).toBe('pw')
  })

  test.skipIf(process.platform === 'win32')('whose client secret others can read is refused', async () => {
    await chmod(fixture.options.auth['clientSecretFile'] ?? '', 0o644)
    expect((await failure(passwordOf(), 'STORE_DENIED')).hint).toContain('chmod 600')
  })

  test('whose client secret is gone says which file', async () => {
    await reopen({ auth: { ...fixture.options.auth, clientSecretFile: join(fixture.folder, 'none') } })
    expect(await failure(passwordOf(), 'STORE_DENIED')).toMatchObject({ reason: 'not-found' })
  })

  test('may show a certificate, whose file may be replaced', async () => {
    const { vault, folder } = fixture
    const ca = await makeCa()
    const file = join(folder, 'application.pem')
    const clientId = randomUUID()
    const enrol = async () => {
      const { certificate, key } = await ca.issue({ key: 'rsa' })
      vault.principals.set(clientId, { certificate })
      await writeFile(file, certificate + key, { mode: 0o600 })
    }
    await enrol()
    await reopen({ auth: { method: 'client-certificate', tenantId: vault.tenant, clientId, certificate: file } })
    expect(await passwordOf()).toBe('pw')
    await enrol()
    vault.withdrawTokens()
    expect(await passwordOf()).toBe('pw')
    expect(vault.issued).toEqual([clientId, clientId])
  })
})

describe('a workload identity', () => {
  test('shows the token of its file, which is read again', async () => {
    const { vault, folder } = fixture
    vault.put('one', text('pw'))
    const file = join(folder, 'token')
    const clientId = randomUUID()
    const enrol = async (assertion: string) => {
      vault.principals.set(clientId, { assertion })
      await writeFile(file, assertion)
    }
    await enrol('first')
    vi.stubEnv('AZURE_FEDERATED_TOKEN_FILE', file)
    vi.stubEnv('AZURE_CLIENT_ID', clientId)
    vi.stubEnv('AZURE_TENANT_ID', vault.tenant)
    for (const auth of [{ method: 'workload-identity' }, undefined]) {
      await reopen({ auth })
      expect(await passwordOf()).toBe('pw')
      await enrol(randomUUID())
      vault.withdrawTokens()
      expect(await passwordOf()).toBe('pw')
    }
    expect(new Set(vault.issued)).toEqual(new Set([clientId]))
  })

  test('that is configured nowhere says so', async () => {
    await reopen({ auth: { method: 'workload-identity' } })
    expect(await failure(passwordOf(), 'STORE_DENIED')).toMatchObject({ reason: 'not-found' })
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
    const { vault } = fixture
    vault.put('one', text('pw'))
    vi.stubEnv('HTTPS_PROXY', `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`)
    await reopen({})
    expect(await passwordOf()).toBe('pw')
    expect(new Set(asked)).toEqual(new Set([`localhost:${vault.server.port}`]))
    vi.stubEnv('NO_PROXY', 'localhost')
    asked.length = 0
    await reopen({})
    expect(await passwordOf()).toBe('pw')
    expect(asked).toEqual([])
    proxy.close()
    proxy.closeAllConnections()
  })
})

import { randomUUID } from 'node:crypto'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import type { ErrorCode, Reason } from '../../../src/base/errors.ts'
import { printed } from '../../contract/printed.ts'
import { failure } from '../../contract/provider-contract.ts'
import { makeCa } from '../../fakes/pki.ts'
import { text, useKeyVault } from './rig.ts'

const at = useKeyVault()

describe('a token', () => {
  beforeEach(() => void at.fixture.vault.put('one', text('pw')))

  test('is asked for once for many reads', async () => {
    await Promise.all(Array.from({ length: 20 }, () => at.passwordOf()))
    expect(at.fixture.vault.issued).toHaveLength(1)
  })

  test('is renewed before it ends, and no read meets an ended one', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    await at.passwordOf()
    for (let minute = 0; minute < 180; minute++) {
      vi.setSystemTime(Date.now() + 60_000)
      expect(await at.passwordOf()).toBe('pw')
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    expect(at.fixture.vault.issued.length).toBeGreaterThanOrEqual(3)
    expect(at.fixture.vault.issued.length).toBeLessThanOrEqual(6)
    // One challenge at the very start, and none after.
    expect(at.fixture.vault.reads()).toHaveLength(182)
  })

  test('is found anew when the clock has stepped, forward or back', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    await at.passwordOf()
    vi.setSystemTime(Date.now() + 7_200_000)
    expect(await at.passwordOf()).toBe('pw')
    // Back: by this clock the token is good for hours, by that of the vault it has ended.
    vi.setSystemTime(Date.now() - 86_400_000)
    at.fixture.vault.withdrawTokens()
    expect(await at.passwordOf()).toBe('pw')
  })

  test('that stays refused is not asked for again and again', async () => {
    await at.passwordOf()
    at.fixture.vault.server.fail({ status: 401, body: {} }, ({ path }) => path.startsWith('/secrets/'))
    for (let count = 0; count < 10; count++) await failure(at.passwordOf(), 'STORE_DENIED')
    expect(at.fixture.vault.issued.length).toBeLessThanOrEqual(2)
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
    at.fixture.vault.server.fail(entra(number), atEntra)
    const error = await failure(at.passwordOf(), code)
    expect(error.reason).toBe(reason)
    expect(error.message).toMatch(/^the service that gives tokens .*: a token for the vault$/)
    await failure(at.provider.probe(AbortSignal.timeout(5_000)), code)
    await failure(at.passwordOf('one', {}, 'previous'), code)
    expect(printed(error)).not.toContain('pa55')
    at.fixture.vault.server.fail()
    await failure(at.passwordOf(), 'ACCOUNT_NOT_FOUND')
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
    at.fixture.vault.server.fail(how, atEntra)
    const error = await failure(at.passwordOf(), 'STORE_UNAVAILABLE')
    expect(error.message).toContain('the service that gives tokens')
    expect(error.retryAfter).toBe(retryAfter)
    expect(error.reason).toBe(reason)
    expect(printed(error)).not.toContain('pa55')
    at.fixture.vault.server.fail()
    // The library itself does not ask before its time.
    if (retryAfter) await failure(at.passwordOf(), 'STORE_UNAVAILABLE')
    vi.setSystemTime(Date.now() + 8_000)
    await failure(at.passwordOf(), 'ACCOUNT_NOT_FOUND')
  })

  test('is not asked for another tenant than ours', async () => {
    const challenge = 'Bearer authorization="https://localhost/other-tenant", resource="https://vault.azure.net"'
    at.fixture.vault.server.fail({ status: 401, headers: { 'www-authenticate': challenge }, body: {} }, ({ path }) =>
      path.startsWith('/secrets/'),
    )
    const error = await failure(at.passwordOf(), 'STORE_DENIED')
    expect(error).toMatchObject({ reason: 'not-permitted', message: expect.stringContaining('another tenant') })
  })
})

describe('an application', () => {
  beforeEach(() => void at.fixture.vault.put('one', text('pw')))

  test('whose client secret was replaced in its file is known by the new one', async () => {
    const { auth } = at.fixture.options
    expect(await at.passwordOf()).toBe('pw')
    const id = auth['clientId'] ?? ''
    at.fixture.vault.principals.set(id, { secret: 'next' })
    at.fixture.vault.withdrawTokens()
    expect((await failure(at.passwordOf(), 'STORE_DENIED')).reason).toBe('bad-password')
    await writeFile(auth['clientSecretFile'] ?? '', 'next')
    expect(await at.passwordOf()).toBe('pw')
  })

  test.skipIf(process.platform === 'win32')('whose client secret others can read is refused', async () => {
    await chmod(at.fixture.options.auth['clientSecretFile'] ?? '', 0o644)
    expect((await failure(at.passwordOf(), 'STORE_DENIED')).hint).toContain('chmod 600')
  })

  test('whose client secret is gone says which file', async () => {
    await at.reopen({ auth: { ...at.fixture.options.auth, clientSecretFile: join(at.fixture.folder, 'none') } })
    expect(await failure(at.passwordOf(), 'STORE_DENIED')).toMatchObject({ reason: 'not-found' })
  })

  test('may show a certificate, whose file may be replaced', async () => {
    const { vault, folder } = at.fixture
    const ca = await makeCa()
    const file = join(folder, 'application.pem')
    const clientId = randomUUID()
    const enrol = async () => {
      const { certificate, key } = await ca.issue({ key: 'rsa' })
      vault.principals.set(clientId, { certificate })
      await writeFile(file, certificate + key, { mode: 0o600 })
    }
    await enrol()
    await at.reopen({ auth: { method: 'client-certificate', tenantId: vault.tenant, clientId, certificate: file } })
    expect(await at.passwordOf()).toBe('pw')
    await enrol()
    vault.withdrawTokens()
    expect(await at.passwordOf()).toBe('pw')
    expect(vault.issued).toEqual([clientId, clientId])
  })
})

describe('a workload identity', () => {
  test('shows the token of its file, which is read again', async () => {
    const { vault, folder } = at.fixture
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
      await at.reopen({ auth })
      expect(await at.passwordOf()).toBe('pw')
      await enrol(randomUUID())
      vault.withdrawTokens()
      expect(await at.passwordOf()).toBe('pw')
    }
    expect(new Set(vault.issued)).toEqual(new Set([clientId]))
  })

  test('that is configured nowhere says so', async () => {
    await at.reopen({ auth: { method: 'workload-identity' } })
    expect(await failure(at.passwordOf(), 'STORE_DENIED')).toMatchObject({ reason: 'not-found' })
  })
})

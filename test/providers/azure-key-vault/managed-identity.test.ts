import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import { azureKeyVault } from '../../../src/providers/azure-key-vault/index.ts'
import type { Provider } from '../../../src/providers/provider.ts'
import { printed } from '../../contract/printed.ts'
import { failure } from '../../contract/provider-contract.ts'
import { type AzureFixture, azureFixture, stubAzureEnvironment } from './stand-in.ts'

/*
 * The library finds the metadata service once in a process, and keeps tokens by identity for as long: one stand-in for
 * all tests of this file, and a new identity for each.
 */

const context = { log: silentLog, clock: systemClock }
let fixture: AzureFixture
let provider: Provider | undefined
let id: string

beforeAll(async () => {
  fixture = await azureFixture()
  fixture.vault.put('one', 'AD\\svc:pw')
})
beforeEach(() => {
  id = randomUUID()
  fixture.vault.principals.set(id, {})
  fixture.vault.issued.length = 0
  stubAzureEnvironment({ AZURE_POD_IDENTITY_AUTHORITY_HOST: fixture.vault.metadata.address })
})
afterEach(async () => {
  fixture.vault.metadata.fail()
  await provider?.[Symbol.asyncDispose]()
  vi.unstubAllEnvs()
})
afterAll(() => fixture[Symbol.asyncDispose]())

async function open(auth: object | undefined): Promise<void> {
  provider = await azureKeyVault.open('akv', { ...fixture.options, auth }, context)
}
async function passwordOf(secret = 'one', limit = 10_000) {
  const account = { name: 'web01', secret, options: {} }
  const credential = await provider?.reads.credential?.(account, AbortSignal.timeout(limit))
  return credential?.password.revealText()
}
const managed = { method: 'managed-identity' }

describe('a managed identity', () => {
  test.each(['objectId', 'clientId', 'resourceId'])('is named by its %s', async (member) => {
    await open({ ...managed, [member]: id })
    expect(await passwordOf()).toBe('pw')
    expect(await passwordOf()).toBe('pw')
    expect(fixture.vault.issued).toEqual([id])
    const asked = fixture.vault.metadata.seen.at(-1)
    expect(asked?.headers['metadata']).toBe('true')
    expect(asked?.headers).not.toHaveProperty('x-forwarded-for')
  })

  test('is the one that an account names, where the provider names none', async () => {
    const secret = `ObjectId=${id};SecretUri=${fixture.options.vault}/secrets/one`
    for (const auth of [managed, undefined, { ...managed, objectId: id.toUpperCase() }]) {
      await open(auth)
      expect(await passwordOf(secret)).toBe('pw')
      await provider?.[Symbol.asyncDispose]()
    }
    expect(new Set(fixture.vault.issued)).toEqual(new Set([id]))
  })

  test('that an account names is refused beside another one of the provider', async () => {
    const secret = `ObjectId=${id};SecretUri=${fixture.options.vault}/secrets/one`
    for (const auth of [{ ...managed, objectId: randomUUID() }, fixture.options.auth]) {
      await open(auth)
      expect((await failure(passwordOf(secret), 'ACCOUNT_NOT_FOUND')).message).toContain('another identity')
      await provider?.[Symbol.asyncDispose]()
    }
    expect(fixture.vault.issued).toEqual([])
  })

  test('two at one time get each their own token', async () => {
    const other = randomUUID()
    fixture.vault.principals.set(other, {})
    await open(undefined)
    const secrets = [id, other].map((each) => `ObjectId=${each};SecretUri=${fixture.options.vault}/secrets/one`)
    expect(await Promise.all(secrets.map((secret) => passwordOf(secret)))).toEqual(['pw', 'pw'])
    expect(fixture.vault.issued.toSorted()).toEqual([id, other].toSorted())
  })

  test('that is not assigned is not there', async () => {
    await open({ ...managed, objectId: randomUUID() })
    const error = await failure(passwordOf(), 'STORE_DENIED')
    expect(error).toMatchObject({ reason: 'not-found', message: expect.stringContaining('no such managed identity') })
    expect(printed(error)).not.toContain('pa55')
  })

  test('is waited for while the metadata service restarts, which may outlast a read', async () => {
    await open({ ...managed, objectId: id })
    fixture.vault.metadata.fail({ status: 410 })
    const reason = await passwordOf('one', 1_000).then(
      () => 'read',
      (error: Error) => error.name,
    )
    expect(reason).toBe('TimeoutError')
    fixture.vault.metadata.fail()
    expect(await passwordOf('one', 20_000)).toBe('pw')
  })

  test('of a metadata service that is out is an outage', async () => {
    await open({ ...managed, objectId: id })
    await fixture.vault.metadata.stop()
    expect((await failure(passwordOf(), 'STORE_UNAVAILABLE')).message).toContain('the service that gives tokens')
    await fixture.vault.metadata.start()
    expect(await passwordOf()).toBe('pw')
  })

  test('outlives the provider that was first to ask as one', async () => {
    for (let count = 0; count < 3; count++) {
      const each = randomUUID()
      fixture.vault.principals.set(each, {})
      await open({ ...managed, objectId: each })
      expect(await passwordOf()).toBe('pw')
      await provider?.[Symbol.asyncDispose]()
    }
    expect(fixture.vault.issued).toHaveLength(3)
  })
})

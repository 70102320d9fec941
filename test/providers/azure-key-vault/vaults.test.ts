import { describe, expect, test } from 'vitest'
import type { Options } from '../../../src/providers/azure-key-vault/schema.ts'
import { configuredVaults } from '../../../src/providers/azure-key-vault/vaults.ts'
import type { Account } from '../../../src/providers/provider.ts'
import { failure } from '../../contract/provider-contract.ts'

const find = (secret: string, more: Partial<Options> = {}, options: Account['options'] = {}) =>
  configuredVaults('akv', { vault: 'contoso', ...more }).find({ name: 'web01', secret, options })
const problem = async (work: () => unknown, code: 'ACCOUNT_NOT_FOUND' | 'CONFIG_INVALID') =>
  failure(
    Promise.try(async () => work()),
    code,
  )
const HOME = 'https://contoso.vault.azure.net'
const VERSION = '0123456789abcdef0123456789abcdef'

describe('the vault of a provider', () => {
  test.each<[Partial<Options>, string]>([
    [{}, HOME],
    [{ vault: 'Contoso' }, HOME],
    [{ cloud: 'us-government' }, 'https://contoso.vault.usgovcloudapi.net'],
    [{ cloud: 'china' }, 'https://contoso.vault.azure.cn'],
    [{ vault: 'https://Vault.Example:8443/' }, 'https://vault.example:8443'],
  ])('%j is at %s', (more, home) => {
    expect(configuredVaults('akv', { vault: 'contoso', ...more }).home).toBe(home)
  })

  test.each(['-contoso', 'a', 'c'.repeat(25), 'http://vault.example', 'http://localhost', 'https://vault.example/x'])(
    '%j is none',
    async (vault) => {
      await problem(() => configuredVaults('akv', { vault }), 'CONFIG_INVALID')
      await problem(() => configuredVaults('akv', { vault: 'contoso', otherVaults: [vault] }), 'CONFIG_INVALID')
    },
  )
})

describe('the secret of an account', () => {
  test.each<[string, object]>([
    ['gmsa', { vault: HOME, name: 'gmsa' }],
    [`${HOME}/secrets/gmsa`, { vault: HOME, name: 'gmsa' }],
    [`${HOME}:443/secrets/gmsa/`, { vault: HOME, name: 'gmsa' }],
    [`${HOME}/secrets/gmsa/${VERSION}`, { vault: HOME, name: 'gmsa', version: VERSION }],
    [`HTTPS://CONTOSO.VAULT.AZURE.NET/secrets/Gmsa`, { vault: HOME, name: 'Gmsa' }],
    [`ObjectId=id;SecretUri=${HOME}/secrets/gmsa`, { vault: HOME, name: 'gmsa', objectId: 'id' }],
  ])('%s', (secret, place) => {
    expect(find(secret)).toEqual(place)
  })

  test('may be pinned to a version, in one place or in both alike', () => {
    const pinned = { vault: HOME, name: 'gmsa', version: VERSION }
    expect(find('gmsa', {}, { version: VERSION })).toEqual(pinned)
    expect(find(`${HOME}/secrets/gmsa/${VERSION}`, {}, { version: VERSION })).toEqual(pinned)
    expect(find('gmsa', {}, { version: null })).toEqual({ vault: HOME, name: 'gmsa' })
  })

  test('may be in another vault that is configured', () => {
    const secret = 'https://fabrikam.vault.azure.net/secrets/gmsa'
    expect(find(secret, { otherVaults: ['fabrikam'] })).toMatchObject({ vault: 'https://fabrikam.vault.azure.net' })
  })

  test.each<[string, string]>([
    ['two words', 'is neither the name nor the URI'],
    ['web01.contoso', 'is neither the name nor the URI'],
    [`"${HOME}/secrets/gmsa"`, 'is neither the name nor the URI'],
    [`SecretUri="${HOME}/secrets/gmsa"`, 'is neither the name nor the URI'],
    ['http://contoso.vault.azure.net/secrets/gmsa', 'is not an https URI'],
    ['https://me:pw@contoso.vault.azure.net/secrets/gmsa', 'is not an https URI'],
    [
      'https://contoso.vault.azure.net.evil.example/secrets/gmsa',
      'is in the vault contoso.vault.azure.net.evil.example',
    ],
    ['https://fabrikam.vault.azure.net/secrets/gmsa', 'is in the vault fabrikam.vault.azure.net'],
    [`${HOME}:8443/secrets/gmsa`, 'is in the vault contoso.vault.azure.net:8443'],
    [`${HOME}/keys/gmsa`, 'is not a URI such as'],
    [`${HOME}/secrets/gmsa/versions/x`, 'is not a URI such as'],
    [`${HOME}/secrets/../keys/gmsa`, 'is not a URI such as'],
    [`${HOME}/secrets/gmsa?api-version=1`, 'is not a URI such as'],
    [`${HOME}/secrets/gmsa#x`, 'is not a URI such as'],
  ])('%s is refused', async (secret, said) => {
    expect((await problem(() => find(secret), 'ACCOUNT_NOT_FOUND')).message).toContain(said)
  })

  test('in two versions is refused', async () => {
    const error = await problem(
      () => find(`${HOME}/secrets/gmsa/${VERSION}`, {}, { version: 'a' }),
      'ACCOUNT_NOT_FOUND',
    )
    expect(error.message).toContain('names one version, and `version` another')
  })
})

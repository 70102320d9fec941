import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../../../src/cli/config.ts'

const folder = mkdtempSync(join(tmpdir(), 'gmsa-akv-config-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** What is wrong with these options of the provider and its account, as paths and messages. */
async function problemsOf(provider: object, account: object = {}): Promise<string[]> {
  const file = join(folder, 'config.json')
  const tls = { certificate: 'a', key: 'b', clientCa: 'c' }
  const providers = { akv: { type: 'azure-key-vault', ...provider } }
  writeFileSync(file, JSON.stringify({ tls, providers, accounts: { web01: { provider: 'akv', ...account } } }))
  const result = await loadConfig({ file, env: {}, cwd: '/' })
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path.replace(/^\w+\./, '')}: ${message}`)
}

describe('the options of a vault', () => {
  test.each<[object]>([
    [{ vault: 'contoso' }],
    [{ vault: 'https://contoso.vault.azure.net', otherVaults: ['fabrikam'], cloud: 'us-government', ca: 'ca.crt' }],
    [{ vault: 'contoso', auth: { method: 'managed-identity', objectId: 'a' } }],
    [{ vault: 'contoso', auth: { method: 'workload-identity' } }],
    [
      {
        vault: 'contoso',
        auth: { method: 'client-secret', tenantId: 'a', clientId: 'b', clientSecretFile: 'secret' },
      },
    ],
  ])('%j are good', async (options) => {
    expect(await problemsOf(options, { version: null })).toEqual([])
    expect(await problemsOf(options, { version: '0123456789abcdef0123456789abcdef' })).toEqual([])
  })

  test('are told with all that is wrong before anything is opened', async () => {
    expect(
      await problemsOf({ cloud: 'german', auth: { method: 'client-secret', tenant: 'a' } }, { version: 5 }),
    ).toEqual([
      'akv.vault: required: expected text',
      'akv.cloud: expected public, us-government or china',
      'akv.auth.tenantId: required: expected text',
      'akv.auth.clientId: required: expected text',
      'akv.auth.clientSecretFile: required: expected a path',
      'akv.auth.tenant: unknown option, did you mean tenantId?',
      'web01.version: expected text that matches ^[A-Za-z0-9]{1,64}$ or null',
    ])
  })

  test('have no place for a secret itself', async () => {
    const auth = { method: 'client-secret', tenantId: 'a', clientId: 'b', clientSecret: 'pa55' }
    const problems = await problemsOf({ vault: 'contoso', auth })
    expect(problems).toEqual([
      'akv.auth.clientSecretFile: required: expected a path',
      'akv.auth.clientSecret: unknown option, did you mean clientSecretFile?',
    ])
  })
})

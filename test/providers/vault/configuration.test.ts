import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import { loadConfig } from '../../../src/cli/config.ts'
import { openVault } from '../../../src/providers/vault/open.ts'
import { failure } from '../../contract/provider-contract.ts'

const folder = mkdtempSync(join(tmpdir(), 'gmsa-vault-'))
afterAll(() => rmSync(folder, { recursive: true }))

const SOUND = { address: 'https://bao:8200', mount: 'kv', auth: { method: 'kubernetes', role: 'gmsa' } }

async function load(options: object, account: object = {}) {
  const file = join(folder, 'gmsa.json')
  const tls = { certificate: 'tls.crt', key: 'tls.key', clientCa: 'ca.crt' }
  const providers = { vault: { type: 'vault', ...SOUND, ...options } }
  writeFileSync(file, JSON.stringify({ tls, providers, accounts: { web: { provider: 'vault', ...account } } }))
  return loadConfig({ file, env: {}, cwd: '/' })
}

/** Each problem with the options, as `path: message`. */
async function problems(options: object, account: object = {}): Promise<string[]> {
  const result = await load(options, account)
  return result.ok
    ? []
    : result.problems.map(({ path, message }) => `${path.replace('providers.vault.', '')}: ${message}`)
}

describe('the options of the vault provider', () => {
  test.each([
    {},
    {
      address: 'https://proxy.example.com/vault',
      namespace: 'team/eu',
      mount: 'team/kv',
      kvVersion: 1,
      prefix: 'gmsa',
    },
    { ca: 'ca.crt', allowReadable: true },
    { auth: { method: 'kubernetes', role: 'gmsa', mount: 'clusters/eu', tokenFile: 'jwt' } },
    { auth: { method: 'approle', roleId: 'id', secretIdFile: 'secret-id' } },
    { auth: { method: 'approle', roleIdFile: 'role-id', secretIdFile: 'secret-id' } },
    { auth: { method: 'jwt', role: 'gmsa', tokenFile: 'jwt' } },
    { auth: { method: 'cert', certificate: 'tls.crt', key: 'tls.key' } },
    { auth: { method: 'cert', certificate: 'tls.crt', key: 'tls.key', name: 'gmsa' } },
    { auth: { method: 'token', tokenFile: 'token' } },
  ])('%j are taken', async (options) => {
    expect(await problems(options)).toEqual([])
  })

  const ALIEN = 'does not go with the options beside it'
  test.each<[object, string[]]>([
    [{ address: 'bao:8200' }, ['address: expected an address such as https://store.example.com:8200']],
    [{ address: 'https://user:word@bao' }, ['address: expected an address such as https://store.example.com:8200']],
    [{ mount: '/kv' }, ['mount: expected a name, or several with slashes between them, without blanks']],
    [{ kvVersion: 3 }, ['kvVersion: expected 1 or 2']],
    [{ token: 'x' }, ['token: unknown option']],
    [{ auth: {} }, ['auth.method: required: expected kubernetes, approle, jwt, cert or token']],
    [
      { auth: { method: 'kubernets' } },
      ['auth.method: expected kubernetes, approle, jwt, cert or token, did you mean kubernetes?'],
    ],
    [{ auth: { method: 'kubernetes' } }, ['auth.role: required: expected text']],
    [{ auth: { method: 'jwt' } }, ['auth.role: required: expected text', 'auth.tokenFile: required: expected a path']],
    [
      { auth: { method: 'approle', role: 'gmsa' } },
      [`auth.role: ${ALIEN}`, 'auth.secretIdFile: required: expected a path', 'auth.roleId: required: expected text'],
    ],
    [{ auth: { method: 'approle', roleId: 'a', roleIdFile: 'b', secretIdFile: 'c' } }, [`auth.roleId: ${ALIEN}`]],
    [
      { auth: { method: 'cert', certificate: 'c', tokenFile: 't' } },
      [`auth.tokenFile: ${ALIEN}`, 'auth.key: required: expected a path'],
    ],
    [{ auth: { method: 'token', token: 's.x', tokenFile: 't' } }, ['auth.token: unknown option']],
    [
      { mount: '', kvVersion: '2', auth: { method: 'token', role: 'x' } },
      ['mount', 'kvVersion', 'auth.role', 'auth.tokenFile'],
    ],
  ])('%j are refused, each by its name', async (options, expected) => {
    const found = await problems(options)
    const names = found.map((each) => each.split(':')[0] ?? '')
    expect((expected[0]?.includes(':') ? found : names).toSorted()).toEqual(expected.toSorted())
  })

  test.each([{ version: 3 }, { version: null }, { secret: 'team/web' }])('an account may have %j', async (account) => {
    expect(await problems({}, account)).toEqual([])
  })

  test.each([{ version: 0 }, { version: '3' }, { version: 1.5 }])('an account may not have %j', async (account) => {
    expect(await problems({}, account)).toEqual([expect.stringMatching(/^accounts\.web\.version: expected/)])
  })

  test('name files relative to the file they stand in', async () => {
    const result = await load({ ca: 'ca.crt', auth: { method: 'jwt', role: 'r', tokenFile: 'jwt' } })
    const { options } = (result.ok && result.config.providers.get('vault')) || {}
    expect(options).toMatchObject({ ca: join(folder, 'ca.crt'), auth: { tokenFile: join(folder, 'jwt') } })
  })
})

test('plain http is for loopback alone', async () => {
  const open = (address: string) => {
    return openVault('vault', { ...SOUND, address, auth: { method: 'token', tokenFile: '/t' } }, context)
  }
  const context = { log: silentLog, clock: systemClock }
  await failure(open('http://bao.example.com'), 'CONFIG_INVALID')
  await (await open('http://127.0.0.1:8200'))[Symbol.asyncDispose]()
})

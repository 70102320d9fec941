import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import { describeMaterial, readMaterial } from '../../../src/cli/account-probe.ts'
import { configCommand } from '../../../src/cli/commands/config.ts'
import { expectLoaded, type LoadResult, loadConfig } from '../../../src/cli/config.ts'
import { openProvider, openProviders } from '../../../src/cli/open-providers.ts'
import { failure } from '../../contract/provider-contract.ts'
import { ROOT_KEYS, WEBSVC } from './rig.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gmsa-offline-config-'))
})
afterAll(() => rm(folder, { recursive: true }))

const OFFLINE = { type: 'kds-root-key', rootKeys: { file: 'kds-root-keys.json' } }
const LOCAL = { type: 'file', directory: 'secrets' }
const documentOf = (account: object, offline: object = OFFLINE, more: object = {}) => ({
  tls: { certificate: 'tls.crt', key: 'tls.key', clientCa: 'ca.crt' },
  providers: { offline, local: LOCAL },
  accounts: { websvc: { provider: 'offline', ...WEBSVC, ...account }, other: { provider: 'local' }, ...more },
})

async function load(document: object): Promise<LoadResult> {
  const file = join(folder, 'gmsa.yaml')
  await writeFile(file, stringify(document))
  return loadConfig({ file, env: {}, cwd: '/elsewhere' })
}
/** `path: message`, for each problem. */
async function problems(account: object, offline?: object, more?: object): Promise<string[]> {
  const result = await load(documentOf(account, offline, more))
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`)
}

describe('the configuration of offline derivation', () => {
  test('is taken, with paths from the folder of the file', async () => {
    const account = {
      kvno: 4,
      kvnoKeytab: 'websvc.keytab',
      whenCreated: '20261124100000.0Z',
      servicePrincipalNames: ['HTTP/w'],
    }
    const { config, warnings } = expectLoaded(await load(documentOf(account)))
    expect(warnings).toEqual([])
    expect(config.providers.get('offline')).toEqual({
      type: 'kds-root-key',
      options: { rootKeys: { file: join(folder, 'kds-root-keys.json') }, allowReadable: false },
    })
    expect(config.accounts.get('websvc')?.options['kvnoKeytab']).toBe(join(folder, 'websvc.keytab'))
  })

  test.each<[string, object, string[]]>([
    [
      'without an anchor',
      { managedPasswordId: undefined },
      ['accounts.websvc.managedPasswordId: required: expected it, or whenCreated'],
    ],
    [
      'without what the derivation takes',
      { sid: undefined, domain: undefined, managedPasswordInterval: undefined },
      [
        'accounts.websvc.domain: required: expected the DNS name of a domain such as ad.example.com',
        'accounts.websvc.sid: required: expected a SID such as S-1-5-21-1-2-3-1105',
        'accounts.websvc.managedPasswordInterval: required: expected an integer from 1 to 21350397',
      ],
    ],
    [
      'with the SID of no account',
      { sid: 'S-1-5-32-544' },
      ['accounts.websvc.sid: expected a SID such as S-1-5-21-1-2-3-1105'],
    ],
    [
      'with a SID too large',
      { sid: 'S-1-5-21-1-2-3-4294967296' },
      ['accounts.websvc.sid: SID: a sub-authority of more than 32 bits'],
    ],
    [
      'with an identifier in hex',
      { managedPasswordId: '010000004b44534b0' },
      ['accounts.websvc.managedPasswordId: expected base64'],
    ],
    [
      'with another blob as identifier',
      { managedPasswordId: 'AQAAAA==' },
      ['accounts.websvc.managedPasswordId: key envelope: expected 52 to 16384 bytes'],
    ],
    [
      'with a day that is none',
      { whenCreated: '2026-02-40T00:00:00Z' },
      ['accounts.websvc.whenCreated: expected a time such as 2026-11-23T20:00:00Z'],
    ],
    [
      'with a time without zone',
      { whenCreated: '2026-02-20T00:00:00' },
      ['accounts.websvc.whenCreated: expected a time such as 2026-11-23T20:00:00Z'],
    ],
    ['with kvno 0', { kvno: 0 }, ['accounts.websvc.kvno: expected an integer from 1 to 4294967295']],
  ])('is refused %s', async (_, account, expected) => {
    expect(await problems(account)).toEqual(expected)
  })

  test.each<[object, string[]]>([
    [{}, ['providers.offline.rootKeys']],
    [{ file: 'a', provider: 'local', account: 'kds' }, ['providers.offline.rootKeys']],
    [{ provider: 'local' }, ['providers.offline.rootKeys']],
    [{ data: 'AAAA' }, ['providers.offline.rootKeys.data']],
    [{ provider: 'locl', account: 'kds' }, ['providers.offline.rootKeys.provider']],
  ])('is refused with root keys at %j', async (rootKeys, paths) => {
    const found = await problems({}, { ...OFFLINE, rootKeys })
    expect(found.map((each) => each.split(': ')[0])).toEqual(paths)
  })

  test('gives no account to any other name: its SID is that of one', async () => {
    const found = await problems({}, OFFLINE, { '*': { provider: 'offline', ...WEBSVC } })
    expect(found).toContain('accounts.*: passwords are derived for accounts with a name only')
  })

  test('keeps the record of the root keys from clients, under every name of it', async () => {
    const offline = { ...OFFLINE, rootKeys: { provider: 'local', account: 'kds' } }
    const more = { kds: { provider: 'local', secret: 'roots' }, alias: { provider: 'local', secret: 'roots' } }
    const { config } = expectLoaded(await load(documentOf({}, offline, more)))
    expect([...config.reservedAccounts]).toEqual(['kds', 'alias'])
  })

  test('is printed without any root key', async () => {
    await writeFile(join(folder, 'kds-root-keys.json'), JSON.stringify(ROOT_KEYS), { mode: 0o600 })
    await load(documentOf({}))
    const printed: string[] = []
    const keep = (text: string) => void printed.push(text)
    const command = configCommand({ env: {}, cwd: folder, out: keep, err: keep })
    await command.parseAsync(['print', '--config', join(folder, 'gmsa.yaml')], { from: 'user' })
    expect(printed.join('')).toContain('kds-root-keys.json')
    for (const { data } of ROOT_KEYS) expect(printed.join('')).not.toContain(data.slice(0, 20))
  })
})

describe('root keys in another store', () => {
  const rootKeys = { provider: 'local', account: 'kds' }
  const providers = () =>
    new Map([
      ['offline', { type: 'kds-root-key', options: { rootKeys } }],
      ['local', { type: 'file', options: { directory: folder } }],
    ])
  const accounts = new Map([['kds', { provider: 'local', secret: 'roots', options: {} }]])
  const context = { log: silentLog, clock: systemClock }
  const account = {
    name: 'websvc',
    secret: 'websvc',
    options: { ...WEBSVC, managedPasswordId: undefined, whenCreated: '2026-01-01T00:00:00Z' },
  }

  test('are read under the name that the record has there, by the service and by one command', async () => {
    const all = await openProviders(providers(), context, accounts)
    const config = providers().get('offline') ?? { type: '', options: {} }
    const alone = await openProvider('offline', config, context, { providers: providers(), accounts })
    const opened = [...all.values(), alone]
    for (const provider of [all.get('offline'), alone]) {
      const read = () => provider?.reads['managed-password']?.(account, AbortSignal.timeout(5_000)) ?? Promise.resolve()
      await rm(join(folder, 'roots.json'), { force: true })
      expect((await failure(read(), 'STORE_DENIED')).message).toContain('root keys: no file or folder for account kds')
      await writeFile(join(folder, 'roots.json'), JSON.stringify({ rootKeys: ROOT_KEYS }), { mode: 0o600 })
      expect(await read()).toMatchObject({ kind: 'managed-password', account: { samAccountName: 'websvc$' } })
      await writeFile(join(folder, 'roots.json'), JSON.stringify({ username: 'u', password: 'p', domainName: 'd' }), {
        mode: 0o600,
      })
      expect((await failure(read(), 'STORE_DENIED')).message).toContain('holds a credential, not KDS root keys')
    }
    for (const each of opened) await each[Symbol.asyncDispose]()
  })

  test('are described by commands without being kept, and what is counted is called so', async () => {
    await writeFile(join(folder, 'roots.json'), JSON.stringify({ rootKeys: ROOT_KEYS }), { mode: 0o600 })
    const all = await openProviders(providers(), context, accounts)
    const [local, offline] = [all.get('local'), all.get('offline')]
    if (!local || !offline) return expect.unreachable('not opened')
    const material = await readMaterial(local, { name: 'kds', secret: 'roots', options: {} }, 5_000)
    expect(describeMaterial(material)).toBe(
      `6 KDS root keys: ${ROOT_KEYS.map(({ id }) => `${id} from 1601-01-01T10:05:00Z`).join(', ')}`,
    )
    const left = material.kind === 'kds-root-key' ? material.keys.flatMap(({ data }) => [...data.reveal()]) : []
    expect(left.length).toBe(6 * 64)
    expect(left.every((byte) => byte === 0)).toBe(true)
    const derived = await readMaterial(offline, { ...account, options: { ...account.options, kvno: 4 } }, 5_000)
    expect(describeMaterial(derived)).toBe('managed password of websvc$, domain gmsa.example.com, kvno 4 (counted on)')
    for (const each of all.values()) await each[Symbol.asyncDispose]()
  })

  test('can not come from a provider that holds none', async () => {
    const configs = new Map([
      ['offline', { type: 'kds-root-key', options: { rootKeys: { provider: 'other', account: 'kds' } } }],
      ['other', { type: 'kds-root-key', options: { rootKeys: { file: join(folder, 'x') } } }],
    ])
    const all = await openProviders(configs, context)
    const read = all.get('offline')?.reads['managed-password']?.(account, AbortSignal.timeout(5_000))
    expect((await failure(read ?? Promise.resolve(), 'CONFIG_INVALID')).message).toContain(
      'other holds no KDS root keys',
    )
    for (const each of all.values()) await each[Symbol.asyncDispose]()
  })
})

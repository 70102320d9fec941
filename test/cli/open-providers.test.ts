import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import type { ProviderConfig } from '../../src/cli/config.ts'
import { neighbourReaders, openProvider, openProviders } from '../../src/cli/open-providers.ts'
import type { Provider } from '../../src/providers/provider.ts'
import { fromRecords, type StoredRecord } from '../../src/providers/records.ts'
import { failure } from '../contract/provider-contract.ts'

const context = { log: silentLog, clock: systemClock }
/** A port where nobody listens. The credential is read before anybody is called. */
const directory = (bind: object): ProviderConfig => ({
  type: 'active-directory',
  options: { domain: 'ad.test', servers: ['127.0.0.1'], port: 1, bind, timeout: '2s' },
})

let folder: string
const closing: AsyncDisposable[] = []
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gmsa-open-'))
})
afterEach(async () => {
  for (const each of closing.splice(0)) await each[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const files = (): ProviderConfig => ({ type: 'file', options: { directory: folder } })
/** What a read of any account by this provider fails with. */
function readError(provider: Provider | undefined) {
  const account = { name: 'web01', secret: 'web01', options: {} }
  const read = provider?.reads['managed-password']?.(account, AbortSignal.timeout(5_000))
  return failure(read ?? Promise.resolve(), 'STORE_DENIED', 'STORE_UNAVAILABLE')
}

describe('opening the configured stores', () => {
  test('the order does not matter to one that logs on with the credential of another', async () => {
    const bind = { provider: 'local', account: 'svc-ccg' }
    for (const names of [
      ['ad', 'local'],
      ['local', 'ad'],
    ]) {
      const all: Record<string, ProviderConfig> = { ad: directory(bind), local: files() }
      const configs = new Map(names.flatMap((name) => (all[name] ? [[name, all[name]] as const] : [])))
      const providers = await openProviders(configs, context)
      closing.push(...providers.values())
      expect((await readError(providers.get('ad'))).message).toMatch(/svc-ccg of provider local: no file or folder/)
    }
  })

  test.each([
    ['a store that is not there', new Map([['ad', directory({ provider: 'loca', account: 'a' })]]), /loca/],
    ['itself', new Map([['ad', directory({ provider: 'ad', account: 'a' })]]), /ad → ad/],
    [
      'one that leads back',
      new Map([
        ['one', directory({ provider: 'two', account: 'a' })],
        ['two', directory({ provider: 'one', account: 'a' })],
      ]),
      /one → two → one/,
    ],
  ])('refuses one that logs on with %s', async (_, configs, message) => {
    const together = await failure(openProviders(configs, context), 'CONFIG_INVALID')
    expect(together.message).toMatch(message)
    const [[name, config] = ['', directory({})]] = configs
    const alone = await failure(openProvider(name, config, context, { providers: configs }), 'CONFIG_INVALID')
    expect(alone.message).toMatch(message)
  })

  test('one opened on its own can not log on with another', async () => {
    await failure(openProvider('ad', directory({ provider: 'local', account: 'a' }), context), 'CONFIG_INVALID')
  })

  test('one opened among its neighbours can, under the name that the account has in its store', async () => {
    const config = directory({ provider: 'local', account: 'svc-ccg' })
    const providers = new Map([
      ['ad', config],
      ['local', files()],
    ])
    await writeFile(join(folder, 'eu.json'), '{}', { mode: 0o600 })
    const accounts = new Map([['svc-ccg', { provider: 'local', secret: 'eu', options: {} }]])
    const ad = await openProvider('ad', config, context, { providers, accounts })
    closing.push(ad)
    expect(Object.keys(ad.reads)).toEqual(['managed-password'])
    expect((await readError(ad)).message).toMatch(/svc-ccg of provider local: .*username is missing/)
    const record = { username: 'u', password: 'p', domainName: 'd' }
    await writeFile(join(folder, 'eu.json'), JSON.stringify(record), { mode: 0o600 })
    expect((await readError(ad)).message).toContain('127.0.0.1: it refuses the connection')
  })
})

describe('the credential before the current one', () => {
  const accounts = new Map([['svc-ccg', { provider: 'memory', secret: 'eu', options: {} }]])
  const signal = AbortSignal.timeout(5_000)
  const record = (password: string) => ({ username: 'svc', password, domainName: 'ad.test' })
  const reader = (previous?: StoredRecord) => {
    const provider = fromRecords('memory', {
      read: async () => record('now'),
      ...(previous && { readPrevious: async ({ secret }) => ({ ...previous, username: secret }) }),
      probe: async () => {},
    })
    return neighbourReaders(accounts, async (name) => (name === 'memory' ? provider : undefined)).readCredential
  }

  test('is read where the store keeps it, under the name that the account has there', async () => {
    const read = reader(record('before'))
    expect((await read('memory', 'svc-ccg', signal)).password.revealText()).toBe('now')
    expect((await read('memory', 'svc-ccg', signal, 'current')).password.revealText()).toBe('now')
    const { username, password } = await read('memory', 'svc-ccg', signal, 'previous')
    expect([username, password.revealText()]).toEqual(['eu', 'before'])
  })

  test('is absent where the store keeps none, and malformed where it is no credential', async () => {
    await failure(reader()('memory', 'svc-ccg', signal, 'previous'), 'ACCOUNT_NOT_FOUND')
    await failure(reader({ password: '' })('memory', 'svc-ccg', signal, 'previous'), 'MATERIAL_MALFORMED')
    await failure(reader({ keytab: 'AAAA' })('memory', 'svc-ccg', signal, 'previous'), 'MATERIAL_MALFORMED')
  })
})

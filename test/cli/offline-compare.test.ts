import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { Secret } from '../../src/base/secret.ts'
import type { AccountConfig, Config, ProviderConfig } from '../../src/cli/config.ts'
import { agreement, compareOffline } from '../../src/cli/offline-compare.ts'
import { formatManagedPassword, parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import type { ManagedPassword } from '../../src/gmsa/material.ts'
import {
  FIRST,
  HOUR,
  MINUTE,
  type OfflineRig,
  openRig,
  ROLLOVER,
  ROOT_KEYS,
  WEBSVC,
} from '../providers/kds-root-key/rig.ts'

const rigs: OfflineRig[] = []
let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gmsa-compare-'))
})
afterAll(async () => {
  for (const rig of rigs) await rig[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

/** What is derived at `at`; a directory's answer is the same, from a controller. */
async function derived(
  options: object = {},
  at = FIRST + 3 * ROLLOVER + HOUR,
  text?: string,
): Promise<ManagedPassword> {
  const rig = await openRig({ at, ...(text !== undefined && { text }) })
  rigs.push(rig)
  return rig.read({ ...WEBSVC, ...options })
}
async function directory(change: Partial<ManagedPassword> = {}, at?: number, text?: string): Promise<ManagedPassword> {
  const answer = await derived({}, at, text)
  return { ...answer, kvno: { value: 7, readAt: answer.receivedAt }, server: 'dc1', ...change }
}

function refusal(one: ManagedPassword, other: ManagedPassword): GmsaError {
  try {
    agreement(one, other)
  } catch (error) {
    if (error instanceof GmsaError) return error
    throw error
  }
  return expect.unreachable('they agree')
}

describe('a directory and the derivation', () => {
  test('agree about the password, whatever the moment each was asked at', async () => {
    expect(agreement(await directory(), await derived())).toBe(
      'the directory has the same password; its kvno is 7: with that configured there are keys too',
    )
    expect(agreement(await directory(), await derived({ kvno: 4 }))).toBe('the directory has the same password, kvno 7')
    expect(agreement(await directory({}, FIRST + HOUR), await derived({ kvno: 7 }, FIRST + 5 * HOUR))).toMatch(
      /kvno 7$/,
    )
    // One side is in the window already: what is in force is the same.
    const opening = FIRST + ROLLOVER - 5 * MINUTE
    expect(agreement(await directory({}, opening - 1), await derived({ kvno: 7 }, opening))).toMatch(/kvno 7$/)
    const { kvno: _, ...silent } = await directory()
    expect(agreement(silent, await derived())).toBe('the directory has the same password')
  })

  test('differ in the kvno, which is no matter of the password', async () => {
    const error = refusal(await directory(), await derived({ kvno: 5 }))
    expect(error.message).toBe('the directory has the same password, under kvno 7; ours is 8, counted on')
    expect(error.hint).toContain('kvno to 7')
    expect(refusal(await directory({}, FIRST), await derived({ kvno: 5 }, FIRST)).message).toMatch(/ours is 5$/)
  })

  test('differ, as the account was made again: it has another SID', async () => {
    const error = refusal(await directory(), await derived({ sid: 'S-1-5-21-3043924555-947050570-3988087173-1109' }))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toBe(
      "the directory's account has the SID S-1-5-21-3043924555-947050570-3988087173-1108, and sid is S-1-5-21-3043924555-947050570-3988087173-1109",
    )
    expect(error.hint).toContain('made again')
  })

  test('differ in the interval', async () => {
    const error = refusal(await directory(), await derived({ managedPasswordInterval: 2 }))
    expect(error.message).toBe('msDS-ManagedPasswordInterval is 1, and managedPasswordInterval is 2')
  })

  test('differ in the calendar: the anchor is another’s', async () => {
    const { managedPasswordId: _, ...options } = WEBSVC
    const whenCreated = new Date(FIRST + 10 * HOUR).toISOString()
    const at = FIRST + 3 * ROLLOVER + HOUR
    const error = refusal(
      await directory({}, at),
      await derived({ ...options, managedPasswordId: undefined, whenCreated }, at),
    )
    const [change, other] = [4 * ROLLOVER, 3 * ROLLOVER + 10 * HOUR].map((time) => new Date(FIRST + time).toISOString())
    expect(error.message).toBe(`the directory changes the password at ${change}, and we would at ${other}`)
    expect(error.hint).toContain('managedPasswordId or whenCreated')
  })

  test('differ in the root key that they took', async () => {
    const all = await derived()
    const { passwordId } = all
    const one = JSON.stringify(ROOT_KEYS.slice(0, 1))
    const byCreation = { managedPasswordId: undefined, whenCreated: new Date(FIRST).toISOString() }
    const other = await derived(byCreation, undefined, one)
    const error = refusal(await directory(passwordId ? { passwordId } : {}), other)
    expect(error.message).toBe(
      `the directory took root key ${ROOT_KEYS.at(-1)?.id} for this password, and we took ${ROOT_KEYS[0]?.id}`,
    )
    expect(error.hint).toContain('export all root keys')
  })

  test('differ in what the root key holds', async () => {
    const damaged = ROOT_KEYS.map((key) => ({ ...key, data: Buffer.alloc(64, 7).toString('base64') }))
    const other = await derived({}, undefined, JSON.stringify(damaged))
    for (const change of [{}, { passwordId: { rootKeyId: 'x', gkid: { l0: 1, l1: 2, l2: 3 } } }]) {
      const error = refusal(await directory(change), other)
      expect(error.message).toBe(`root key ${ROOT_KEYS.at(-1)?.id} gives another password than the directory has`)
    }
  })

  test.each([
    [6 * MINUTE, /^this clock is 360 s ahead of the directory's$/],
    [-6 * MINUTE, /^this clock is 360 s behind the directory's$/],
  ])('differ in the time by %i ms, even where the password is still the same', async (difference, message) => {
    const answer = await directory()
    const late = { ...answer, receivedAt: answer.receivedAt + difference }
    const error = refusal(late, await derived())
    expect([error.reason, error.code]).toEqual(['clock', 'STORE_UNAVAILABLE'])
    expect(error.message).toMatch(message)
  })

  test('have nothing in common where the directory shows only the next password', async () => {
    const answer = await directory({}, FIRST + ROLLOVER - MINUTE)
    const { previous: _, ...blob } = parseManagedPassword(answer.blob.reveal())
    const alone = { ...answer, blob: new Secret(formatManagedPassword(blob)) }
    expect(refusal(alone, await derived({}, FIRST + ROLLOVER - MINUTE)).message).toMatch(/gives another password/)
  })
})

describe('doctor compares', () => {
  const offline: ProviderConfig = { type: 'kds-root-key', options: {} }
  const ad = (domain: string): ProviderConfig => ({
    type: 'active-directory',
    options: {
      domain,
      servers: ['127.0.0.1'],
      port: 1,
      timeout: '2s',
      bind: { username: 'u', domainName: 'd', passwordFile: '/none' },
    },
  })
  const configOf = (providers: Record<string, ProviderConfig>, accounts: Record<string, AccountConfig>): Config => ({
    listen: { hosts: [], port: 0 },
    admin: { host: '', port: 0, statusPage: false },
    providers: new Map(Object.entries(providers)),
    accounts: new Map(Object.entries(accounts)),
    openAccounts: false,
    reservedAccounts: new Set(),
    cache: { maxAge: 0, serveStale: 0 },
    keys: { keepPrevious: 0 },
    timeouts: { store: 5_000, request: 5_000 },
    shutdown: { drainDelay: 0, grace: 0 },
    limits: { requestsPerSecond: 1 },
    log: { level: 'info' },
  })
  const account = { name: 'websvc', secret: 'websvc', options: WEBSVC }
  const accounts = { websvc: { provider: 'offline', options: WEBSVC } }

  test('nothing where only one of both is configured, or the directory is of another domain', async () => {
    const material = await derived()
    expect(await compareOffline(material, account, configOf({ offline }, accounts))).toEqual([])
    expect(await compareOffline(material, account, configOf({ offline, ad: ad('other.test') }, accounts))).toEqual([])
    const byDirectory = { websvc: { provider: 'ad', options: {} } }
    expect(await compareOffline(material, account, configOf({ ad: ad(WEBSVC.domain), offline }, byDirectory))).toEqual(
      [],
    )
    expect(await compareOffline(undefined, account, configOf({ offline, ad: ad(WEBSVC.domain) }, accounts))).toEqual([])
  })

  test('with a directory that gives no answer: a warning, as doing without it is the point', async () => {
    const [finding, ...more] = await compareOffline(
      await derived(),
      account,
      configOf({ offline, ad: ad(WEBSVC.domain.toUpperCase()) }, accounts),
    )
    expect(more).toEqual([])
    expect(finding).toMatchObject({ subject: 'offline derivation', state: 'warning' })
    expect(finding?.detail).toMatch(/^not compared with provider ad: /)
  })

  test('an account of the directory with the derivation that is configured for it', async () => {
    const file = join(folder, 'kds.json')
    await writeFile(file, JSON.stringify(ROOT_KEYS), { mode: 0o600 })
    const providers = { ad: ad(WEBSVC.domain), offline: { type: 'kds-root-key', options: { rootKeys: { file } } } }
    // Derived by the clock of this machine, so the anchor has to be in its past.
    const options = { ...WEBSVC, managedPasswordId: undefined, whenCreated: '2026-01-01T00:00:00Z' }
    const rig = await openRig({ at: Date.now() })
    rigs.push(rig)
    const config = configOf(providers, {
      web: { provider: 'ad', options: {} },
      websvc: { provider: 'offline', options },
    })
    const web = { name: 'web', secret: 'web', options: {} }
    const answer = { ...(await rig.read(options)), server: 'dc1' }
    expect(await compareOffline(answer, web, config)).toMatchObject([
      { state: 'ok', detail: 'the directory has the same password' },
    ])
    const another = { ...answer, account: { ...answer.account, samAccountName: 'other$' } }
    expect(await compareOffline(another, web, config)).toEqual([])
  })
})

import { chmod, rename, rm, writeFile } from 'node:fs/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { GmsaError } from '../../../src/base/errors.ts'
import { ntHash } from '../../../src/crypto/string-to-key.ts'
import { fileTimeOf, millisecondsOf } from '../../../src/gmsa/file-time.ts'
import { gkidAt } from '../../../src/gmsa/gkid.ts'
import { parseManagedPassword } from '../../../src/gmsa/managed-password.ts'
import type { KdsRootKeys, ManagedPassword } from '../../../src/gmsa/material.ts'
import { decodeRootKeys } from '../../../src/providers/root-key-records.ts'
import { printed } from '../../contract/printed.ts'
import { failure } from '../../contract/provider-contract.ts'
import published from '../../vectors/gkdi.json' with { type: 'json' }
import {
  BY_CREATION,
  FIRST,
  HOUR,
  MINUTE,
  type OfflineRigOptions,
  openRig,
  ROLLOVER,
  ROOT_KEY_ID,
  ROOT_KEYS,
  WEBSVC,
} from './rig.ts'

const closing: AsyncDisposable[] = []
afterEach(async () => {
  for (const each of closing.splice(0)) await each[Symbol.asyncDispose]()
})
async function open(options?: OfflineRigOptions) {
  const rig = await openRig(options)
  closing.push(rig)
  return rig
}

/** Everything of a root key or password that may stand in no error, line or printed object. */
const SECRETS = ROOT_KEYS.map(({ data }) => data.slice(0, 24))
function expectNoSecret(thing: unknown) {
  const text = printed(thing)
  for (const secret of SECRETS) {
    expect(text).not.toContain(secret)
    expect(text).not.toContain(Buffer.from(secret, 'base64').toString('hex'))
  }
}

describe('the kds-root-key provider', () => {
  const rolls = published.rotation.filter(({ account, time }) => account === 'websvc$' && BigInt(time) % 10_000n === 0n)

  test('there are vectors to run, in the window and at the very change among them', () => {
    expect(rolls.map(({ label }) => label)).toEqual(['created', 'skew-exact', 'rolled', 'rolled+4m59', 'skew-of-4'])
  })

  test.each(rolls)('gives at $label what the domain controller gave', async (vector) => {
    const { read } = await open({ at: millisecondsOf(BigInt(vector.time)) })
    const { blob, receivedAt, account, passwordId, kvno, server } = await read()
    const { current, previous, queryInterval, unchangedInterval, oddities } = parseManagedPassword(blob.reveal())
    const hashes = [current, previous].map((each) => each && Buffer.from(ntHash(each.reveal())).toString('hex'))
    expect(hashes).toEqual([vector.currentNtHash, vector.previousNtHash])
    expect([`${queryInterval}`, `${unchangedInterval}`]).toEqual([vector.queryInterval, vector.unchangedInterval])
    expect(oddities).toEqual([])
    expect(fileTimeOf(receivedAt)).toBe(BigInt(vector.time))
    expect(account).toEqual({
      samAccountName: 'websvc$',
      domain: 'gmsa.example.com',
      sid: WEBSVC.sid,
      servicePrincipalNames: [],
      managedPasswordInterval: 1,
    })
    const inForce = queryInterval <= 3_000_000_000n ? vector.previousGkid : vector.currentGkid
    expect(Object.values(passwordId?.gkid ?? {})).toEqual(inForce)
    expect([passwordId?.rootKeyId, kvno, server]).toEqual([ROOT_KEY_ID, undefined, undefined])
  })

  test('is as well anchored by when the account was made, in any writing', async () => {
    const { read } = await open()
    const { blob } = await read()
    const { current } = parseManagedPassword(blob.reveal())
    for (const whenCreated of ['2026-11-24T10:00:00Z', '20261124100000.0Z', '2026-11-24 11:00:00.5+01:00']) {
      const other = await read({ ...BY_CREATION, whenCreated })
      expect(parseManagedPassword(other.blob.reveal()).current.equals(current)).toBe(true)
    }
  })

  test('calls the account by its own name where the configuration gives none', async () => {
    const { read } = await open()
    const { samAccountName: _, ...options } = WEBSVC
    expect((await read({ ...options, servicePrincipalNames: ['HTTP/web'] }, 'web01')).account).toMatchObject({
      samAccountName: 'web01$',
      servicePrincipalNames: ['HTTP/web'],
    })
  })

  test('reads the root keys for each password, and sees that they were replaced', async () => {
    const { read, file } = await open()
    const before = await read(BY_CREATION)
    await writeFile(file, JSON.stringify(ROOT_KEYS.slice(0, 1)), { mode: 0o600 })
    const after = await read(BY_CREATION)
    expect(after.blob.equals(before.blob)).toBe(false)
    expect(after.passwordId?.rootKeyId).toBe(ROOT_KEYS[0]?.id)
    const error = await failure(read(), 'MATERIAL_MALFORMED')
    expect(error.message).toContain(`lack ${ROOT_KEY_ID}`)
  })

  test('announces a change of the file, until the watch or the provider is disposed', async () => {
    const { provider, file, clock } = await open()
    const heard = vi.fn()
    const watch = provider.watch?.(heard)
    provider.watch?.(heard)
    const touch = async () => {
      await writeFile(`${file}.new`, '[]', { mode: 0o600 })
      await rename(`${file}.new`, file)
    }
    await touch()
    await vi.waitFor(async () => {
      await clock.advance(100)
      expect(heard).toHaveBeenCalledTimes(2)
    })
    expect(heard).toHaveBeenCalledWith()
    watch?.[Symbol.dispose]()
    await provider[Symbol.asyncDispose]()
    expect(clock.pending).toBe(0)
  })

  test('offers the managed password and nothing else: no root key has a way out', async () => {
    const { provider } = await open()
    expect(Object.keys(provider.reads)).toEqual(['managed-password'])
  })
})

describe('root keys', () => {
  const asFile = async (change: (file: string) => Promise<unknown>, code: GmsaError['code']) => {
    const rig = await open()
    await change(rig.file)
    const error = await failure(rig.read(), code)
    expect((await failure(rig.provider.probe(AbortSignal.timeout(5_000)), code)).message).toBe(error.message)
    expectNoSecret([error, rig.lines])
    return error
  }

  test('that are not there, or may be read by others, are our trouble and not the account’s', async () => {
    const missing = await asFile((file) => rm(file), 'STORE_DENIED')
    expect([missing.reason, missing.message]).toEqual([
      'not-found',
      expect.stringMatching(/kds-root-keys.json: no such file$/),
    ])
    const open = await asFile((file) => chmod(file, 0o640), 'STORE_DENIED')
    expect(open.reason).toBe('not-permitted')
  })

  test('that are broken, or too many to be true, are refused without a word of them', async () => {
    const [text] = [JSON.stringify({ rootKeys: ROOT_KEYS })]
    const broken = await asFile((file) => writeFile(file, text?.slice(0, -3) ?? ''), 'MATERIAL_MALFORMED')
    expect(broken.message).toMatch(/kds-root-keys.json: not valid JSON$/)
    const large = await asFile((file) => writeFile(file, Buffer.alloc(1_100_000, ' ')), 'MATERIAL_MALFORMED')
    expect(large.message).toContain('larger than 1048576 bytes')
    await asFile((file) => writeFile(file, Buffer.from([0x5b, 0xff])), 'MATERIAL_MALFORMED')
  })

  test('that others may read are taken where the configuration says so', async () => {
    const { read, file } = await open({ options: { allowReadable: true } })
    await chmod(file, 0o644)
    expect((await read()).kind).toBe('managed-password')
  })

  test('of another provider are wiped as soon as the password is derived, and where it can not be', async () => {
    const handed: KdsRootKeys[] = []
    const asked: string[] = []
    const readRootKeys = async (provider: string, account: string) => {
      asked.push(`${provider} ${account}`)
      const keys = decodeRootKeys({ rootKeys: ROOT_KEYS }, account)
      handed.push(keys)
      return keys
    }
    const { read, provider, restart } = await open({
      rootKeys: { provider: 'vault', account: 'kds' },
      context: { readRootKeys },
    })
    const first = await read()
    await provider.probe(AbortSignal.timeout(5_000))
    await failure(read({ ...WEBSVC, managedPasswordInterval: 1, managedPasswordId: otherId() }), 'MATERIAL_MALFORMED')
    expect(asked).toEqual(['vault kds', 'vault kds', 'vault kds'])
    for (const { keys } of handed) {
      for (const { data } of keys) expect([...data.reveal()].every((byte) => byte === 0)).toBe(true)
    }
    // What was derived is not of them any more.
    restart()
    expect((await read()).blob.equals(first.blob)).toBe(true)
    expect(provider.watch).toBeUndefined()
  })

  test('of a record that is not there are not an account that is not there', async () => {
    const readRootKeys = () => Promise.reject(new GmsaError('ACCOUNT_NOT_FOUND', 'no such record'))
    const { read } = await open({ rootKeys: { provider: 'vault', account: 'kds' }, context: { readRootKeys } })
    const error = await failure(read(), 'STORE_DENIED')
    expect([error.reason, error.message]).toEqual(['not-found', 'root keys: no such record'])
    const readNothing = () => Promise.reject(new GmsaError('STORE_UNAVAILABLE', 'vault is sealed'))
    const sealed = await open({ rootKeys: { provider: 'v', account: 'k' }, context: { readRootKeys: readNothing } })
    await failure(sealed.read(), 'STORE_UNAVAILABLE')
  })

  test('are shown by nothing that is printed: provider, password, log', async () => {
    const rig = await open()
    const password = await rig.read({ ...WEBSVC, kvno: 4 })
    expect(printed(password)).toContain('[secret]')
    expectNoSecret([rig.provider, password, rig.lines])
    const { current } = parseManagedPassword(password.blob.reveal())
    expect(printed(password)).not.toContain(Buffer.from(current.reveal().subarray(0, 24)).toString('base64'))
  })

  test('of itself, of nobody, or at a relative path, are no configuration', async () => {
    await failure(
      openRig({ rootKeys: { provider: 'offline', account: 'a' }, context: { readRootKeys: vi.fn() } }),
      'CONFIG_INVALID',
    )
    await failure(openRig({ rootKeys: { provider: 'vault', account: 'a' } }), 'CONFIG_INVALID')
    await failure(openRig({ rootKeys: { file: 'kds.json' } }), 'CONFIG_INVALID')
  })
})

describe('the clock', () => {
  const refused = async (read: Promise<ManagedPassword>) => {
    const error = await failure(read, 'STORE_UNAVAILABLE')
    expect(error.reason).toBe('clock')
    return error
  }

  test('before the anchor gives no password', async () => {
    const { read } = await open({ at: FIRST - 1 })
    expect((await refused(read())).message).toMatch(/^the clock is at .*, before 2026-11-24T10:00:00Z$/)
    await refused(read(BY_CREATION))
  })

  test('set back by more than Kerberos forgives gives none, until the time is reached again', async () => {
    const rig = await open()
    await rig.read()
    rig.clock.stepWall(-5 * MINUTE)
    expect((await rig.read()).kind).toBe('managed-password')
    rig.clock.stepWall(-1)
    expect((await refused(rig.read())).message).toBe('the clock of this machine was set back by 300 s')
    await rig.clock.advance(HOUR)
    await refused(rig.read())
    await refused(rig.provider.probe(AbortSignal.timeout(5_000)).then(() => expect.unreachable()))
    rig.clock.stepWall(1)
    expect((await rig.read()).kind).toBe('managed-password')
  })

  test('set back little by little is seen as well', async () => {
    const { read, clock } = await open()
    for (let minute = 0; minute < 5; minute++) {
      clock.stepWall(-MINUTE)
      await read()
    }
    clock.stepWall(-MINUTE)
    await refused(read())
  })

  test('set forward is believed, and its way back is not', async () => {
    const { read, clock, restart } = await open()
    clock.stepWall(3 * ROLLOVER)
    const { passwordId } = await read()
    expect(passwordId?.gkid).toEqual(gkidAt(fileTimeOf(FIRST + 3 * ROLLOVER)))
    clock.stepWall(-3 * ROLLOVER)
    await refused(read())
    // Whoever put it right starts the service again.
    restart()
    expect((await read()).passwordId?.gkid).toEqual(gkidAt(fileTimeOf(FIRST)))
  })
})

describe('the options of an account', () => {
  test.each([
    ['no anchor', { managedPasswordId: undefined }, /web\.managedPasswordId: required/],
    ['an identifier that is none', { managedPasswordId: 'AAAA' }, /managedPasswordId: key envelope: expected/],
    ['a SID that is none', { sid: 'S-1-5-21-1-2-3-9999999999' }, /sid: SID: a sub-authority/],
    ['a time that is none', { whenCreated: '2026-13-24T00:00:00Z' }, /whenCreated: expected a time/],
  ])('with %s are refused again where they are used', async (_, change, message) => {
    const { read } = await open()
    const error = await failure(read({ ...WEBSVC, ...change }, 'web'), 'CONFIG_INVALID')
    expect(error.message).toMatch(message)
  })

  test('lacking what every such account needs are refused', async () => {
    const { read } = await open()
    const { domain: _, ...rest } = WEBSVC
    await failure(read(rest), 'CONFIG_INVALID')
  })
})

/** An identifier of a root key that is not there. */
function otherId(): string {
  const bytes = Buffer.from(WEBSVC.managedPasswordId, 'base64')
  bytes.fill(7, 24, 40)
  return bytes.toString('base64')
}

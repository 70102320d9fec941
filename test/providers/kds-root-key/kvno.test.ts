import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { Secret } from '../../../src/base/secret.ts'
import { type Broker, openBroker } from '../../../src/broker/broker.ts'
import { ntHash } from '../../../src/crypto/string-to-key.ts'
import { deriveKey } from '../../../src/gmsa/derive.ts'
import { parseManagedPassword } from '../../../src/gmsa/managed-password.ts'
import { encodeKeytab, type KeytabEntry, parseKeytab } from '../../../src/kerberos/keytab.ts'
import { parsePrincipal } from '../../../src/kerberos/principal.ts'
import { accountSalt } from '../../../src/kerberos/salt.ts'
import { failure } from '../../contract/provider-contract.ts'
import { keepingLog } from '../../fakes/rig.ts'
import { BY_CREATION, FIRST, HOUR, MINUTE, type OfflineRig, openRig, ROLLOVER, WEBSVC } from './rig.ts'

const closing: AsyncDisposable[] = []
afterEach(async () => {
  for (const each of closing.splice(0).toReversed()) await each[Symbol.asyncDispose]()
})
async function open(at = FIRST + HOUR): Promise<OfflineRig> {
  const rig = await openRig({ at })
  closing.push(rig)
  return rig
}

/** `4`, or `5?` where it is counted on; what one read says. */
async function kvnoOf(rig: OfflineRig, options: object): Promise<string> {
  const { kvno } = await rig.read({ ...options })
  return kvno ? `${kvno.value}${kvno.predicted ? '?' : ''}` : 'unknown'
}
const advanceTo = (rig: OfflineRig, time: number) => rig.clock.advance(time - rig.clock.now())

/** The service over the provider, as far as keys are concerned. */
function serve(rig: OfflineRig, options: object): { readonly broker: Broker; said(): string[] } {
  const { log, lines } = keepingLog()
  // Without what looks every few seconds: days go by here.
  const { watch: _, ...provider } = rig.provider
  const broker = openBroker({
    accounts: new Map([['websvc', { provider: 'offline', options: { ...options } }]]),
    providers: new Map([['offline', { ...provider, probe: async () => {} }]]),
    cache: { maxAge: 30_000, serveStale: HOUR },
    timeout: 5_000,
    clock: rig.clock,
    log,
    random: () => 0,
    events: {
      cacheRead: vi.fn(),
      providerRead: vi.fn(),
      providerUp: vi.fn(),
      accountRead: vi.fn(),
      accountKeys: vi.fn(),
      directoryRead: vi.fn(),
      logOn: vi.fn(),
    },
  })
  closing.push(broker)
  return { broker, said: () => lines.flatMap(({ note }) => (typeof note === 'string' ? [note] : [])) }
}
const grant = { allows: () => true }
/** `4! 3`: the kvnos of the AES-256 keys, newest first; `!` is in force, `?` is counted on. */
async function keysOf(broker: Broker): Promise<string> {
  const { keys } = await broker.keys(grant, 'websvc')
  return keys.keys
    .filter(({ enctype }) => enctype === 18)
    .map(({ kvno, phase, predicted }) => `${kvno}${predicted ? '?' : ''}${phase === 'current' ? '!' : ''}`)
    .join(' ')
}

describe('without a kvno', () => {
  test('there is a managed password, and no keys', async () => {
    const rig = await open()
    const { broker, said } = serve(rig, WEBSVC)
    await failure(broker.keys(grant, 'websvc'), 'KVNO_UNKNOWN')
    await failure(broker.keytab(grant, 'websvc', { use: 'initiator', principals: [] }), 'KVNO_UNKNOWN')
    const { blob } = await broker.managedPassword(grant, 'websvc')
    expect(parseManagedPassword(blob.reveal()).current.byteLength).toBe(256)
    expect(said()).toContain('kvno-unknown')
  })
})

describe('a configured kvno', () => {
  test('is that of the password that managedPasswordId names, and one more for each change since, marked', async () => {
    const rig = await open()
    const options = { ...WEBSVC, kvno: 4 }
    const times = [HOUR, ROLLOVER - 1, ROLLOVER, ROLLOVER + 1, 5 * ROLLOVER + HOUR]
    const said: string[] = []
    for (const time of times) {
      await advanceTo(rig, FIRST + time)
      said.push(await kvnoOf(rig, options))
    }
    expect(said).toEqual(['4', '4', '5?', '5?', '9?'])
    // A process that starts later says the same.
    rig.restart()
    expect(await kvnoOf(rig, options)).toBe('9?')
  })

  test('is that of the first password as long as the account has it', async () => {
    const rig = await open()
    const options = { ...BY_CREATION, kvno: 1 }
    expect(await kvnoOf(rig, options)).toBe('1')
    await advanceTo(rig, FIRST + ROLLOVER)
    expect(await kvnoOf(rig, options)).toBe('2?')
  })

  test('without an identifier is taken for that of now, and nobody knows whether it is', async () => {
    const rig = await open(FIRST + 7 * ROLLOVER + HOUR)
    const options = { ...BY_CREATION, kvno: 8 }
    expect(await kvnoOf(rig, options)).toBe('8?')
    await advanceTo(rig, FIRST + 8 * ROLLOVER)
    expect(await kvnoOf(rig, options)).toBe('9?')
  })

  test('goes with keys through changes of the password, and the same after a restart but for what is no longer known', async () => {
    const rig = await open(FIRST + ROLLOVER - HOUR)
    const options = { ...WEBSVC, kvno: 4 }
    const { broker, said } = serve(rig, options)
    // The identifier says which password has the number; the one before it never need have been.
    expect(await keysOf(broker)).toBe('4! 3')
    await advanceTo(rig, FIRST + ROLLOVER - 4 * MINUTE)
    expect(await keysOf(broker)).toBe('5? 4!')
    await advanceTo(rig, FIRST + ROLLOVER + MINUTE)
    expect(await keysOf(broker)).toBe('5?! 4')
    expect(said()).toContain('kvno-predicted')
    await advanceTo(rig, FIRST + 2 * ROLLOVER + MINUTE)
    expect(await keysOf(broker)).toBe('6?! 5?')
    rig.restart()
    expect(await keysOf(serve(rig, options).broker)).toBe('6?! 5?')
  })

  test('puts no password under the number of another, over changes and restarts', async () => {
    const rig = await open()
    const options = { ...WEBSVC, kvno: 4, enctypes: ['rc4'] }
    const seen = new Map<string, string>()
    let { broker } = serve(rig, options)
    for (let step = 0; step < 16; step++) {
      await rig.clock.advance(ROLLOVER / 2 + 4 * MINUTE * (step % 5))
      if (step % 5 === 0) {
        await broker[Symbol.asyncDispose]()
        rig.restart()
        broker = serve(rig, options).broker
      }
      const { bytes } = await broker.keytab(grant, 'websvc', { use: 'acceptor', principals: [] })
      for (const { kvno, key } of parseKeytab(bytes)) {
        const hex = Buffer.from(key.reveal()).toString('hex')
        expect(seen.get(hex) ?? `${kvno}`, `step ${step}`).toBe(`${kvno}`)
        expect(kvno).toBeGreaterThan(0)
        seen.set(hex, `${kvno}`)
      }
    }
    expect(new Set(seen.values()).size).toBe(seen.size)
    expect(seen.size).toBeGreaterThan(7)
  })
})

describe('a kvno learnt from a keytab', () => {
  const salt = accountSalt(WEBSVC.samAccountName, WEBSVC.domain)
  const principal = parsePrincipal('websvc$@GMSA.EXAMPLE.COM')

  /** A keytab with the keys of what `rig` says now, under these kvnos: current, then previous. */
  async function keytabOf(rig: OfflineRig, kvnos: readonly number[], enctype: 17 | 18 | 23 = 18): Promise<string> {
    const { blob } = await rig.read()
    const { current, previous } = parseManagedPassword(blob.reveal())
    const entries: KeytabEntry[] = []
    for (const [index, password] of [current, previous].entries()) {
      const kvno = kvnos[index]
      if (!password || kvno === undefined) continue
      const bytes = enctype === 23 ? ntHash(password.reveal()) : await deriveKey(password, enctype, salt)
      entries.push({ principal, timestamp: 0, kvno, enctype, key: new Secret(Uint8Array.from(bytes)) })
    }
    const path = join(rig.folder, 'websvc.keytab')
    await writeFile(path, encodeKeytab(entries), { mode: 0o600 })
    return path
  }

  test.each([17, 18, 23] as const)('is that of the password in force, by its key of enctype %i', async (enctype) => {
    const rig = await open(FIRST + 3 * ROLLOVER + HOUR)
    const kvnoKeytab = await keytabOf(rig, [9, 8], enctype)
    expect(await kvnoOf(rig, { ...WEBSVC, kvnoKeytab })).toBe('9')
    // Counted on from what was configured it would be 7.
    expect(await kvnoOf(rig, { ...WEBSVC, kvnoKeytab, kvno: 4 })).toBe('9')
  })

  test('is counted on from there once the password has changed, or where the keytab is one behind', async () => {
    const rig = await open(FIRST + 3 * ROLLOVER + HOUR)
    const options = { ...WEBSVC, kvno: 4, kvnoKeytab: await keytabOf(rig, [9]) }
    await advanceTo(rig, FIRST + 4 * ROLLOVER + HOUR)
    expect(await kvnoOf(rig, options)).toBe('10?')
    await advanceTo(rig, FIRST + 5 * ROLLOVER + HOUR)
    expect(await kvnoOf(rig, options)).toBe('11?')
    await keytabOf(rig, [12])
    expect(await kvnoOf(rig, options)).toBe('12')
  })

  test('goes by the password in force, in the window too, and takes no future one', async () => {
    const rig = await open(FIRST + 3 * ROLLOVER - 2 * MINUTE)
    const kvnoKeytab = await keytabOf(rig, [20, 9])
    expect(await kvnoOf(rig, { ...WEBSVC, kvnoKeytab })).toBe('9')
  })

  test('leaves it as configured where the keytab has other keys, or the number 0', async () => {
    const rig = await open(FIRST + HOUR)
    const kvnoKeytab = await keytabOf(rig, [0])
    expect(await kvnoOf(rig, { ...WEBSVC, kvnoKeytab })).toBe('unknown')
    await advanceTo(rig, FIRST + 3 * ROLLOVER + HOUR)
    await keytabOf(rig, [9])
    await advanceTo(rig, FIRST + 6 * ROLLOVER + HOUR)
    expect(await kvnoOf(rig, { ...WEBSVC, kvnoKeytab, kvno: 4 })).toBe('10?')
  })

  test('that can not be read keeps nobody from the password, and is said once', async () => {
    const rig = await open()
    const kvnoKeytab = join(rig.folder, 'absent.keytab')
    expect(await kvnoOf(rig, { ...WEBSVC, kvnoKeytab })).toBe('unknown')
    expect(await kvnoOf(rig, { ...WEBSVC, kvnoKeytab })).toBe('unknown')
    await writeFile(kvnoKeytab, 'no keytab', { mode: 0o600 })
    expect(await kvnoOf(rig, { ...WEBSVC, kvnoKeytab, kvno: 4 })).toBe('4')
    expect(rig.lines.map(({ message, code }) => `${message}: ${code}`)).toEqual([
      'kvnoKeytab not read: ACCOUNT_NOT_FOUND',
    ])
  })
})

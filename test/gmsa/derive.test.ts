import { monitorEventLoopDelay } from 'node:perf_hooks'
import { describe, expect, test } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import { makeKeyDeriver } from '../../src/gmsa/derive.ts'
import { parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { type Schedule, scheduleKeys } from '../../src/gmsa/schedule.ts'
import { chooseEnctypes, ENCTYPE_WORDS, ENCTYPES, type EnctypeNumber } from '../../src/kerberos/enctype.ts'
import type { KerberosKeys } from '../../src/kerberos/keys.ts'
import { accountSalt, realmOf } from '../../src/kerberos/salt.ts'
import gmsad from '../vectors/gmsad-managed-password-blobs.json' with { type: 'json' }
import rotation from '../vectors/gmsad-rotation-kvno.json' with { type: 'json' }
import published from '../vectors/kerberos-keys.json' with { type: 'json' }
import lab from '../vectors/samba-dc-sample.json' with { type: 'json' }

const NOW = Date.UTC(2026, 10, 23)
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
const all = chooseEnctypes(ENCTYPE_WORDS).enctypes

/** A schedule in whose blob these are the passwords, far from any change. */
function schedule(current: Secret, previous?: Secret, before?: Schedule): Schedule {
  const blob = { current, ...(previous && { previous }), queryInterval: 10n ** 12n, unchangedInterval: 10n ** 12n }
  return scheduleKeys({
    reading: { blob, receivedAt: NOW, kvno: { value: 7, readAt: NOW }, jitter: 0 },
    ...(before && { before: before.generations }),
    now: NOW,
    keepPrevious: 3_600_000,
  })
}

const secret = (utf16: string) => new Secret(Buffer.from(utf16, 'hex'))
const byEnctype = ({ keys }: KerberosKeys, kvno = 7) =>
  Object.fromEntries(keys.filter((key) => key.kvno === kvno).map(({ enctype, key }) => [enctype, hex(key.reveal())]))

describe('the keys of a password', () => {
  test('there are published vectors to run', () => {
    expect([published.accounts.length, gmsad.blobs.length, gmsad.embeddedCases.length, lab.samples.length]).toEqual([
      31, 3, 1, 7,
    ])
  })

  test('of every published account are the published ones, in all five enctypes', { timeout: 60_000 }, async () => {
    const { deriveKeys } = makeKeyDeriver({ concurrency: 2 })
    await Promise.all(
      published.accounts.map(async ({ name, sAMAccountName, dnsDomain, passwordUtf16, keys }) => {
        const salt = accountSalt(sAMAccountName, dnsDomain)
        const made = await deriveKeys(schedule(secret(passwordUtf16)), {
          realm: realmOf(dnsDomain),
          salt,
          enctypes: all,
        })
        expect(byEnctype(made), name).toEqual(keys)
      }),
    )
  })

  test("of gmsad's blobs are what MIT makes of them", async () => {
    const { deriveKeys } = makeKeyDeriver()
    for (const { blobHex, current, previous } of gmsad.blobs) {
      const blob = parseManagedPassword(Buffer.from(blobHex, 'hex'))
      const options = { realm: 'R', salt: current.salt, enctypes: all }
      const made = await deriveKeys(schedule(blob.current, blob.previous), options)
      expect(byEnctype(made)).toEqual({ ...current.keysByEnctype, 23: current.ntHashOverRawUtf16 })
      if (previous) expect(byEnctype(made, 6)).toEqual({ ...previous.keysByEnctype, 23: previous.ntHashOverRawUtf16 })
    }
    for (const { blobHex, salt, keysByEnctype } of gmsad.embeddedCases) {
      const { current } = parseManagedPassword(Buffer.from(blobHex, 'hex'))
      const enctypes = ENCTYPES.filter(({ number }) => number === 18)
      expect(byEnctype(await deriveKeys(schedule(current), { realm: 'R', salt, enctypes }))).toEqual(keysByEnctype)
    }
    const [cur, prev] = [rotation.passwordsUtf16Hex.cur, rotation.passwordsUtf16Hex.prev].map(secret) as [
      Secret,
      Secret,
    ]
    const enctypes = ENCTYPES.filter(({ number }) => number === rotation.enctype)
    const { keys } = await deriveKeys(schedule(cur, prev), { realm: 'R', salt: rotation.salt, enctypes })
    expect(keys.map(({ key }) => hex(key.reveal()))).toEqual([rotation.keys.cur, rotation.keys.prev])
  })

  test('of a domain controller’s blobs are the keys it exports', async () => {
    const { deriveKeys } = makeKeyDeriver()
    for (const { account, realm, managedPassword, dcExportedKeys, dcTime, label } of lab.samples) {
      const [, ...parts] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)/.exec(dcTime) ?? []
      const [year = 0, month = 0, ...rest] = parts.map(Number)
      const receivedAt = Date.UTC(year, month - 1, ...rest)
      const blob = parseManagedPassword(Buffer.from(managedPassword.raw, 'hex'))
      const kvno = { value: Number(account['msDS-KeyVersionNumber']), readAt: receivedAt }
      const reading = { blob, receivedAt, kvno, jitter: 0 }
      const { enctypes } = chooseEnctypes(['aes256', 'aes128', 'rc4'], Number(account['msDS-SupportedEncryptionTypes']))
      const plan = scheduleKeys({ reading, now: receivedAt, keepPrevious: 0 })
      const made = await deriveKeys(plan, { realm, salt: accountSalt(account.name, realm), enctypes })
      expect(byEnctype(made, dcExportedKeys.kvno), label).toEqual(dcExportedKeys.keys)
    }
  })
})

describe('a deriver', () => {
  const options = { realm: 'AD.TEST', salt: 'AD.TESThostweb01.ad.test', enctypes: ENCTYPES.slice(0, 2) }
  const [one, two, three] = ['6100', '6200', '6300']

  test('makes each key once, whoever asks, and from reading to reading', async () => {
    const made: EnctypeNumber[] = []
    const { deriveKeys } = makeKeyDeriver({ onDerived: (enctype) => made.push(enctype) })
    const first = schedule(secret(two ?? ''), secret(one ?? ''))
    const [here, there] = await Promise.all([deriveKeys(first, options), deriveKeys(first, options)])
    expect(made.toSorted((one, other) => one - other)).toEqual([17, 17, 18, 18])
    expect(here.keys.map(({ key }) => key)).toEqual(there.keys.map(({ key }) => key))
    // A later reading brings the same passwords in new objects.
    await deriveKeys(schedule(secret(two ?? ''), secret(one ?? ''), first), options)
    expect(made.length).toBe(4)
    await deriveKeys(first, { ...options, salt: 'another' })
    expect(made.length).toBe(8)
    await deriveKeys(schedule(secret(three ?? '')), options)
    expect(made.length).toBe(10)
  })

  test('says of each key its kvno, phase and start, newest first and the best enctype first', async () => {
    const blob = { current: secret('6200'), previous: secret('6100'), queryInterval: 10n ** 9n, unchangedInterval: 0n }
    const reading = { blob, receivedAt: NOW, kvno: { value: 7, readAt: NOW }, rollover: 72_000_000, jitter: 0 }
    const { keys, kind, realm, salt } = await makeKeyDeriver().deriveKeys(
      scheduleKeys({ reading, now: NOW, keepPrevious: 0 }),
      options,
    )
    expect({ kind, realm, salt }).toEqual({ kind: 'kerberos-keys', realm: options.realm, salt: options.salt })
    const start = Date.UTC(2026, 10, 23, 4)
    expect(keys.map(({ key, ...rest }) => ({ ...rest, length: key.byteLength }))).toEqual([
      { kvno: 8, enctype: 18, phase: 'next', predicted: true, start, length: 32 },
      { kvno: 8, enctype: 17, phase: 'next', predicted: true, start, length: 16 },
      { kvno: 7, enctype: 18, phase: 'current', start: start - 72_000_000, length: 32 },
      { kvno: 7, enctype: 17, phase: 'current', start: start - 72_000_000, length: 16 },
    ])
    expect(JSON.stringify(keys)).not.toContain('6200')
    expect(JSON.stringify(keys).match(/\[secret\]/g)).toHaveLength(4)
  })

  test('gives nothing where the kvno is not known, or the reading is too old', async () => {
    const { deriveKeys } = makeKeyDeriver()
    const blob = { current: secret('6100'), queryInterval: 10n ** 12n, unchangedInterval: 10n ** 12n }
    const unknown = scheduleKeys({ reading: { blob, receivedAt: NOW, jitter: 0 }, now: NOW, keepPrevious: 0 })
    await expect(deriveKeys(unknown, options)).rejects.toMatchObject({ code: 'KVNO_UNKNOWN' })
    const reading = { blob, receivedAt: NOW, kvno: { value: 7, readAt: NOW }, jitter: 0 }
    const old = scheduleKeys({ reading, now: NOW + 10 ** 9, keepPrevious: 0 })
    await expect(deriveKeys(old, options)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  })

  test('forgets a failure and tries again', async () => {
    let failures = 1
    const { deriveKeys } = makeKeyDeriver({
      onDerived() {
        if (failures-- > 0) throw new RangeError('planted')
      },
    })
    const wanted = schedule(secret('6100'))
    await expect(deriveKeys(wanted, options)).rejects.toThrow('planted')
    expect((await deriveKeys(wanted, options)).keys).toHaveLength(2)
  })

  test('works on no more keys at a time than it may, and leaves the event loop free', async () => {
    let busy = 0
    const { deriveKeys } = makeKeyDeriver({
      concurrency: 1,
      onDerived(_, seconds) {
        busy += seconds
      },
    })
    const delay = monitorEventLoopDelay({ resolution: 5 })
    delay.enable()
    const started = performance.now()
    const wanted = Array.from({ length: 12 }, (_, index) => secret(`${index + 10}00`))
    const slow = ENCTYPES.filter(({ number }) => number === 19)
    const made = await Promise.all(wanted.map((each) => deriveKeys(schedule(each), { ...options, enctypes: slow })))
    delay.disable()
    expect(new Set(made.flatMap(({ keys }) => keys.map(({ key }) => hex(key.reveal())))).size).toBe(12)
    // Two at a time would be busy for longer than it took.
    expect(busy * 1000).toBeLessThanOrEqual(performance.now() - started)
    // Together they take over 50 ms of the processor: none of it on the event loop.
    expect(delay.percentile(50) / 1e6).toBeLessThan(40)
  })
})

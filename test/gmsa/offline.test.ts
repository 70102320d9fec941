import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Secret } from '../../src/base/secret.ts'
import { ntHash } from '../../src/crypto/string-to-key.ts'
import { fileTimeOf } from '../../src/gmsa/file-time.ts'
import { CYCLE_TICKS, cycleStart, gkidAt, MAX_SKEW_TICKS, rolloverTicks, startOfGkid } from '../../src/gmsa/gkid.ts'
import { parseKeyIdentifier } from '../../src/gmsa/key-identifier.ts'
import { formatManagedPassword, parseManagedPassword } from '../../src/gmsa/managed-password.ts'
import { changesSince, deriveOffline, type OfflineAccount } from '../../src/gmsa/offline.ts'
import { type KdsRootKey, parseKdfParam } from '../../src/gmsa/root-key.ts'
import { parseSid } from '../../src/gmsa/sid.ts'
import published from '../vectors/gkdi.json' with { type: 'json' }
import lab from '../vectors/samba-dc-sample.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data?: Secret) => (data ? Buffer.from(data.reveal()).toString('hex') : undefined)

/** A root key from the attributes of its object. */
function rootKey(id: string, attributes: Readonly<Record<string, unknown>>): KdsRootKey {
  const param = attributes['msKds-KDFParam']
  const hash = parseKdfParam(typeof param === 'string' ? bytes(param) : undefined)
  if (!hash) throw new Error('no hash')
  return {
    id,
    hash,
    data: new Secret(bytes(String(attributes['msKds-RootKeyData']))),
    createTime: BigInt(String(attributes['msKds-CreateTime'])),
    useStartTime: BigInt(String(attributes['msKds-UseStartTime'])),
  }
}

/** `20261123055110.0Z`. */
function generalizedTime(text: string): bigint {
  const [, year, month, day, hour, minute, second] = /^(....)(..)(..)(..)(..)(..)/.exec(text) ?? []
  return fileTimeOf(Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`))
}

describe("a domain controller's passwords, derived without it", () => {
  test('there are published vectors to run', () => {
    expect([published.rotation.length, published.kvnoTimeline.length, lab.samples.length]).toEqual([46, 36, 7])
    const read = published.rotation.map(({ label }) => label)
    expect(new Set(read).size).toBe(12)
  })

  test.each(published.rotation)('$account $label: both passwords and both intervals', (vector) => {
    const found = published.rootKeys.find(({ id }) => id === vector.rootKeyId)
    if (!found) return expect.unreachable('no such root key')
    const account = {
      sid: parseSid(vector.sid),
      intervalDays: vector.intervalDays,
      passwordId: { gkid: gkidAt(BigInt(vector.firstKeyStart)), rootKeyId: vector.rootKeyId },
      whenCreated: generalizedTime(vector.whenCreated),
    }
    const { blob, inForce } = deriveOffline(account, [rootKey(found.id, found.attributes)], BigInt(vector.time))
    const nt = (password?: Secret) => (password ? Buffer.from(ntHash(password.reveal())).toString('hex') : null)
    expect(nt(blob.current)).toBe(vector.currentNtHash)
    expect(nt(blob.previous)).toBe(vector.previousNtHash)
    expect(blob.queryInterval).toBe(BigInt(vector.queryInterval))
    expect(blob.unchangedInterval).toBe(BigInt(vector.unchangedInterval))
    const inWindow = blob.queryInterval <= MAX_SKEW_TICKS
    const [l0, l1, l2] = (inWindow ? vector.previousGkid : vector.currentGkid) ?? []
    expect(inForce).toEqual({ gkid: { l0, l1, l2 }, rootKeyId: vector.rootKeyId })
  })

  test.each(
    published.kvnoTimeline.map((vector) => ({
      ...vector,
      first: published.kvnoTimeline.find((each) => each.account === vector.account),
    })),
  )(
    '$account $label: what is in force is what the controller has stored',
    ({ time, first, intervalDays, storedGkid }) => {
      const [l0 = 0, l1 = 0, l2 = 0] = first?.storedGkid ?? []
      const account = {
        sid: parseSid('S-1-5-21-1-2-3-1105'),
        intervalDays,
        passwordId: { gkid: { l0, l1, l2 }, rootKeyId: published.rootKeys[0]?.id ?? '' },
      }
      const keys = published.rootKeys.map(({ id, attributes }) => rootKey(id, attributes))
      const { inForce } = deriveOffline(account, keys, BigInt(time))
      expect(Object.values(inForce.gkid)).toEqual(storedGkid)
    },
  )

  const samples = lab.samples.map((sample) => {
    const answer = parseManagedPassword(bytes(sample.managedPassword.raw))
    const id = parseKeyIdentifier(bytes(sample.managedPasswordId.raw))
    const rollover = rolloverTicks(Number(sample.account['msDS-ManagedPasswordInterval']))
    // The moment at which the controller answered, by what it said is left of the interval.
    return { ...sample, answer, id, time: startOfGkid(id.gkid) + rollover - answer.queryInterval }
  })
  const rootKeys = lab.rootKeys.map((each) => rootKey(each.cn, each))

  test.each(
    samples.flatMap((sample) => [
      { ...sample, anchor: 'its identifier' },
      { ...sample, anchor: 'its creation' },
    ]),
  )('$label, from $anchor: byte for byte', ({ account, managedPassword, id, time, anchor }) => {
    const known: OfflineAccount = {
      sid: parseSid(account.sid),
      intervalDays: Number(account['msDS-ManagedPasswordInterval']),
      whenCreated: generalizedTime(account.whenCreated),
      ...(anchor === 'its identifier' && { passwordId: id }),
    }
    const { blob } = deriveOffline(known, rootKeys, time)
    expect(formatManagedPassword(blob).toString('hex')).toBe(managedPassword.raw)
  })

  test('an identifier of long ago gives the same as one of now', () => {
    const web = samples.filter(({ account }) => account.name === 'web01$')
    const [first] = web
    if (!first) return expect.unreachable('no sample')
    for (const { account, time, managedPassword } of web) {
      const known = {
        sid: parseSid(account.sid),
        intervalDays: 1,
        whenCreated: generalizedTime(account.whenCreated),
        passwordId: first.id,
      }
      const { blob } = deriveOffline(known, rootKeys, time)
      expect(formatManagedPassword(blob).toString('hex')).toBe(managedPassword.raw)
    }
  })
})

describe('offline derivation', () => {
  const YEAR_1900 = fileTimeOf(Date.UTC(1900, 0, 1))
  const YEAR_2400 = fileTimeOf(Date.UTC(2400, 0, 1))
  const anyRootKey = (createTime: bigint, useStartTime: bigint): fc.Arbitrary<KdsRootKey> =>
    fc.record({
      id: fc.uuid(),
      hash: fc.constantFrom('sha1', 'sha256', 'sha384', 'sha512'),
      data: fc.uint8Array({ minLength: 64, maxLength: 64 }).map((data) => new Secret(data)),
      createTime: fc.constant(createTime),
      useStartTime: fc.constant(useStartTime),
    })
  const anySid = fc
    .tuple(fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff))
    .map((parts) => parseSid(['S-1-5-21', ...parts].join('-')))
  const anyDays = fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 200_000 }))

  /** An account and a time at or after its anchor, between 1900 and 2400. */
  const anyCase = fc
    .record({
      roots: fc.tuple(anyRootKey(1n, 1n), anyRootKey(2n, 1n)),
      sid: anySid,
      intervalDays: anyDays,
      times: fc.tuple(fc.bigInt({ min: YEAR_1900, max: YEAR_2400 }), fc.bigInt({ min: YEAR_1900, max: YEAR_2400 })),
      byId: fc.boolean(),
      whole: fc.boolean(),
    })
    .map(({ roots, sid, intervalDays, times, byId, whole }) => {
      const [early, late] = times[0] < times[1] ? times : [times[1], times[0]]
      // The edges are where it is decided: a time on one is as likely as one between.
      const time = whole ? early + ((late - early) / rolloverTicks(intervalDays)) * rolloverTicks(intervalDays) : late
      const passwordId = { gkid: gkidAt(early), rootKeyId: roots[1].id }
      const account: OfflineAccount = { sid, intervalDays, ...(byId ? { passwordId } : { whenCreated: early }) }
      return { account, roots, time, anchor: cycleStart(early), rollover: rolloverTicks(intervalDays) }
    })

  test('never throws from 1900 to 2400, is the same each time, and says how long it holds', () => {
    fc.assert(
      fc.property(anyCase, ({ account, roots, time, anchor, rollover }) => {
        const { blob, inForce } = deriveOffline(account, roots, time)
        expect(
          formatManagedPassword(deriveOffline(account, roots, time).blob).equals(formatManagedPassword(blob)),
        ).toBe(true)
        const { queryInterval: query, unchangedInterval: unchanged } = blob
        expect(query > 0n && query <= rollover).toBe(true)
        const window = query <= MAX_SKEW_TICKS
        expect(unchanged).toBe(window ? query + rollover - MAX_SKEW_TICKS : query - MAX_SKEW_TICKS)
        expect((time + query - anchor) % rollover).toBe(0n)
        expect(startOfGkid(inForce.gkid)).toBe(time + query - rollover)
        expect(changesSince(account, time)).toBe(Number((time - anchor) / rollover))
        expect(blob.current.byteLength).toBe(256)
      }),
      { numRuns: 300 },
    )
  })

  test('a password is stable within its interval; the one before it was in force an interval earlier', () => {
    fc.assert(
      fc.property(
        anyCase,
        fc.double({ min: 0, max: 1, noNaN: true }),
        ({ account, roots, time, anchor, rollover }, share) => {
          const { blob } = deriveOffline(account, roots, time)
          const later = time + BigInt(Math.floor(Number(blob.unchangedInterval) * share))
          const then = blob.unchangedInterval > 0n && later < time + blob.unchangedInterval ? later : time
          expect(hex(deriveOffline(account, roots, then).blob.current)).toBe(hex(blob.current))
          const inForceAt = (when: bigint) => {
            const { current, previous, queryInterval } = deriveOffline(account, roots, when).blob
            return hex(queryInterval <= MAX_SKEW_TICKS ? previous : current)
          }
          // The window's current one is in force from the change on.
          expect(inForceAt(time + blob.queryInterval)).toBe(
            hex(deriveOffline(account, roots, time + blob.queryInterval - 1n).blob.current),
          )
          if (blob.queryInterval > MAX_SKEW_TICKS && blob.previous && time - rollover >= anchor) {
            expect(hex(blob.previous)).toBe(inForceAt(time - rollover))
          }
        },
      ),
      { numRuns: 150 },
    )
  })
})

describe('an account', () => {
  const HOUR = 36_000_000_000n
  const [vector] = published.rootKeys
  if (!vector) throw new Error('no root key')
  const one = rootKey(vector.id, vector.attributes)
  const EDGE = startOfGkid({ l0: 364, l1: 18, l2: 21 })
  const account = { sid: parseSid('S-1-5-21-1-2-3-1105'), intervalDays: 1, whenCreated: EDGE + 3n * HOUR }
  const passwordId = { gkid: gkidAt(EDGE), rootKeyId: one.id }
  const madeAt = (createTime: bigint, useStartTime: bigint, id = '00000000-0000-0000-0000-000000000002') => ({
    ...one,
    id,
    createTime,
    useStartTime,
  })
  const rootIdAt = (keys: readonly KdsRootKey[], time: bigint, of: OfflineAccount = account) =>
    deriveOffline(of, keys, time).inForce.rootKeyId

  test('has no passwords before it was made, by the clock', () => {
    const derive = () => deriveOffline(account, [one], EDGE - 1n)
    expect(derive).toThrow(expect.objectContaining({ code: 'STORE_UNAVAILABLE', reason: 'clock' }))
    expect(derive).toThrow(/^the clock is at .*Z, before .*Z$/)
    expect(() => changesSince({ ...account, passwordId }, EDGE - 1n)).toThrow(/^the clock/)
    expect(() => deriveOffline({ sid: account.sid, intervalDays: 1 }, [one], EDGE)).toThrow(RangeError)
    expect(() => deriveOffline({ ...account, intervalDays: 0 }, [one], EDGE)).toThrow(RangeError)
  })

  test('younger than an interval has no previous password, as the controller withholds it', () => {
    const previousAt = (time: bigint) => deriveOffline(account, [one], time).blob.previous
    const change = EDGE + rolloverTicks(1)
    expect(previousAt(EDGE + 4n * HOUR)).toBeUndefined()
    expect(previousAt(change - 1n)).toBeDefined()
    expect(previousAt(change + 3n * HOUR - 1n)).toBeUndefined()
    expect(previousAt(change + 3n * HOUR)).toBeDefined()
    // Nobody said when it was made: then it is taken for old.
    const { sid, intervalDays } = account
    expect(deriveOffline({ sid, intervalDays, passwordId }, [one], EDGE).blob.previous).toBeDefined()
  })

  test('has no previous password where no root key was usable then', () => {
    const late = { ...one, useStartTime: EDGE }
    const { sid, intervalDays } = account
    expect(deriveOffline({ sid, intervalDays, passwordId }, [late], EDGE).blob.previous).toBeUndefined()
  })

  test('gets a new root key at its next change, and not sooner', () => {
    const two = madeAt(EDGE + 4n * HOUR, EDGE - CYCLE_TICKS)
    const change = EDGE + rolloverTicks(1)
    for (const of of [account, { ...account, passwordId }]) {
      expect([EDGE + 5n * HOUR, change - 1n, change].map((time) => rootIdAt([one, two], time, of))).toEqual([
        one.id,
        one.id,
        two.id,
      ])
    }
    const window = deriveOffline(account, [one, two], change - 1n)
    expect(hex(window.blob.current)).toBe(hex(deriveOffline(account, [one, two], change).blob.current))
  })

  test('is made with a root key that all controllers have, if there is one', () => {
    const created = account.whenCreated
    const fresh = madeAt(created - HOUR, EDGE - HOUR)
    expect(rootIdAt([one, fresh], created)).toBe(one.id)
    expect(rootIdAt([fresh], created)).toBe(fresh.id)
    // Its time has no fractions, those of root keys have.
    const sameSecond = madeAt(created + 9_000_000n, 1n)
    expect(rootIdAt([one, sameSecond], created)).toBe(sameSecond.id)
    expect(rootIdAt([one, madeAt(created + 2n * 10_000_000n, 1n)], created)).toBe(one.id)
  })

  test('without its root key has no password, and the error names the key, not its data', () => {
    const named = () => deriveOffline({ ...account, passwordId }, [madeAt(1n, 1n)], EDGE)
    expect(named).toThrow(expect.objectContaining({ code: 'MATERIAL_MALFORMED' }))
    expect(named).toThrow(`the root keys lack ${one.id}, which managedPasswordId names`)
    const none = () => deriveOffline(account, [madeAt(1n, EDGE + HOUR * 24n * 365n)], EDGE)
    expect(none).toThrow(/^the root keys lack one that was usable at .*Z$/)
  })
})

import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  deriveGmsaPassword,
  deriveL0Key,
  deriveSeedKey,
  GMSA_SECURITY_DESCRIPTOR,
  replaceZeroUnits,
  type SeedRoot,
} from '../../src/crypto/gkdi.ts'
import { HASHES, type HashName, hmac } from '../../src/crypto/hmac.ts'
import { deriveByCounter } from '../../src/crypto/sp800-108.ts'
import { ntHash } from '../../src/crypto/string-to-key.ts'
import { parseGuid } from '../../src/gmsa/guid.ts'
import { parseSid } from '../../src/gmsa/sid.ts'
import published from '../vectors/gkdi.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
const hashNames = Object.keys(HASHES) as HashName[]

/** A hash as the vectors write it; null stands for an absent msKds-KDFParam. */
const hashOf = (name: string | null): HashName =>
  hashNames.find((each) => each.toUpperCase() === (name ?? 'SHA256')) ?? 'sha1'

const rootOf = (vector: { rootKeyData: string; rootKeyId: string; kdfHash: string | null }): SeedRoot => ({
  hash: hashOf(vector.kdfHash),
  rootKey: bytes(vector.rootKeyData),
  rootKeyId: parseGuid(vector.rootKeyId),
})
const gkidOf = ([l0 = 0, l1 = 0, l2 = 0]: readonly number[]) => ({ l0, l1, l2 })

const anyHash = fc.constantFrom(...hashNames)
const anyBytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const anyRoot: fc.Arbitrary<SeedRoot> = fc.record({ hash: anyHash, rootKey: anyBytes(64), rootKeyId: anyBytes(16) })
const anyIndex = fc.integer({ min: 0, max: 31 })
const anyL0 = fc.integer({ min: 0, max: 0x7fffffff })
const SID = parseSid('S-1-5-21-1-2-3-1105')

describe('HMAC', () => {
  test("of any key and message is node's", () => {
    const anyLength = fc.uint8Array({ minLength: 0, maxLength: 300 })
    fc.assert(
      fc.property(anyHash, anyLength, anyLength, (hash, key, message) => {
        const before = hex(key)
        expect(hex(hmac(hash, key, message))).toBe(createHmac(hash, key).update(message).digest('hex'))
        expect(hex(key)).toBe(before)
      }),
    )
  })

  test('names the argument it refuses', () => {
    const some = new Uint8Array(4)
    expect(() => hmac('md5' as HashName, some, some)).toThrow(/^hash must be one of sha1/)
    expect(() => hmac('sha1', 'key' as unknown as Uint8Array, some)).toThrow(new TypeError('key must be a Uint8Array'))
    expect(() => hmac('sha1', some, 'm' as unknown as Uint8Array)).toThrow(TypeError)
  })
})

describe('derivation by counter', () => {
  /** SP 800-108 4.1 written down once more, with node's own HMAC. */
  function reference(hash: HashName, key: Uint8Array, label: Uint8Array, context: Uint8Array, length: number): string {
    const number = (value: number) => {
      const four = Buffer.alloc(4)
      four.writeUInt32BE(value)
      return four
    }
    const block = (counter: number) => {
      const parts = [number(counter), label, Buffer.alloc(1), context, number(length * 8)]
      return createHmac(hash, key).update(Buffer.concat(parts)).digest()
    }
    return hex(Buffer.concat([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map(block)).subarray(0, length))
  }

  test('is as the standard has it, for every hash and every length up to 300 bytes', () => {
    const some = fc.uint8Array({ maxLength: 80 })
    fc.assert(
      fc.property(anyHash, some, some, some, fc.integer({ min: 1, max: 300 }), (hash, key, label, context, length) => {
        const made = deriveByCounter(hash, key, label, context, length)
        expect(hex(made)).toBe(reference(hash, key, label, context, length))
      }),
    )
  })

  test('names the argument it refuses', () => {
    const some = new Uint8Array(4)
    for (const length of [0, -1, 1.5, 4097, Number.NaN]) {
      expect(() => deriveByCounter('sha1', some, some, some, length)).toThrow(/^length must be/)
    }
    expect(() => deriveByCounter('sha1', some, 'x' as unknown as Buffer, some, 4)).toThrow(/^label must be/)
    expect(() => deriveByCounter('sha1', some, some, 'x' as unknown as Buffer, 4)).toThrow(/^context must be/)
  })
})

describe('the published keys', () => {
  test('are there to run', () => {
    const { l0Keys, seedKeys, seedKeyErrors, passwords } = published
    expect([l0Keys, seedKeys, seedKeyErrors, passwords].map(({ length }) => length)).toEqual([1, 16, 12, 15])
    expect(hex(GMSA_SECURITY_DESCRIPTOR)).toBe(published.constants.gmsaSecurityDescriptor)
  })

  test.each(published.l0Keys)('L0 key $name', (vector) => {
    expect(hex(deriveL0Key(rootOf(vector), vector.l0))).toBe(vector.expectedKey)
  })

  test.each(published.seedKeys)('seed key $name $gkid', (vector) => {
    const key = deriveSeedKey(rootOf(vector), bytes(vector.securityDescriptor), gkidOf(vector.gkid))
    expect(hex(key)).toBe(vector.expectedKey)
  })

  test.each(published.passwords)('password $name', (vector) => {
    const seedKey = deriveSeedKey(rootOf(vector), GMSA_SECURITY_DESCRIPTOR, gkidOf(vector.gkid))
    expect(hex(parseSid(vector.sid))).toBe(vector.sidBytes)
    const password = deriveGmsaPassword(hashOf(vector.kdfHash), seedKey, parseSid(vector.sid))
    expect(hex(password)).toBe(vector.password)
    expect(hex(ntHash(password))).toBe(vector.ntHash)
    if (vector.rawKdfOutput) expect(hex(replaceZeroUnits(bytes(vector.rawKdfOutput)))).toBe(vector.password)
  })

  test.each(published.seedKeyErrors.filter(({ expectedError }) => expectedError === 'invalid-parameter'))(
    'no key for $name',
    (vector) => {
      const { gkid } = vector
      const derive = () => deriveSeedKey(rootOf(vector), GMSA_SECURITY_DESCRIPTOR, gkidOf(gkid))
      expect(derive).toThrow(RangeError)
      expect(derive).toThrow(/^l[012] must be a whole number from/)
    },
  )

  test('no key from data of another length, and no password from another seed', () => {
    const [short] = published.seedKeyErrors.filter(({ name }) => name.includes('32 bytes'))
    if (!short) return expect.unreachable('no such vector')
    const derive = () => deriveSeedKey(rootOf(short), GMSA_SECURITY_DESCRIPTOR, gkidOf(short.gkid))
    expect(derive).toThrow(new RangeError('rootKey must have 64 bytes'))
    expect(() => deriveGmsaPassword('sha1', new Uint8Array(63), SID)).toThrow(/^seedKey must have 64/)
    const root = { hash: 'sha1' as const, rootKey: new Uint8Array(64), rootKeyId: new Uint8Array(15) }
    expect(() => deriveL0Key(root, 1)).toThrow(/^rootKeyId must have 16/)
    expect(() => replaceZeroUnits(Buffer.alloc(3))).toThrow(RangeError)
  })
})

describe('the tree of keys', () => {
  const LABEL = bytes(published.constants.kdsLabel)
  /** One step from a key to the one before it. */
  const stepTo = ({ hash, rootKeyId }: SeedRoot, key: Uint8Array, ...indices: readonly number[]) => {
    const context = Buffer.concat([rootKeyId, Buffer.from(Int32Array.from(indices).buffer)])
    return hex(deriveByCounter(hash, key, LABEL, context, 64))
  }
  const seed = (root: SeedRoot, l0: number, l1: number, l2: number) =>
    deriveSeedKey(root, GMSA_SECURITY_DESCRIPTOR, { l0, l1, l2 })

  test('an index derives from the next higher one, L2 as well as L1', () => {
    fc.assert(
      fc.property(anyRoot, anyL0, anyIndex, fc.integer({ min: 0, max: 30 }), (root, l0, other, index) => {
        expect(hex(seed(root, l0, other, index))).toBe(stepTo(root, seed(root, l0, other, index + 1), l0, other, index))
        expect(hex(seed(root, l0, other, 31))).toBe(stepTo(root, seed(root, l0, other, -1), l0, other, 31))
        expect(hex(seed(root, l0, index, -1))).toBe(stepTo(root, seed(root, l0, index + 1, -1), l0, index, -1))
      }),
      { numRuns: 30 },
    )
  })

  test('any single bit of what goes in changes the password, and nothing that goes in is changed', () => {
    const password = ({ hash, ...root }: SeedRoot, sid: Uint8Array, descriptor: Uint8Array, gkid: readonly number[]) =>
      hex(deriveGmsaPassword(hash, deriveSeedKey({ hash, ...root }, descriptor, gkidOf(gkid)), sid))
    const flipped = (data: Uint8Array, bit: number) => {
      const copy = Uint8Array.from(data)
      const at = (bit >> 3) % copy.length
      copy[at] = (copy[at] ?? 0) ^ (1 << (bit & 7))
      return copy
    }
    const bit = fc.nat(8 * 64 - 1)
    fc.assert(
      fc.property(anyRoot, fc.tuple(anyL0, anyIndex, anyIndex), bit, (root, gkid, at) => {
        const [l0, l1, l2] = gkid
        const sd = GMSA_SECURITY_DESCRIPTOR
        const others = [
          password({ ...root, rootKey: flipped(root.rootKey, at) }, SID, sd, gkid),
          password({ ...root, rootKeyId: flipped(root.rootKeyId, at) }, SID, sd, gkid),
          password({ ...root, hash: hashNames.find((name) => name !== root.hash) ?? 'sha1' }, SID, sd, gkid),
          password(root, flipped(SID, at), sd, gkid),
          password(root, SID, flipped(sd, at), gkid),
          password(root, SID, sd, [l0 ^ 1, l1, l2]),
          password(root, SID, sd, [l0, l1 ^ 1, l2]),
          password(root, SID, sd, [l0, l1, l2 ^ 1]),
          password(root, SID, sd, gkid),
        ]
        expect(new Set(others).size).toBe(others.length)
      }),
      { numRuns: 20 },
    )
  })
})

describe('the fix-up', () => {
  test('changes the units that are zero, those alone, and nothing the second time', () => {
    const anyUnit = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }))
    fc.assert(
      fc.property(fc.array(anyUnit, { maxLength: 128 }), (units) => {
        const made = replaceZeroUnits(Buffer.from(Uint16Array.from(units).buffer))
        const expected = Buffer.from(Uint16Array.from(units, (unit) => unit || 1).buffer)
        expect(made.equals(expected)).toBe(true)
        expect(replaceZeroUnits(Buffer.from(made)).equals(expected)).toBe(true)
      }),
    )
  })
})

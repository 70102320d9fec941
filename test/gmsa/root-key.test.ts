import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { Secret } from '../../src/base/secret.ts'
import {
  chooseRootKey,
  formatKdfParam,
  type KdsRootKey,
  parseKdfParam,
  type RootKeyFields,
  rootKeyOf,
  wipeRootKeys,
} from '../../src/gmsa/root-key.ts'
import { printed } from '../contract/printed.ts'
import published from '../vectors/gkdi.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const id = (number: number) => `00000000-0000-0000-0000-00000000000${number}`

const FIELDS: RootKeyFields = {
  id: id(1),
  version: 1,
  kdfAlgorithm: 'SP800_108_CTR_HMAC',
  data: Buffer.alloc(64, 'pa55-Kanari'),
  createTime: 2n,
  useStartTime: 1n,
}

describe('msKds-KDFParam', () => {
  test('there are published ones to read', () => {
    expect(published.kdfParameters.length).toBe(11)
  })

  test.each(published.kdfParameters)('$hash $name $blob: $expect', ({ blob, hash, expect: expected }) => {
    const read = parseKdfParam(blob === null ? undefined : bytes(blob))
    expect(read).toBe(expected === 'accept' ? hash?.toLowerCase() : undefined)
    if (read && blob !== null) expect(formatKdfParam(read).toString('hex')).toBe(blob)
  })

  test('empty means the same as absent', () => {
    expect(parseKdfParam(new Uint8Array(0))).toBe('sha256')
  })

  test('no input throws', () => {
    const valid = formatKdfParam('sha512')
    fc.assert(
      fc.property(fc.nat(valid.length - 1), fc.nat(255), fc.nat(valid.length), (at, value, length) => {
        const copy = Buffer.from(valid)
        copy[at] = value
        const read = parseKdfParam(copy.subarray(0, length))
        expect(['sha512', 'sha256', undefined]).toContain(read)
      }),
    )
  })
})

describe('a root key', () => {
  test('that a directory holds is taken', () => {
    expect(published.rootKeys.length).toBe(6)
    for (const { id, attributes, effectiveHash } of published.rootKeys) {
      const param = attributes['msKds-KDFParam']
      const key = rootKeyOf({
        id: id.toUpperCase(),
        version: Number(attributes['msKds-Version']),
        kdfAlgorithm: attributes['msKds-KDFAlgorithmID'],
        ...(param !== null && { kdfParam: bytes(param) }),
        data: bytes(attributes['msKds-RootKeyData']),
        createTime: BigInt(attributes['msKds-CreateTime']),
        useStartTime: BigInt(attributes['msKds-UseStartTime']),
      })
      expect({ id: key.id, hash: key.hash.toUpperCase() }).toEqual({ id, hash: effectiveHash })
    }
  })

  test.each(published.seedKeyErrors.filter(({ expectedError }) => expectedError === 'unsupported'))(
    'is refused with its reason: $name',
    ({ rootKeyId, rootKeyVersion, kdfHash, rootKeyData, name }) => {
      const words = Buffer.from(`${kdfHash}\0`, 'utf16le')
      const kdfParam = Buffer.concat([bytes('00000000010000000000000000000000'), words])
      kdfParam.writeUInt32LE(words.length, 8)
      const make = () =>
        rootKeyOf({ ...FIELDS, id: rootKeyId, version: Number(rootKeyVersion), kdfParam, data: bytes(rootKeyData) })
      const field = name.includes('version') ? 'version' : name.includes('data') ? 'key data' : 'KDF parameter'
      expect(make).toThrow(expect.objectContaining({ code: 'MATERIAL_MALFORMED' }))
      expect(make).toThrow(new RegExp(`^root key ${rootKeyId}: ${field}`))
    },
  )

  test('of another derivation is refused', () => {
    expect(() => rootKeyOf({ ...FIELDS, kdfAlgorithm: 'sp800_108_ctr_hmac' })).toThrow(/KDF algorithm is not/)
  })

  test('is shown by no way of printing, nor by its errors, and can be wiped', () => {
    const key = rootKeyOf({ ...FIELDS, data: Uint8Array.from(FIELDS.data) })
    expect(printed(key)).not.toMatch(/pa55|kanari/i)
    try {
      rootKeyOf({ ...FIELDS, data: FIELDS.data.subarray(1) })
    } catch (error) {
      expect(error).toBeInstanceOf(GmsaError)
      expect(printed(error)).not.toMatch(/pa55|kanari|cGE1NS/i)
    }
    wipeRootKeys([key])
    expect([...key.data.reveal()].every((byte) => byte === 0)).toBe(true)
  })
})

describe('the root key for a password', () => {
  const key = (number: number, createTime: bigint, useStartTime: bigint): KdsRootKey => ({
    id: id(number),
    hash: 'sha512',
    data: new Secret(Buffer.alloc(64)),
    createTime,
    useStartTime,
  })
  const chosen = (keys: readonly KdsRootKey[], start: bigint, decidedAt?: bigint) =>
    chooseRootKey(keys, start, decidedAt)?.id.at(-1)

  test('is the newest whose use had started by then', () => {
    const keys = [key(1, 10n, 20n), key(2, 30n, 40n), key(3, 35n, 100n)]
    expect([19n, 20n, 39n, 40n, 99n, 100n].map((start) => chosen(keys, start))).toEqual([
      undefined,
      '1',
      '1',
      '2',
      '2',
      '3',
    ])
    expect(chosen(keys.toReversed(), 99n)).toBe('2')
  })

  test('is not one with a start in the past that was made after the password was settled', () => {
    const keys = [key(1, 10n, 5n), key(2, 60n, 50n)]
    expect(chosen(keys, 55n)).toBe('1')
    expect(chosen(keys, 60n)).toBe('2')
    expect(chosen(keys, 55n, 70n)).toBe('2')
  })

  test('is the newest usable, where all were made later', () => {
    expect(chosen([key(1, 60n, 50n), key(2, 70n, 50n)], 55n)).toBe('2')
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { deriveAesKey, deriveHmacKey } from '../../src/crypto/derive-key.ts'
import { md4 } from '../../src/crypto/md4.ts'
import { nFold } from '../../src/crypto/nfold.ts'
import { MAX_ITERATIONS, pbkdf2 } from '../../src/crypto/pbkdf2.ts'
import { aesSha1StringToKey, aesSha2StringToKey, ntHash } from '../../src/crypto/string-to-key.ts'
import gmsad from '../vectors/gmsad-string-to-key.json' with { type: 'json' }
import published from '../vectors/kerberos-crypto.json' with { type: 'json' }
import keys from '../vectors/kerberos-keys.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
const utf16 = (utf8: Uint8Array) => Buffer.from(Buffer.from(utf8).toString('utf8'), 'utf16le')

/** The key of a password in UTF-8, by enctype. */
async function stringToKey(etype: number, password: Uint8Array, salt: Uint8Array, iterations?: number) {
  if (etype === 17) return hex(await aesSha1StringToKey(16, password, salt, iterations))
  if (etype === 18) return hex(await aesSha1StringToKey(32, password, salt, iterations))
  if (etype === 19) return hex(await aesSha2StringToKey(16, password, salt, iterations))
  if (etype === 20) return hex(await aesSha2StringToKey(32, password, salt, iterations))
  if (etype === 23) return hex(ntHash(utf16(password)))
  throw new Error(`no such enctype: ${etype}`)
}

describe('MD4', () => {
  // RFC 1320 A.5.
  const suite: readonly (readonly [text: string, digest: string])[] = [
    ['', '31d6cfe0d16ae931b73c59d7e0c089c0'],
    ['a', 'bde52cb31de33e46245e05fbdbd6fb24'],
    ['abc', 'a448017aaf21d8525fc10ae87aa6729d'],
    ['message digest', 'd9130a8164549fe818874806e1c7014b'],
    ['abcdefghijklmnopqrstuvwxyz', 'd79e1c308aa5bbcdeea8ed63df412da9'],
    ['ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789', '043f8582f241db351ce627e153e7f0e4'],
    ['1234567890'.repeat(8), 'e33b4ddc9c38f2199c3e7b164fcc0536'],
  ]

  test.each(suite)('of %j is the one in RFC 1320', (text, digest) => {
    expect(hex(md4(Buffer.from(text)))).toBe(digest)
  })

  test('takes any length around the ends of a block, and leaves its input alone', () => {
    const data = Buffer.alloc(200, 7)
    const digests = Array.from({ length: 200 }, (_, length) => hex(md4(data.subarray(0, length))))
    expect(new Set(digests).size).toBe(200)
    expect(data.every((byte) => byte === 7)).toBe(true)
  })

  test('refuses what is no bytes', () => {
    expect(() => md4('abc' as unknown as Uint8Array)).toThrow(new TypeError('data must be a Uint8Array'))
  })
})

describe('n-fold', () => {
  test('there are published vectors to run', () => {
    expect(published.nfold.length).toBe(11)
  })

  test.each(published.nfold)('of $input to $bits bits is the published one', ({ input, bits, output }) => {
    expect(hex(nFold(bytes(input), bits / 8))).toBe(output)
  })

  test('to its own length is the input itself', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (input) => {
        expect(hex(nFold(input, input.length))).toBe(hex(input))
      }),
    )
  })

  test('names the argument it refuses', () => {
    expect(() => nFold(new Uint8Array(0), 16)).toThrow(/^input length must be/)
    expect(() => nFold(new Uint8Array(256), 16)).toThrow(RangeError)
    for (const length of [0, -1, 1.5, 256, Number.NaN]) {
      expect(() => nFold(Buffer.from('kerberos'), length)).toThrow(RangeError)
    }
    expect(() => nFold(Buffer.from('kerberos'), '16' as unknown as number)).toThrow(TypeError)
  })
})

describe('key derivation', () => {
  test('there are published vectors to run', () => {
    expect(published.derive.length).toBe(12)
  })

  test.each(published.derive)('of etype $etype, $which, is the published one', (vector) => {
    const [key, constant, derived] = [vector.key, vector.constant, vector.derived].map(bytes) as [
      Buffer,
      Buffer,
      Buffer,
    ]
    const made =
      vector.etype < 19
        ? deriveAesKey(key, constant)
        : deriveHmacKey(vector.etype === 19 ? 'sha256' : 'sha384', key, constant, derived.length * 8)
    expect(made).toEqual(derived)
  })

  test('names the argument it refuses', () => {
    expect(() => deriveAesKey(Buffer.alloc(24), Buffer.from('x'))).toThrow(/^key must have/)
    expect(() => deriveAesKey(Buffer.alloc(16), Buffer.alloc(0))).toThrow(RangeError)
    expect(() => deriveHmacKey('sha256', Buffer.alloc(16), Buffer.alloc(1), 264)).toThrow(/^bits must be/)
    expect(() => deriveHmacKey('sha256', Buffer.alloc(16), Buffer.alloc(1), 9)).toThrow(RangeError)
    expect(() => deriveHmacKey('sha256', 'key' as unknown as Buffer, Buffer.alloc(1), 8)).toThrow(TypeError)
  })
})

describe('string to key', () => {
  const fromSuites = [
    ...published.string_to_key.map((vector) => ({ ...vector, from: vector.provenance })),
    ...keys.stringToKey.map((vector) => ({ ...vector, from: vector.name })),
  ]
  const fromGmsad = gmsad.cases.flatMap(({ keysByEnctype, passwordUtf8, salt, provenance }) =>
    Object.entries(keysByEnctype).map(([etype, key]) => ({
      etype: Number(etype),
      passwordUtf8,
      salt,
      key,
      provenance,
    })),
  )

  test('there are vectors of every enctype to run', () => {
    expect(fromSuites.length).toBe(45)
    expect(fromGmsad.length).toBe(20)
    const types = [...fromSuites, ...fromGmsad].map(({ etype }) => etype)
    expect(new Set(types)).toEqual(new Set([17, 18, 19, 20, 23]))
  })

  test.each(fromSuites)('of etype $etype, $iterations rounds, $from', async (vector) => {
    const { etype, password, salt, iterations, key } = vector
    expect(await stringToKey(etype, bytes(password), bytes(salt), iterations ?? undefined)).toBe(key)
  })

  test.each(fromGmsad)('of etype $etype with salt $salt, by its own number of rounds', async (vector) => {
    const { etype, passwordUtf8, salt, key } = vector
    expect(await stringToKey(etype, bytes(passwordUtf8), Buffer.from(salt))).toBe(key)
  })

  test.each(keys.ntHash)('the NT hash of $passwordUtf16', ({ passwordUtf16, ntHash: expected }) => {
    expect(hex(ntHash(bytes(passwordUtf16)))).toBe(expected)
  })

  test('lets the password be wiped as soon as the promise is there', async () => {
    const password = Buffer.from('password')
    const promise = aesSha1StringToKey(32, password, Buffer.from('ATHENA.MIT.EDUraeburn'), 1200)
    password.fill(0)
    expect(hex(await promise)).toBe('55a6ac740ad17b4846941051e1e8b0a7548d93b0ab30a8bc3ff16280382b8c2a')
  })

  test('names the argument it refuses', async () => {
    const [password, salt] = [Buffer.from('p'), Buffer.from('s')]
    await expect(aesSha1StringToKey(24 as 16, password, salt)).rejects.toThrow(/^length must be/)
    await expect(aesSha2StringToKey(24 as 16, password, salt)).rejects.toThrow(RangeError)
    await expect(aesSha1StringToKey(16, 'p' as unknown as Buffer, salt)).rejects.toThrow(/^password must be/)
    await expect(aesSha2StringToKey(16, password, 's' as unknown as Buffer)).rejects.toThrow(/^salt must be/)
    for (const rounds of [0, -1, 0.5, MAX_ITERATIONS + 1, Number.NaN]) {
      await expect(aesSha1StringToKey(16, password, salt, rounds)).rejects.toThrow(RangeError)
    }
    expect(() => pbkdf2('sha1', password, salt, 1, 0)).toThrow(/^length must be/)
    expect(() => ntHash('p' as unknown as Buffer)).toThrow(TypeError)
  })
})

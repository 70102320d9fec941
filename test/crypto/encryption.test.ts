import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { aesCtsDecrypt, aesCtsEncrypt } from '../../src/crypto/aes-cts.ts'
import { confounderLength, decrypt, type EncryptionType, encrypt } from '../../src/crypto/encryption.ts'
import { rc4 } from '../../src/crypto/rc4.ts'
import published from '../vectors/kerberos-crypto.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
const TYPES: readonly EncryptionType[] = [17, 18, 19, 20, 23]
const typeOf = (etype: number) => TYPES.find((each) => each === etype) ?? expect.unreachable(`etype ${etype}`)
const keyFor = (type: EncryptionType) => new Uint8Array(type === 18 || type === 20 ? 32 : 16).fill(type)

const anyType = fc.constantFrom(...TYPES)
const anyUsage = fc.oneof(fc.nat(30), fc.nat(0xffff_ffff))
const anyText = fc.uint8Array({ maxLength: 100 })

describe('AES with ciphertext stealing', () => {
  test('there are published vectors to run', () => expect(published.cts.length).toBe(6))

  test.each(published.cts)('turns $plaintext into the published ciphertext, and back', (vector) => {
    expect(Buffer.from(vector.iv, 'hex').every((byte) => byte === 0)).toBe(true)
    const [key, plaintext, ciphertext] = [bytes(vector.key), bytes(vector.plaintext), bytes(vector.ciphertext)]
    expect(hex(aesCtsEncrypt(key, plaintext))).toBe(vector.ciphertext)
    expect(hex(aesCtsDecrypt(key, ciphertext))).toBe(vector.plaintext)
  })

  test('gives back what was put in, at every length and in as many bytes', () => {
    for (const keyLength of [16, 32]) {
      const key = new Uint8Array(keyLength).fill(3)
      for (let length = 16; length <= 100; length++) {
        const plaintext = Uint8Array.from({ length }, (_, index) => index)
        const ciphertext = aesCtsEncrypt(key, plaintext)
        expect(ciphertext.length).toBe(length)
        expect(hex(aesCtsDecrypt(key, ciphertext))).toBe(hex(plaintext))
        expect(plaintext.every((byte, index) => byte === index)).toBe(true)
      }
    }
  })

  test('names the argument it refuses', () => {
    const key = new Uint8Array(16)
    expect(() => aesCtsEncrypt(key, new Uint8Array(15))).toThrow(/^plaintext must have/)
    expect(() => aesCtsDecrypt(key, new Uint8Array(15))).toThrow(/^ciphertext must have/)
    expect(() => aesCtsEncrypt(new Uint8Array(24), new Uint8Array(16))).toThrow(/^key must have/)
    expect(() => aesCtsDecrypt('key' as unknown as Uint8Array, new Uint8Array(16))).toThrow(TypeError)
  })
})

describe('RC4', () => {
  // RFC 6229 2: the first 16 bytes of the key stream, and those at offset 4096.
  test.each([
    ['0102030405', 'b2396305f03dc027ccc3524a0a1118a8', 'ff25b58995996707e51fbdf08b34d875'],
    ['0102030405060708090a0b0c0d0e0f10', '9ac7cc9a609d1ef7b2932899cde41b97', 'a36a4c301ae8ac13610ccbc12256cacc'],
  ])('with key %s has the key stream of RFC 6229', (key, start, later) => {
    const stream = rc4(bytes(key), new Uint8Array(4112))
    expect(hex(stream.subarray(0, 16))).toBe(start)
    expect(hex(stream.subarray(4096))).toBe(later)
  })

  test('is its own opposite', () => {
    const once = rc4(bytes('0102'), Buffer.from('text'))
    expect(rc4(bytes('0102'), once).toString()).toBe('text')
  })

  test('names the argument it refuses', () => {
    expect(() => rc4(new Uint8Array(0), new Uint8Array(1))).toThrow(/^key length must be/)
    expect(() => rc4(new Uint8Array(257), new Uint8Array(1))).toThrow(RangeError)
    expect(() => rc4(new Uint8Array(5), 'x' as unknown as Uint8Array)).toThrow(/^data must be/)
  })
})

describe('encryption', () => {
  test('there are published vectors of every type to run', () => {
    expect(published.decrypt.length).toBe(23)
    expect(new Set(published.decrypt.map(({ etype }) => etype))).toEqual(new Set(TYPES))
  })

  test.each(published.decrypt)('of type $etype, usage $usage: $ciphertext opens', (vector) => {
    const type = typeOf(vector.etype)
    const opened = decrypt(type, bytes(vector.key), vector.usage, bytes(vector.ciphertext))
    expect(opened && hex(opened)).toBe(vector.plaintext)
  })

  test.each(TYPES)('of type %d opens again, for its own key and usage only', (type) => {
    fc.assert(
      fc.property(anyUsage, anyText, fc.uint8Array({ minLength: 16, maxLength: 16 }), (usage, plaintext, noise) => {
        const key = keyFor(type)
        const sealed = encrypt(type, key, usage, plaintext, noise.subarray(0, confounderLength(type)))
        expect(decrypt(type, key, usage, sealed)).toEqual(Buffer.from(plaintext))
        // RC4 takes some usages for the same as others.
        const other = usage > 1000 ? usage - 1 : usage + 1000
        expect(decrypt(type, key, other, sealed)).toBeUndefined()
        expect(decrypt(type, Buffer.from(key).fill(1, 0, 1), usage, sealed)).toBeUndefined()
      }),
    )
  })

  test('no ciphertext opens after a bit of it was changed, or a byte cut off or added', () => {
    fc.assert(
      fc.property(anyType, anyText, fc.nat(), fc.nat(7), (type, plaintext, at, bit) => {
        const key = keyFor(type)
        const sealed = encrypt(type, key, 3, plaintext, new Uint8Array(confounderLength(type)))
        const changed = Buffer.from(sealed)
        changed[at % sealed.length] = (changed[at % sealed.length] ?? 0) ^ (1 << bit)
        expect(decrypt(type, key, 3, changed)).toBeUndefined()
        expect(decrypt(type, key, 3, sealed.subarray(1))).toBeUndefined()
        expect(decrypt(type, key, 3, sealed.subarray(0, -1))).toBeUndefined()
        expect(decrypt(type, key, 3, Buffer.concat([sealed, Buffer.alloc(1)]))).toBeUndefined()
      }),
    )
  })

  test('bytes that nobody has encrypted do not open', () => {
    fc.assert(
      fc.property(anyType, fc.uint8Array({ maxLength: 200 }), (type, junk) => {
        expect(decrypt(type, keyFor(type), 3, junk)).toBeUndefined()
      }),
    )
  })

  test('one plaintext under two confounders gives two ciphertexts, and is left as it was', () => {
    for (const type of TYPES) {
      const plaintext = Buffer.from('the same')
      const [one, other] = [1, 2].map((fill) =>
        encrypt(type, keyFor(type), 1, plaintext, new Uint8Array(confounderLength(type)).fill(fill)),
      )
      expect(one).not.toEqual(other)
      expect(plaintext.toString()).toBe('the same')
    }
  })

  test('RC4 numbers the usages of a reply and of GSS signatures as Windows does', () => {
    const noise = new Uint8Array(8)
    for (const [ours, theirs] of [
      [3, 8],
      [9, 8],
      [23, 13],
    ] as const) {
      const sealed = encrypt(23, keyFor(23), ours, Buffer.from('x'), noise)
      expect(decrypt(23, keyFor(23), theirs, sealed)?.toString()).toBe('x')
    }
  })

  test('names the argument it refuses', () => {
    const [key, noise] = [keyFor(18), new Uint8Array(16)]
    expect(() => encrypt(18, keyFor(17), 1, noise, noise)).toThrow(/^key must have 32 bytes/)
    expect(() => encrypt(18, key, -1, noise, noise)).toThrow(/^usage must be/)
    expect(() => encrypt(18, key, 2 ** 32, noise, noise)).toThrow(RangeError)
    expect(() => encrypt(18, key, 1, noise, noise.subarray(1))).toThrow(/^confounder must have 16 bytes/)
    expect(() => encrypt(23, keyFor(23), 1, noise, noise)).toThrow(/^confounder must have 8 bytes/)
    expect(() => encrypt(18, key, 1, 'x' as unknown as Uint8Array, noise)).toThrow(/^plaintext must be/)
    expect(() => decrypt(18, key, 1, 'x' as unknown as Uint8Array)).toThrow(/^ciphertext must be/)
    expect(() => decrypt(16 as EncryptionType, key, 1, noise)).toThrow(/^type must be/)
    expect(() => confounderLength(1 as EncryptionType)).toThrow(RangeError)
  })
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { GmsaError } from '../../src/base/errors.ts'
import { Secret } from '../../src/base/secret.ts'
import { ntHash } from '../../src/crypto/string-to-key.ts'
import {
  formatManagedPassword,
  MAX_BLOB_BYTES,
  type PasswordBlob,
  parseManagedPassword,
  utf16ToUtf8,
} from '../../src/gmsa/managed-password.ts'
import gmsad from '../vectors/gmsad-managed-password-blobs.json' with { type: 'json' }
import keys from '../vectors/kerberos-keys.json' with { type: 'json' }
import published from '../vectors/managed-password-blob.json' with { type: 'json' }
import lab from '../vectors/samba-dc-sample.json' with { type: 'json' }

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data: Uint8Array | undefined) => (data ? Buffer.from(data).toString('hex') : null)
const malformed = expect.objectContaining({ code: 'MATERIAL_MALFORMED' })

/** Fields in the words of the vector files. */
function fields(blob: string) {
  const { current, previous, queryInterval, unchangedInterval } = parseManagedPassword(bytes(blob))
  return {
    currentPassword: hex(current.reveal()),
    previousPassword: hex(previous?.reveal()),
    queryPasswordInterval: `${queryInterval}`,
    unchangedPasswordInterval: `${unchangedInterval}`,
  }
}

describe('the published blobs', () => {
  test('are there to run', () => {
    expect([published.blobs.length, published.errors.length]).toEqual([54, 24])
    expect([gmsad.blobs, gmsad.mustReject, gmsad.paddedCases, gmsad.embeddedCases].map((each) => each.length)).toEqual([
      3, 8, 2, 1,
    ])
    expect(lab.samples.length).toBe(7)
  })

  test.each(published.blobs)('$name: its fields, its NT hashes, its UTF-8, and the same bytes again', (vector) => {
    const { currentPassword, previousPassword, queryPasswordInterval, unchangedPasswordInterval } = vector.fields
    const expected = { currentPassword, previousPassword, queryPasswordInterval, unchangedPasswordInterval }
    expect(fields(vector.blob)).toEqual(expected)
    const parsed = parseManagedPassword(bytes(vector.blob))
    expect(parsed.oddities).toEqual([])
    expect(hex(ntHash(parsed.current.reveal()))).toBe(vector.currentNtHash)
    expect(hex(utf16ToUtf8(parsed.current.reveal()))).toBe(vector.currentUtf8)
    if (parsed.previous) {
      expect(hex(ntHash(parsed.previous.reveal()))).toBe(vector.previousNtHash)
      expect(hex(utf16ToUtf8(parsed.previous.reveal()))).toBe(vector.previousUtf8)
    }
    expect(hex(formatManagedPassword(parsed))).toBe(vector.blob)
  })

  test.each(gmsad.blobs)("gmsad's $name", (vector) => {
    expect(fields(vector.blobHex)).toEqual({
      currentPassword: vector.current.utf16le,
      previousPassword: vector.previous?.utf16le ?? null,
      queryPasswordInterval: `${vector.queryPasswordInterval100ns}`,
      unchangedPasswordInterval: `${vector.unchangedPasswordInterval100ns}`,
    })
    for (const password of [vector.current, vector.previous]) {
      if (!password) continue
      expect(hex(utf16ToUtf8(bytes(password.utf16le)))).toBe(password.utf8WithReplacement)
      expect(hex(ntHash(bytes(password.utf16le)))).toBe(password.ntHashOverRawUtf16)
    }
  })

  test.each(lab.samples)('a domain controller, $label', ({ managedPassword }) => {
    expect(fields(managedPassword.raw)).toEqual({
      currentPassword: managedPassword.currentPassword,
      previousPassword: managedPassword.previousPassword,
      queryPasswordInterval: managedPassword.queryPasswordInterval100ns,
      unchangedPasswordInterval: managedPassword.unchangedPasswordInterval100ns,
    })
  })

  test.each(gmsad.paddedCases)('$case', ({ blobHex, currentUtf16le, previousUtf16le }) => {
    const { currentPassword, previousPassword } = fields(blobHex)
    expect({ currentPassword, previousPassword }).toEqual({
      currentPassword: currentUtf16le,
      previousPassword: previousUtf16le,
    })
  })

  test.each(gmsad.embeddedCases)('$case', ({ blobHex, currentUtf16le }) => {
    expect(fields(blobHex).currentPassword).toBe(currentUtf16le)
  })

  test.each(published.errors)('$name: $expect', ({ name, blob, expect: verdict }) => {
    if (verdict === 'reject') return expect(() => parseManagedPassword(bytes(blob))).toThrow(malformed)
    const { oddities } = parseManagedPassword(bytes(blob))
    return expect(oddities).toEqual(name === 'reserved = 1' ? ['reserved-not-zero'] : [])
  })

  test.each(gmsad.mustReject)('is refused: $why', ({ blobHex }) => {
    expect(() => parseManagedPassword(bytes(blobHex))).toThrow(malformed)
  })
})

const password = fc
  .array(fc.integer({ min: 1, max: 0xffff }), { minLength: 1, maxLength: 200 })
  .map((units) => new Secret(new Uint8Array(new Uint16Array(units).buffer)))
const interval = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const anyBlob: fc.Arbitrary<PasswordBlob> = fc
  .record({ current: password, previous: fc.option(password), queryInterval: interval, unchangedInterval: interval })
  .map(({ previous, ...rest }) => ({ ...rest, ...(previous && { previous }) }))

describe('a blob', () => {
  test('of any fields comes back as it was', () => {
    fc.assert(
      fc.property(anyBlob, (blob) => {
        const { current, previous, queryInterval, unchangedInterval } = parseManagedPassword(
          formatManagedPassword(blob),
        )
        expect(hex(current.reveal())).toBe(hex(blob.current.reveal()))
        expect(hex(previous?.reveal())).toBe(hex(blob.previous?.reveal()))
        expect([queryInterval, unchangedInterval]).toEqual([blob.queryInterval, blob.unchangedInterval])
      }),
    )
  })

  test('cut short anywhere, or longer, is refused', () => {
    fc.assert(
      fc.property(anyBlob, fc.nat(), (blob, cut) => {
        const whole = formatManagedPassword(blob)
        expect(() => parseManagedPassword(whole.subarray(0, cut % whole.length))).toThrow(malformed)
        expect(() => parseManagedPassword(Buffer.concat([whole, Buffer.alloc(1)]))).toThrow(malformed)
      }),
    )
  })

  test('takes copies of the passwords', () => {
    const value = bytes(published.blobs[0]?.blob ?? '')
    const { current } = parseManagedPassword(value)
    const before = hex(current.reveal())
    value.fill(0)
    expect(hex(current.reveal())).toBe(before)
  })

  test('with a password that is not 256 bytes is taken, and said so', () => {
    const current = new Secret(Buffer.from('pass', 'utf16le'))
    const short = formatManagedPassword({ current, queryInterval: 1n, unchangedInterval: 2n })
    expect(parseManagedPassword(short).oddities).toEqual(['password-length'])
  })

  test('with a NUL inside a password that is not 256 bytes is refused, never cut at it', () => {
    const current = new Secret(Buffer.from('x'.repeat(20), 'utf16le'))
    const blob = formatManagedPassword({ current, queryInterval: 1n, unchangedInterval: 2n })
    blob.writeUInt16LE(0, 16 + 10)
    expect(() => parseManagedPassword(blob)).toThrow('managed password: CurrentPassword holds a NUL')
  })

  test('with an empty password, or one that begins in the header, is refused', () => {
    const current = new Secret(Buffer.from('x', 'utf16le'))
    const small = () => formatManagedPassword({ current, queryInterval: 1n, unchangedInterval: 2n })
    const empty = small()
    empty.writeUInt16LE(0, 16)
    expect(() => parseManagedPassword(empty)).toThrow('managed password: CurrentPassword is empty')
    const inHeader = small()
    inHeader.writeUInt16LE(12, 8)
    expect(() => parseManagedPassword(inHeader)).toThrow('managed password: offsets out of order')
  })

  test('of up to 64 KiB of anything costs bounded work and throws nothing else', { timeout: 2_000 }, () => {
    const sample = published.blobs.find(({ fields: { previousPassword } }) => previousPassword)?.blob ?? ''
    const mutated = fc
      .array(fc.tuple(fc.nat(bytes(sample).length - 1), fc.nat(255)), { maxLength: 6 })
      .map((changes) => changes.reduce((blob, [at, value]) => blob.fill(value, at, at + 1), bytes(sample)))
    // A header that announces the right length, whatever stands behind it.
    const framed = fc.uint8Array({ minLength: 16, maxLength: MAX_BLOB_BYTES }).map((input) => {
      const blob = Buffer.from(input)
      blob.writeUInt16LE(1, 0)
      blob.writeUInt32LE(blob.length, 4)
      return blob
    })
    const random = fc.uint8Array({ maxLength: 65_536, size: 'max' })
    let [read, refused] = [0, 0]
    fc.assert(
      fc.property(fc.oneof({ weight: 8, arbitrary: mutated }, { weight: 8, arbitrary: framed }, random), (input) => {
        try {
          const { current, previous } = parseManagedPassword(input)
          expect(current.byteLength + (previous?.byteLength ?? 0)).toBeLessThan(input.length)
          read += 1
        } catch (error) {
          expect(error).toBeInstanceOf(GmsaError)
          refused += 1
        }
      }),
      { numRuns: 500 },
    )
    expect(Math.min(read, refused)).toBeGreaterThan(10)
  })

  test('is not written of what could not be read again', () => {
    const secret = (text: string) => new Secret(Buffer.from(text, 'utf16le'))
    const good = { current: secret('x'), queryInterval: 0n, unchangedInterval: 0n }
    expect(() => formatManagedPassword({ ...good, current: secret('') })).toThrow(RangeError)
    expect(() => formatManagedPassword({ ...good, current: new Secret(Buffer.alloc(3, 1)) })).toThrow(RangeError)
    expect(() => formatManagedPassword({ ...good, previous: secret('a\0b') })).toThrow(
      'previous is no managed password',
    )
    expect(() => formatManagedPassword({ ...good, queryInterval: -1n })).toThrow(RangeError)
    expect(() => formatManagedPassword({ ...good, unchangedInterval: 2n ** 64n })).toThrow(RangeError)
    expect(() => formatManagedPassword({ ...good, current: secret('x'.repeat(2_100)) })).toThrow(RangeError)
  })
})

describe('UTF-16LE to UTF-8', () => {
  test('there are published vectors to run', () => {
    expect([keys.utf16ToUtf8.length, keys.accounts.length]).toEqual([14, 31])
  })

  test.each(keys.utf16ToUtf8)('$name', ({ utf16, utf8 }) => {
    expect(hex(utf16ToUtf8(bytes(utf16)))).toBe(utf8)
  })

  test.each(keys.accounts)('the password of $name', ({ passwordUtf16, utf8, replacementCount }) => {
    const converted = utf16ToUtf8(bytes(passwordUtf16))
    expect(hex(converted)).toBe(utf8)
    expect(converted.toString('utf8').split('\ufffd').length - 1).toBe(replacementCount)
  })

  test('is what Node makes of any units', () => {
    const unit = fc.oneof(fc.nat(0xffff), fc.integer({ min: 0xd7ff, max: 0xe000 }))
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 64 }), (units) => {
        const utf16 = Buffer.from(new Uint16Array(units).buffer)
        expect(hex(utf16ToUtf8(utf16))).toBe(hex(Buffer.from(utf16.toString('utf16le'), 'utf8')))
      }),
    )
  })

  test('refuses half a unit', () => {
    expect(() => utf16ToUtf8(Buffer.alloc(3))).toThrow(RangeError)
  })
})

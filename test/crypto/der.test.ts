import * as asn1 from 'asn1js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  applicationTag,
  contentOf,
  contextTag,
  DER,
  readDer,
  readDerElement,
  readDerInteger,
  writeDer,
  writeDerInteger,
} from '../../src/crypto/der.ts'

const bytes = (hex: string) => Buffer.from(hex, 'hex')
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
const anyBytes = fc.uint8Array({ maxLength: 300 })

describe('elements', () => {
  test('written one after the other are read as such, whatever their length', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(0xff), anyBytes), { maxLength: 5 }), (items) => {
        fc.pre(items.every(([tag]) => (tag & 0x1f) !== 0x1f))
        const written = items.map(([tag, content]) => writeDer(tag, content))
        const read = readDer(Buffer.concat(written))
        expect(read.map(({ tag, content }) => [tag, hex(content)])).toEqual(
          items.map(([tag, content]) => [tag, hex(content)]),
        )
        expect(read.map(({ encoded }) => hex(encoded))).toEqual(written.map(hex))
      }),
    )
  })

  test.each([0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000])(
    'of %d bytes are those of another encoder',
    (length) => {
      const content = new Uint8Array(length).fill(5)
      const theirs = new asn1.OctetString({ valueHex: content.buffer }).toBER()
      expect(writeDer(DER.octetString, content).equals(Buffer.from(theirs))).toBe(true)
      expect(readDerElement(new Uint8Array(theirs), DER.octetString).length).toBe(length)
    },
  )

  test('are put together of parts, and found by their tags', () => {
    expect(hex(writeDer(DER.sequence, bytes('0201'), bytes('07')))).toBe('3003020107')
    expect([contextTag(5), applicationTag(30)]).toEqual([0xa5, 0x7e])
    const [element] = readDer(bytes('a503020107'))
    expect(hex(contentOf(element, contextTag(5)))).toBe('020107')
    expect(() => contentOf(element, contextTag(4))).toThrow(RangeError)
    expect(() => contentOf(undefined, contextTag(4))).toThrow(RangeError)
  })

  test.each([
    ['an indefinite length', '30800000'],
    ['a length in two octets that fits one', '04810101'],
    ['a length with a leading zero', `04820080${'00'.repeat(128)}`],
    ['a length of five octets', '04850000000001ff'],
    ['a tag of several octets', '1f810100'],
    ['a tag alone', '04'],
    ['a cut-off length', '0482'],
    ['a cut-off content', '040201'],
    ['a length beyond all memory', '0484ffffffff00'],
  ])('%s is refused', (_what, text) => {
    expect(() => readDer(bytes(text))).toThrow(RangeError)
  })

  test('exactly one is asked for', () => {
    expect(() => readDerElement(bytes('04000400'), DER.octetString)).toThrow(RangeError)
    expect(() => readDerElement(bytes(''), DER.octetString)).toThrow(RangeError)
    expect(() => readDerElement(bytes('0400'), DER.integer)).toThrow(RangeError)
  })

  test('no bytes up to 64 KiB make the reader throw anything but RangeError', () => {
    const long = fc.uint8Array({ minLength: 0, maxLength: 1 << 16, size: 'max' })
    fc.assert(
      fc.property(fc.oneof(anyBytes, long), (junk) => {
        expect(() => attempt(() => readDer(junk))).not.toThrow()
      }),
    )
    expect(() => readDer('3000' as unknown as Uint8Array)).toThrow(TypeError)
  })

  test('what is read is what would be written: no two encodings of one thing', () => {
    fc.assert(
      fc.property(anyBytes, (junk) => {
        const read = attempt(() => readDer(junk))
        if (read) expect(hex(Buffer.concat(read.map(({ tag, content }) => writeDer(tag, content))))).toBe(hex(junk))
      }),
    )
  })
})

/** The result, or undefined after a RangeError. */
function attempt<T>(task: () => T): T | undefined {
  try {
    return task()
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return undefined
  }
}

describe('integers', () => {
  const integer = (value: number) => readDerInteger(readDer(writeDerInteger(value))[0])
  const edges = [0, 1, 127, 128, 255, 256, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, -1, -128, -129, -(2 ** 31)]

  test('of 32 bits, with a sign or without, are read as written', () => {
    for (const value of edges) expect(integer(value)).toBe(value)
    fc.assert(
      fc.property(fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }), (value) => {
        expect(integer(value)).toBe(value)
      }),
    )
  })

  test.each(edges)('%d is what another encoder makes of it', (value) => {
    // asn1js pads some negative numbers; as a BigInt it does not.
    const theirs = Buffer.from(asn1.Integer.fromBigInt(BigInt(value)).toBER())
    expect(hex(writeDerInteger(value))).toBe(hex(theirs))
  })

  test.each(['0200', '02020001', '0202ff80', '02050100000000', '0206000000000001', '040101'])(
    '%s is refused',
    (text) => {
      expect(() => readDerInteger(readDer(bytes(text))[0])).toThrow(RangeError)
    },
  )

  test('beyond 32 bits can not be written', () => {
    for (const value of [2 ** 32, -(2 ** 31) - 1, 0.5, Number.NaN])
      expect(() => writeDerInteger(value)).toThrow(RangeError)
    expect(() => writeDer(256)).toThrow(/^tag must be/)
  })
})

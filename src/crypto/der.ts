import { requireBytes, requireWhole } from './guards.ts'

/** Identifier octets of the universal types that Kerberos uses (X.690 8.1.2). */
export const DER = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  generalizedTime: 0x18,
  generalString: 0x1b,
  sequence: 0x30,
} as const

/** One element of DER: its identifier octet, and views, not copies, of what its length spans and of all of it. */
export interface DerElement {
  readonly tag: number
  readonly content: Uint8Array
  readonly encoded: Uint8Array
}

/** The identifier octet of a constructed, explicit tag: `[n]`. */
export const contextTag = (number: number) => 0xa0 | number
/** The identifier octet of a constructed application tag: `[APPLICATION n]`. */
export const applicationTag = (number: number) => 0x60 | number

/**
 * Reads a row of elements, strictly (X.690 10.1): lengths definite, minimal and of at most four octets, tags of one
 * octet, nothing left over. Nothing nested is looked at. Throws TypeError unless `bytes` are bytes, and RangeError.
 */
export function readDer(bytes: Uint8Array): DerElement[] {
  requireBytes('bytes', bytes)
  const elements: DerElement[] = []
  let offset = 0
  while (offset < bytes.length) {
    const { tag, start, end } = readHeader(bytes, offset)
    elements.push({ tag, content: bytes.subarray(start, end), encoded: bytes.subarray(offset, end) })
    offset = end
  }
  return elements
}

/** The content of the one element that `bytes` are, which has to bear `tag`. Throws as {@link readDer}. */
export function readDerElement(bytes: Uint8Array, tag: number): Uint8Array {
  const [element, ...more] = readDer(bytes)
  if (!element || more.length > 0) throw new RangeError('not exactly one DER element')
  return contentOf(element, tag)
}

/** The content of `element`. Throws RangeError unless it bears `tag`. */
export function contentOf(element: DerElement | undefined, tag: number): Uint8Array {
  if (element?.tag !== tag) throw new RangeError(`not the DER element expected, 0x${tag.toString(16)}`)
  return element.content
}

function readHeader(bytes: Uint8Array, offset: number): { tag: number; start: number; end: number } {
  const [tag, first] = [bytes[offset], bytes[offset + 1]]
  if (tag === undefined || first === undefined) throw new RangeError('DER is cut off')
  if ((tag & 0x1f) === 0x1f) throw new RangeError('a DER tag of several octets')
  const octets = first < 0x80 ? 0 : first & 0x7f
  const start = offset + 2 + octets
  if (first === 0x80 || octets > 4) throw new RangeError('a DER length that is indefinite or too long')
  if (start > bytes.length) throw new RangeError('DER is cut off')
  const length = octets === 0 ? first : bytes.subarray(offset + 2, start).reduce((sum, octet) => sum * 256 + octet, 0)
  if (octets > 0 && (length < 0x80 || bytes[offset + 2] === 0)) throw new RangeError('a DER length not minimal')
  if (length > bytes.length - start) throw new RangeError('DER is cut off')
  return { tag, start, end: start + length }
}

/** One element, its content put together of `parts`. Throws TypeError or RangeError that names the argument. */
export function writeDer(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  requireWhole('tag', tag, 0, 0xff)
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return Buffer.concat([Uint8Array.of(tag, ...lengthOctets(length)), ...parts])
}

function lengthOctets(length: number): number[] {
  if (length < 0x80) return [length]
  const octets: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256)
  return [0x80 | octets.length, ...octets]
}

/** The value of an INTEGER in minimal form, of at most 32 bits with sign or 32 without. Throws RangeError. */
export function readDerInteger(element: DerElement | undefined): number {
  const content = Buffer.from(contentOf(element, DER.integer))
  const [first = 0, second = 0] = content
  const padded = content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))
  if (content.length === 0 || padded) throw new RangeError('an INTEGER not minimal')
  if (content.length > 5 || (content.length === 5 && first !== 0)) throw new RangeError('an INTEGER too large')
  return content.readIntBE(0, content.length)
}

/** An INTEGER between -2^31 and 2^32 - 1. Throws TypeError or RangeError. */
export function writeDerInteger(value: number): Buffer {
  requireWhole('value', value, -(2 ** 31), 2 ** 32 - 1)
  let length = 1
  while (value < -(2 ** (8 * length - 1)) || value >= 2 ** (8 * length - 1)) length += 1
  const content = Buffer.alloc(length)
  content.writeIntBE(value, 0, length)
  return writeDer(DER.integer, content)
}

import { requireBytes, requireWhole } from './guards.ts'

/** Key constants are a few bytes long; lcm(255, 255) of them at worst are summed. */
const MAX_LENGTH = 255

/**
 * n-fold (RFC 3961 5.1): stretches or folds `input` to `length` bytes. Copies of the input, each rotated right by 13
 * bits more than the one before, are laid end to end up to the least common multiple of both lengths, and the pieces
 * of `length` bytes are added up in ones' complement.
 * Throws TypeError or RangeError that names the argument.
 */
export function nFold(input: Uint8Array, length: number): Buffer {
  requireBytes('input', input)
  requireWhole('input length', input.length, 1, MAX_LENGTH)
  requireWhole('length', length, 1, MAX_LENGTH)
  const sums = new Array<number>(length).fill(0)
  const total = (input.length * length) / greatestCommonDivisor(input.length, length)
  for (let position = 0; position < total; position++) {
    const at = position % length
    sums[at] = (sums[at] ?? 0) + rotatedByte(input, position)
  }
  return carryAround(sums)
}

/** Byte `position` of the endless row of copies, of which copy n is the input rotated right by 13 n bits. */
function rotatedByte(input: Uint8Array, position: number): number {
  const bits = input.length * 8
  const copy = Math.floor(position / input.length)
  const start = ((((position % input.length) * 8 - 13 * copy) % bits) + bits) % bits
  const [high = 0, low = 0] = [input[start >> 3], input[((start >> 3) + 1) % input.length]]
  return (((high << 8) | low) >> (8 - (start & 7))) & 0xff
}

/** Ones' complement: what overflows at the front comes in again at the back, until nothing does. */
function carryAround(sums: number[]): Buffer {
  let carry = 0
  do {
    for (let at = sums.length - 1; at >= 0; at--) {
      const sum = (sums[at] ?? 0) + carry
      sums[at] = sum & 0xff
      carry = sum >> 8
    }
  } while (carry > 0)
  return Buffer.from(sums)
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}

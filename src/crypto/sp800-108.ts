import { requireBytes, requireWhole } from './guards.ts'
import { type HashName, hmac } from './hmac.ts'

/** Far more than anybody derives; the length in bits has to fit into 32 of them. */
const MAX_LENGTH = 4096

/**
 * The key derivation of NIST SP 800-108 4.1: counter mode with HMAC, counter (before the fixed part) and length in 32
 * bits big-endian each, a zero byte between label and context. `length` is in bytes.
 * The caller owns `key` and the result. Throws TypeError or RangeError that names the argument.
 */
export function deriveByCounter(
  hash: HashName,
  key: Uint8Array,
  label: Uint8Array,
  context: Uint8Array,
  length: number,
): Buffer {
  requireBytes('label', label)
  requireBytes('context', context)
  requireWhole('length', length, 1, MAX_LENGTH)
  const fixed = 4 + label.length
  const message = Buffer.allocUnsafe(fixed + 1 + context.length + 4)
  message.set(label, 4)
  message[fixed] = 0
  message.set(context, fixed + 1)
  message.writeUInt32BE(length * 8, message.length - 4)
  const blockOf = (counter: number) => {
    message.writeUInt32BE(counter, 0)
    return hmac(hash, key, message)
  }
  const first = blockOf(1)
  if (first.length === length) return first
  const derived = Buffer.alloc(length)
  let block = first
  for (let counter = 2, at = block.copy(derived); at < length; counter++) {
    block.fill(0)
    block = blockOf(counter)
    at += block.copy(derived, at)
  }
  block.fill(0)
  return derived
}

import { createCipheriv, createDecipheriv } from 'node:crypto'
import { requireBytes } from './guards.ts'

const BLOCK = 16
/** RFC 3962 6, RFC 8009 5: the initial vector is zero; the confounder stands in for it. */
const ZERO_IV = Buffer.alloc(BLOCK)

/**
 * AES in CBC mode with ciphertext stealing and a zero initial vector (RFC 3962 5): as many bytes out as in, and at
 * least 16. `key` has 16 or 32 bytes. The last two blocks are always exchanged, also where the last one is full.
 * The caller owns what goes in and what comes out. Throws TypeError or RangeError that names the argument.
 */
export function aesCtsEncrypt(key: Uint8Array, plaintext: Uint8Array): Buffer {
  const algorithm = cbc(key)
  requireBlock('plaintext', plaintext)
  const padded = Buffer.alloc(Math.ceil(plaintext.length / BLOCK) * BLOCK)
  padded.set(plaintext)
  const encrypted = createCipheriv(algorithm, key, ZERO_IV).setAutoPadding(false).update(padded)
  padded.fill(0)
  if (encrypted.length === BLOCK) return encrypted
  const stolen = encrypted.length - 2 * BLOCK
  const last = encrypted.subarray(stolen + BLOCK)
  const beforeLast = encrypted.subarray(stolen, stolen + plaintext.length - stolen - BLOCK)
  return Buffer.concat([encrypted.subarray(0, stolen), last, beforeLast])
}

/**
 * Undoes {@link aesCtsEncrypt}. It can't tell whether `ciphertext` was made with this key: that takes a checksum.
 * Throws TypeError or RangeError that names the argument.
 */
export function aesCtsDecrypt(key: Uint8Array, ciphertext: Uint8Array): Buffer {
  const algorithm = cbc(key)
  requireBlock('ciphertext', ciphertext)
  const decrypt = (blocks: Uint8Array) => createDecipheriv(algorithm, key, ZERO_IV).setAutoPadding(false).update(blocks)
  if (ciphertext.length === BLOCK) return decrypt(ciphertext)
  const tail = ciphertext.length % BLOCK || BLOCK
  const stolen = ciphertext.length - tail - BLOCK
  const last = ciphertext.subarray(stolen, stolen + BLOCK)
  const beforeLast = ciphertext.subarray(stolen + BLOCK)
  // Alone, with a zero vector, the last block gives plaintext xor the block before it; past `tail` the plaintext was
  // zero, so that there the missing end of that block comes to light.
  const opened = decrypt(last)
  const whole = Buffer.concat([beforeLast, opened.subarray(tail)])
  const plaintext = decrypt(Buffer.concat([ciphertext.subarray(0, stolen), whole, last]))
  opened.fill(0)
  return plaintext.subarray(0, ciphertext.length)
}

function cbc(key: Uint8Array): string {
  requireBytes('key', key)
  if (key.length !== 16 && key.length !== 32) throw new RangeError('key must have 16 or 32 bytes')
  return `aes-${key.length * 8}-cbc`
}

function requireBlock(name: string, bytes: Uint8Array): void {
  requireBytes(name, bytes)
  if (bytes.length < BLOCK) throw new RangeError(`${name} must have at least ${BLOCK} bytes`)
}

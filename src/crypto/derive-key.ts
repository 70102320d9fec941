import { createCipheriv, createHmac } from 'node:crypto'
import { requireBytes, requireWhole } from './guards.ts'
import { nFold } from './nfold.ts'

const AES_BLOCK = 16
/** Bits of the hashes of RFC 8009; its keys are never longer than one of them. */
const HASH_BITS = { sha256: 256, sha384: 384 } as const

/**
 * DK of the simplified profile (RFC 3961 5.1) for AES (RFC 3962 6): as many bytes as `key` has, 16 or 32. The
 * constant is n-folded to one block, then encrypted over and over, and the blocks are strung together.
 * The caller owns `key` and the result. Throws TypeError or RangeError that names the argument.
 */
export function deriveAesKey(key: Uint8Array, constant: Uint8Array): Buffer {
  requireBytes('key', key)
  requireBytes('constant', constant)
  if (key.length !== 16 && key.length !== 32) throw new RangeError('key must have 16 or 32 bytes')
  const derived = Buffer.alloc(key.length)
  // One block at a time with a zero initial vector: the same as ECB.
  const cipher = createCipheriv(`aes-${key.length * 8}-ecb`, key, null).setAutoPadding(false)
  let block = constant.length === AES_BLOCK ? Buffer.from(constant) : nFold(constant, AES_BLOCK)
  for (let offset = 0; offset < derived.length; offset += AES_BLOCK) {
    const next = cipher.update(block)
    block.fill(0)
    next.copy(derived, offset)
    block = next
  }
  block.fill(0)
  return derived
}

/**
 * KDF-HMAC-SHA2 (RFC 8009 3): the first `bits` of HMAC(key, 1 | label | 0 | bits), both numbers big-endian in 32
 * bits. `bits` is a multiple of 8, and at most what the hash gives.
 * The caller owns `key` and the result. Throws TypeError or RangeError that names the argument.
 */
export function deriveHmacKey(digest: 'sha256' | 'sha384', key: Uint8Array, label: Uint8Array, bits: number): Buffer {
  requireBytes('key', key)
  requireBytes('label', label)
  requireWhole('bits', bits, 8, HASH_BITS[digest])
  if (bits % 8 !== 0) throw new RangeError('bits must be a multiple of 8')
  const counter = Buffer.from([0, 0, 0, 1])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bits)
  const block = createHmac(digest, key).update(counter).update(label).update(Buffer.alloc(1)).update(length).digest()
  const derived = Buffer.alloc(bits / 8)
  block.copy(derived)
  block.fill(0)
  return derived
}

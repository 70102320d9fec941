import { HashMD } from '@noble/hashes/_md.js'
import { requireBytes } from './guards.ts'

/** RFC 1320 3.3: the initial words A, B, C, D. */
const INITIAL = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476] as const

/**
 * RFC 1320 3.4: for each round its additive constant, the order in which it takes the sixteen words of a block, and
 * the rotations that repeat every four steps.
 */
const ROUNDS = [
  { constant: 0, order: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], shifts: [3, 7, 11, 19] },
  { constant: 0x5a827999, order: [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15], shifts: [3, 5, 9, 13] },
  { constant: 0x6ed9eba1, order: [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15], shifts: [3, 9, 11, 15] },
] as const

/** RFC 1320 3.4: F, G and H, one for each round. */
function mix(round: number, x: number, y: number, z: number): number {
  if (round === 0) return (x & y) | (~x & z)
  if (round === 1) return (x & y) | (x & z) | (y & z)
  return x ^ y ^ z
}

const rotateLeft = (word: number, bits: number) => (word << bits) | (word >>> (32 - bits))

/** MD4 on the Merkle-Damgard frame of noble-hashes, which pads, counts and buffers. */
class Md4 extends HashMD<Md4> {
  readonly #state = new Int32Array(INITIAL)
  readonly #block = new Int32Array(16)

  constructor() {
    // Blocks of 64 bytes, 16 bytes out, a length field of 8 bytes, all little-endian (RFC 1320 3.1, 3.2).
    super(64, 16, 8, true)
  }

  protected override process(view: DataView, offset: number): void {
    const block = this.#block
    for (let index = 0; index < 16; index++) block[index] = view.getInt32(offset + 4 * index, true)
    let [a = 0, b = 0, c = 0, d = 0] = this.#state
    ROUNDS.forEach(({ constant, order, shifts }, round) => {
      order.forEach((word, step) => {
        const sum = (a + mix(round, b, c, d) + (block[word] ?? 0) + constant) | 0
        a = d
        d = c
        c = b
        b = rotateLeft(sum, shifts[step % 4] ?? 0)
      })
    })
    this.set(...[a, b, c, d].map((word, index) => (word + (this.#state[index] ?? 0)) | 0))
  }

  protected override get(): number[] {
    return [...this.#state]
  }

  protected override set(...words: number[]): void {
    this.#state.set(words)
  }

  protected override roundClean(): void {
    this.#block.fill(0)
  }

  override _cloneInto(to: Md4 = new Md4()): Md4 {
    to.set(...this.get())
    return this._cloneIntoMeta(to)
  }

  override destroy(): void {
    this.destroyed = true
    this.#state.fill(0)
    this.buffer.fill(0)
  }
}

/**
 * MD4 (RFC 1320), 16 bytes. Broken as a hash: here only because the NT hash is made of it (RFC 4757 2), and Node's
 * OpenSSL has it no longer. Its working memory is wiped; the caller owns `data` and the digest.
 * Throws TypeError unless `data` is a Uint8Array.
 */
export function md4(data: Uint8Array): Uint8Array {
  requireBytes('data', data)
  return new Md4().update(data).digest()
}

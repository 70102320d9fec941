import { requireBytes, requireWhole } from './guards.ts'

/**
 * RC4, which OpenSSL 3 has no longer: the same for both directions. Broken as a cipher, and here only because RC4-HMAC
 * (RFC 4757) is made of it. The caller owns `key`, `data` and the result. Throws TypeError or RangeError that names
 * the argument.
 */
export function rc4(key: Uint8Array, data: Uint8Array): Buffer {
  requireBytes('key', key)
  requireBytes('data', data)
  requireWhole('key length', key.length, 1, 256)
  const state = schedule(key)
  const result = Buffer.alloc(data.length)
  let [i, j] = [0, 0]
  for (const [at, byte] of data.entries()) {
    i = (i + 1) & 0xff
    j = (j + (state[i] ?? 0)) & 0xff
    swap(state, i, j)
    result[at] = byte ^ (state[((state[i] ?? 0) + (state[j] ?? 0)) & 0xff] ?? 0)
  }
  state.fill(0)
  return result
}

/** The key schedule: a permutation of all bytes. */
function schedule(key: Uint8Array): Uint8Array {
  const state = Uint8Array.from({ length: 256 }, (_, index) => index)
  let j = 0
  for (let i = 0; i < state.length; i++) {
    j = (j + (state[i] ?? 0) + (key[i % key.length] ?? 0)) & 0xff
    swap(state, i, j)
  }
  return state
}

function swap(state: Uint8Array, i: number, j: number): void {
  const [left = 0, right = 0] = [state[i], state[j]]
  state[i] = right
  state[j] = left
}

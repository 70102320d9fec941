import { deriveAesKey, deriveHmacKey } from './derive-key.ts'
import { requireBytes } from './guards.ts'
import { md4 } from './md4.ts'
import { pbkdf2 } from './pbkdf2.ts'

/** The well-known constant of string-to-key (RFC 3962 4, RFC 8009 4). */
const KERBEROS = Buffer.from('kerberos', 'ascii')

/** RFC 3962 4. */
const SHA1_ITERATIONS = 4096
/** RFC 8009 4. */
const SHA2_ITERATIONS = 32_768

/** What depends on the key's length: the hash, and the enctype's name, which goes before the salt (RFC 8009 4). */
const SHA2 = {
  16: { digest: 'sha256', name: 'aes128-cts-hmac-sha256-128' },
  32: { digest: 'sha384', name: 'aes256-cts-hmac-sha384-192' },
} as const

/**
 * String-to-key of enctypes 17 (16 bytes) and 18 (32 bytes): RFC 3962 4. `password` is UTF-8 and may be wiped once
 * this has returned its promise; the caller owns the key. Throws TypeError or RangeError that names the argument.
 */
export async function aesSha1StringToKey(
  length: 16 | 32,
  password: Uint8Array,
  salt: Uint8Array,
  iterations = SHA1_ITERATIONS,
): Promise<Buffer> {
  requireKeyLength(length)
  const seed = await pbkdf2('sha1', password, salt, iterations, length)
  try {
    return deriveAesKey(seed, KERBEROS)
  } finally {
    seed.fill(0)
  }
}

/**
 * String-to-key of enctypes 19 (16 bytes) and 20 (32 bytes): RFC 8009 4. `password` is UTF-8 and may be wiped once
 * this has returned its promise; the caller owns the key. Throws TypeError or RangeError that names the argument.
 */
export async function aesSha2StringToKey(
  length: 16 | 32,
  password: Uint8Array,
  salt: Uint8Array,
  iterations = SHA2_ITERATIONS,
): Promise<Buffer> {
  requireKeyLength(length)
  requireBytes('salt', salt)
  const { digest, name } = SHA2[length]
  const saltAndName = Buffer.concat([Buffer.from(`${name}\0`, 'ascii'), salt])
  const seed = await pbkdf2(digest, password, saltAndName, iterations, length)
  try {
    return deriveHmacKey(digest, seed, KERBEROS, length * 8)
  } finally {
    seed.fill(0)
  }
}

/**
 * The NT hash, which is the key of enctype 23 (RFC 4757 2): MD4 of the password in UTF-16LE, taken as it is. No salt,
 * and no conversion: a password with unpaired surrogates would not survive one.
 * The caller owns `password` and the key. Throws TypeError unless `password` is a Uint8Array.
 */
export function ntHash(password: Uint8Array): Uint8Array {
  requireBytes('password', password)
  return md4(password)
}

function requireKeyLength(length: number): void {
  if (length !== 16 && length !== 32) throw new RangeError('length must be 16 or 32')
}

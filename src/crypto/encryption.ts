import { createHmac, timingSafeEqual } from 'node:crypto'
import { aesCtsDecrypt, aesCtsEncrypt } from './aes-cts.ts'
import { deriveAesKey, deriveHmacKey } from './derive-key.ts'
import { requireBytes, requireWhole } from './guards.ts'
import { rc4 } from './rc4.ts'

/** The Kerberos encryption types this floor can encrypt with, by their numbers in the IANA registry. */
export type EncryptionType = 17 | 18 | 19 | 20 | 23

/** How one encryption type turns a confounder with its plaintext into a ciphertext, and back. */
interface Profile {
  /** Bytes of a key. */
  readonly keyLength: number
  /** Bytes of the random start of every plaintext. */
  readonly confounder: number
  /** Bytes of the checksum. */
  readonly checksum: number
  seal(key: Uint8Array, usage: number, plaintext: Uint8Array): Buffer
  /** Undefined where the checksum does not fit. */
  open(key: Uint8Array, usage: number, ciphertext: Uint8Array): Buffer | undefined
}

const PROFILES: Readonly<Record<EncryptionType, Profile>> = {
  17: aesSha1(16),
  18: aesSha1(32),
  19: aesSha2(16, 'sha256', 16),
  20: aesSha2(32, 'sha384', 24),
  23: rc4Hmac(),
}

/** How many random bytes {@link encrypt} takes: 16, or 8 for RC4. */
export function confounderLength(type: EncryptionType): number {
  return profileOf(type).confounder
}

/**
 * Encrypts as RFC 3961 has it, in the ways of RFC 3962 (17, 18), RFC 8009 (19, 20) and RFC 4757 (23). `usage` is the
 * key usage number, whole and 32 bits; `confounder` is fresh randomness of {@link confounderLength} bytes. The result
 * is longer than `plaintext` by the confounder and a checksum of 12, 16 or 24 bytes.
 * The caller owns all arguments and the result. Throws TypeError or RangeError that names the argument.
 */
export function encrypt(
  type: EncryptionType,
  key: Uint8Array,
  usage: number,
  plaintext: Uint8Array,
  confounder: Uint8Array,
): Buffer {
  const profile = profileOf(type)
  requireKey(profile, key, usage)
  requireBytes('plaintext', plaintext)
  requireBytes('confounder', confounder)
  if (confounder.length !== profile.confounder) throw new RangeError(`confounder must have ${profile.confounder} bytes`)
  const whole = Buffer.concat([confounder, plaintext])
  const ciphertext = profile.seal(key, usage, whole)
  whole.fill(0)
  return ciphertext
}

/**
 * Undoes {@link encrypt} and takes the confounder off. Undefined where `ciphertext` was not made with this key for this
 * usage, was changed since, or is too short; nothing tells these apart. The checksum is compared in constant time.
 * Some formats round the plaintext up to whole blocks; RFC 3962 and its successors do not.
 * The caller owns all arguments and the result. Throws TypeError or RangeError that names the argument.
 */
export function decrypt(
  type: EncryptionType,
  key: Uint8Array,
  usage: number,
  ciphertext: Uint8Array,
): Buffer | undefined {
  const profile = profileOf(type)
  requireKey(profile, key, usage)
  requireBytes('ciphertext', ciphertext)
  if (ciphertext.length < profile.confounder + profile.checksum) return undefined
  return profile.open(key, usage, ciphertext)?.subarray(profile.confounder)
}

/** RFC 3962 6 in the simplified profile of RFC 3961 5.3: the checksum is of the plaintext, 96 bits of HMAC-SHA1. */
function aesSha1(keyLength: number): Profile {
  const checksum = 12
  const keys = (key: Uint8Array, usage: number) => ({
    encryption: deriveAesKey(key, usageConstant(usage, ENCRYPTION)),
    integrity: deriveAesKey(key, usageConstant(usage, INTEGRITY)),
  })
  const sum = (integrity: Uint8Array, plaintext: Uint8Array) => hmac('sha1', integrity, [plaintext], checksum)
  return {
    keyLength,
    confounder: 16,
    checksum,
    seal: (key, usage, plaintext) =>
      withKeys(keys(key, usage), ({ encryption, integrity }) =>
        Buffer.concat([aesCtsEncrypt(encryption, plaintext), sum(integrity, plaintext)]),
      ),
    open: (key, usage, ciphertext) =>
      withKeys(keys(key, usage), ({ encryption, integrity }) => {
        const [body, tag] = split(ciphertext, ciphertext.length - checksum)
        const plaintext = aesCtsDecrypt(encryption, body)
        return verified(plaintext, sum(integrity, plaintext), tag)
      }),
  }
}

/** RFC 8009 5: the checksum is of the initial vector, all zero, and the ciphertext. */
function aesSha2(keyLength: number, digest: 'sha256' | 'sha384', checksum: number): Profile {
  const iv = Buffer.alloc(16)
  const keys = (key: Uint8Array, usage: number) => ({
    encryption: deriveHmacKey(digest, key, usageConstant(usage, ENCRYPTION), keyLength * 8),
    integrity: deriveHmacKey(digest, key, usageConstant(usage, INTEGRITY), checksum * 8),
  })
  return {
    keyLength,
    confounder: 16,
    checksum,
    seal: (key, usage, plaintext) =>
      withKeys(keys(key, usage), ({ encryption, integrity }) => {
        const body = aesCtsEncrypt(encryption, plaintext)
        return Buffer.concat([body, hmac(digest, integrity, [iv, body], checksum)])
      }),
    open: (key, usage, ciphertext) =>
      withKeys(keys(key, usage), ({ encryption, integrity }) => {
        const [body, tag] = split(ciphertext, ciphertext.length - checksum)
        if (!timingSafeEqual(hmac(digest, integrity, [iv, body], checksum), tag)) return undefined
        return aesCtsDecrypt(encryption, body)
      }),
  }
}

/** RFC 4757 4: the checksum comes first and makes the key of each message. */
function rc4Hmac(): Profile {
  const checksum = 16
  const md5 = (key: Uint8Array, data: Uint8Array) => hmac('md5', key, [data], checksum)
  const keys = (key: Uint8Array, usage: number) => ({ integrity: md5(key, rc4Usage(usage)) })
  return {
    keyLength: 16,
    confounder: 8,
    checksum,
    seal: (key, usage, plaintext) =>
      withKeys(keys(key, usage), ({ integrity }) => {
        const tag = md5(integrity, plaintext)
        return Buffer.concat([tag, rc4(md5(integrity, tag), plaintext)])
      }),
    open: (key, usage, ciphertext) =>
      withKeys(keys(key, usage), ({ integrity }) => {
        const [tag, body] = split(ciphertext, checksum)
        const plaintext = rc4(md5(integrity, tag), body)
        return verified(plaintext, md5(integrity, plaintext), tag)
      }),
  }
}

/** The last byte of the constant that a key for encryption or for integrity is derived with (RFC 3961 5.3). */
const ENCRYPTION = 0xaa
const INTEGRITY = 0x55

/** The usage number, big-endian, and what the key is for. */
function usageConstant(usage: number, purpose: number): Buffer {
  const constant = Buffer.alloc(5)
  constant.writeUInt32BE(usage)
  constant[4] = purpose
  return constant
}

/** Usages that Windows numbers otherwise (RFC 4757 3): both parts of a reply to the client, and GSS signatures. */
const RC4_USAGES: ReadonlyMap<number, number> = new Map([
  [3, 8],
  [9, 8],
  [23, 13],
])

function rc4Usage(usage: number): Buffer {
  const salt = Buffer.alloc(4)
  salt.writeUInt32LE(RC4_USAGES.get(usage) ?? usage)
  return salt
}

function hmac(digest: string, key: Uint8Array, data: readonly Uint8Array[], length: number): Buffer {
  const mac = createHmac(digest, key)
  for (const each of data) mac.update(each)
  return mac.digest().subarray(0, length)
}

/** Wipes derived keys after use. */
function withKeys<K extends Readonly<Record<string, Uint8Array>>, T>(keys: K, use: (keys: K) => T): T {
  try {
    return use(keys)
  } finally {
    for (const key of Object.values(keys)) key.fill(0)
  }
}

/** `plaintext` where the checksums agree; else it is wiped, for nobody may see what was not verified. */
function verified(plaintext: Buffer, expected: Uint8Array, found: Uint8Array): Buffer | undefined {
  if (timingSafeEqual(expected, found)) return plaintext
  plaintext.fill(0)
  return undefined
}

function split(bytes: Uint8Array, at: number): readonly [Uint8Array, Uint8Array] {
  return [bytes.subarray(0, at), bytes.subarray(at)]
}

function profileOf(type: EncryptionType): Profile {
  const profile = PROFILES[type]
  if (!profile) throw new RangeError('type must be 17, 18, 19, 20 or 23')
  return profile
}

function requireKey(profile: Profile, key: Uint8Array, usage: number): void {
  requireBytes('key', key)
  if (key.length !== profile.keyLength) throw new RangeError(`key must have ${profile.keyLength} bytes`)
  requireWhole('usage', usage, 0, 0xffff_ffff)
}

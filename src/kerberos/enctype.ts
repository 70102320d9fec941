import { GmsaError } from '../base/errors.ts'

/** A Kerberos encryption type whose keys this service can derive. */
export interface Enctype {
  /** The number in the IANA registry, "Kerberos Encryption Type Numbers". */
  readonly number: 17 | 18 | 19 | 20 | 23
  /** The registry's name; for 23 MIT's, which every tool prints. */
  readonly name: string
  /** How the configuration calls it. */
  readonly word: 'aes256' | 'aes128' | 'aes256-sha2' | 'aes128-sha2' | 'rc4'
  /** Bytes of a key. */
  readonly keyLength: number
  /** Its bit in msDS-SupportedEncryptionTypes ([MS-KILE] 2.2.7). */
  readonly bit: number
  /** Derived only where the configuration names it: RC4 is weak, and no domain controller seen stores the SHA-2 types. */
  readonly optIn: boolean
}

/**
 * All of them, the preferred first: the order of keys in answers and keytabs. The bits 0x40 and 0x80 stand in newer
 * revisions of [MS-KILE] only. 0x20 (AES session keys) is no key type and has no line.
 */
export const ENCTYPES: readonly Enctype[] = [
  { number: 18, name: 'aes256-cts-hmac-sha1-96', word: 'aes256', keyLength: 32, bit: 0x10, optIn: false },
  { number: 17, name: 'aes128-cts-hmac-sha1-96', word: 'aes128', keyLength: 16, bit: 0x8, optIn: false },
  { number: 20, name: 'aes256-cts-hmac-sha384-192', word: 'aes256-sha2', keyLength: 32, bit: 0x80, optIn: true },
  { number: 19, name: 'aes128-cts-hmac-sha256-128', word: 'aes128-sha2', keyLength: 16, bit: 0x40, optIn: true },
  { number: 23, name: 'arcfour-hmac', word: 'rc4', keyLength: 16, bit: 0x4, optIn: true },
]

export type EnctypeNumber = Enctype['number']
export type EnctypeWord = Enctype['word']

/** The words of the configuration's `enctypes`, the preferred first. */
export const ENCTYPE_WORDS: readonly EnctypeWord[] = ENCTYPES.map(({ word }) => word)

/** The enctype of this number, or undefined where we know none: a keytab of others may hold any. */
export function enctypeOf(number: number): Enctype | undefined {
  return ENCTYPES.find((enctype) => enctype.number === number)
}

/** The name to print: `aes256-cts-hmac-sha1-96`, or `etype 3` for one we can't name. */
export function enctypeName(number: number): string {
  return enctypeOf(number)?.name ?? `etype ${number}`
}

export interface EnctypeChoice {
  /** At least one, the preferred first. */
  readonly enctypes: readonly Enctype[]
  /** The directory does not say what the account supports: both AES types, or what is named, were assumed. Warn. */
  readonly assumed: boolean
  /** Named in the configuration, but not among what the account supports: left out. Warn. */
  readonly leftOut: readonly EnctypeWord[]
}

/**
 * Which enctypes an account's keys are made for: those named in the configuration, or else both AES types, as far as
 * msDS-SupportedEncryptionTypes (`supported`) has them. The attribute being absent or 0 says nothing.
 * Throws MATERIAL_MALFORMED where nothing is left: an empty keytab would take the place of one that works.
 */
export function chooseEnctypes(named?: readonly EnctypeWord[], supported?: number): EnctypeChoice {
  const wanted = ENCTYPES.filter(({ word, optIn }) => (named ? named.includes(word) : !optIn))
  const assumed = supported === undefined || supported === 0
  const enctypes = assumed ? wanted : wanted.filter(({ bit }) => (supported & bit) !== 0)
  if (enctypes.length === 0) {
    const which = wanted.map(({ word }) => word).join(', ') || 'none'
    throw new GmsaError('MATERIAL_MALFORMED', `the account supports none of the enctypes asked for: ${which}`, {
      hint: `msDS-SupportedEncryptionTypes is ${supported ?? 'absent'}; 24 stands for AES-128 and AES-256`,
    })
  }
  const leftOut = named ? wanted.filter((enctype) => !enctypes.includes(enctype)).map(({ word }) => word) : []
  return { enctypes, assumed, leftOut }
}

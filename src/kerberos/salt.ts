import { GmsaError } from '../base/errors.ts'

/** The longest DNS name in characters (RFC 1035 2.3.4). */
const MAX_DOMAIN = 255
/** The upper range of sAMAccountName in the schema ([MS-ADA3]). */
const MAX_NAME = 256

/**
 * Changes the case of each character for itself and by the same number of code units, as Windows does: no locale, no
 * SS for ß, no final sigma. Where that is not possible the character stays as it is.
 */
function fold(text: string, change: (character: string) => string): string {
  return Array.from(text, (character) => {
    const changed = change(character)
    return changed.length === character.length ? changed : character
  }).join('')
}

const upper = (text: string) => fold(text, (character) => character.toUpperCase())
const lower = (text: string) => fold(text, (character) => character.toLowerCase())

/**
 * The realm of an Active Directory domain: its DNS name in upper case. Throws MATERIAL_MALFORMED unless `domain` looks
 * like a DNS name.
 */
export function realmOf(domain: string): string {
  const labels = domain.split('.')
  if (domain.length > MAX_DOMAIN || labels.includes('') || /[\s\p{Cc}@/\\]/u.test(domain) || !domain.isWellFormed()) {
    throw new GmsaError('MATERIAL_MALFORMED', 'domain: expected a DNS name such as ad.example.com')
  }
  return upper(domain)
}

/**
 * The string-to-key salt of a gMSA, as of every computer account ([MS-KILE] 3.1.1.2): upper-case realm, `host`, the
 * lower-case account name without its one final `$`, `.`, lower-case realm. Neither the case of what is given nor the
 * `$` matters; `domain` is the DNS name of the account's own domain, never the suffix of a UPN or of dNSHostName.
 *
 * The salt is fixed when the password is set, so a renamed account keeps the old one until its next change.
 * Throws MATERIAL_MALFORMED unless both look like what they are.
 */
export function accountSalt(samAccountName: string, domain: string): string {
  const realm = realmOf(domain)
  const name = samAccountName.endsWith('$') ? samAccountName.slice(0, -1) : samAccountName
  if (name === '' || name.length > MAX_NAME || /[\p{Cc}@/\\]/u.test(name) || !name.isWellFormed()) {
    throw new GmsaError('MATERIAL_MALFORMED', 'samAccountName: expected a name such as web01$')
  }
  return `${realm}host${lower(name)}.${lower(domain)}`
}

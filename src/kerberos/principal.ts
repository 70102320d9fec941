import { type ErrorCode, GmsaError } from '../base/errors.ts'

/** Name types of RFC 4120 6.2. Readers ignore them when they compare; MIT's own writers use 1 for all. */
export const NAME_TYPES = { principal: 1, 'srv-inst': 2, 'srv-hst': 3, enterprise: 10 } as const

/** A Kerberos principal (RFC 4120 6.2): none of its parts is empty. */
export interface Principal {
  readonly realm: string
  readonly components: readonly string[]
  readonly nameType: number
}

/** Far more than the 256 characters of sAMAccountName and the longest SPN with its realm. */
const MAX_LENGTH = 2048

/** The letters that stand for characters after a backslash, as krb5_parse_name has them. */
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', b: '\b', 0: '\0' }
const ESCAPED: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.entries(ESCAPES).map(([letter, character]) => [character, `\\${letter}`])),
  '\\': '\\\\',
  '/': '\\/',
  '@': '\\@',
}

/**
 * Reads a principal in the form of RFC 1964 2.1.1: components between slashes, then `@` and the realm; a backslash
 * takes a separator's meaning away. The realm may be left out only where `realm` stands in for it.
 * Throws a GmsaError, MATERIAL_MALFORMED unless `code` says otherwise.
 */
export function parsePrincipal(
  text: string,
  { realm, code = 'MATERIAL_MALFORMED' }: { readonly realm?: string; readonly code?: ErrorCode } = {},
): Principal {
  const bad = (problem: string) => new GmsaError(code, `principal: ${problem}`)
  if (text.length > MAX_LENGTH) throw bad(`longer than ${MAX_LENGTH} characters`)
  if (!text.isWellFormed()) throw bad('not well-formed Unicode')
  const parts: string[] = []
  let part = ''
  let inRealm = false
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at)
    if (character === '\\') {
      at += 1
      const escaped = text.charAt(at)
      if (escaped === '') throw bad('ends in a backslash')
      part += ESCAPES[escaped] ?? escaped
    } else if (character === '@' || character === '/') {
      if (inRealm) throw bad('a separator in the realm')
      inRealm = character === '@'
      parts.push(part)
      part = ''
    } else {
      part += character
    }
  }
  const components = inRealm ? parts : [...parts, part]
  const ownRealm = inRealm ? part : realm
  if (ownRealm === undefined || ownRealm === '') throw bad('no realm')
  if (components.includes('')) throw bad('an empty part')
  return { realm: ownRealm, components, nameType: NAME_TYPES.principal }
}

/** The text of a principal, with separators and control characters escaped as krb5_unparse_name does. */
export function formatPrincipal({ components, realm }: Principal): string {
  const written = (part: string) => Array.from(part, (character) => ESCAPED[character] ?? character).join('')
  return `${components.map(written).join('/')}@${written(realm)}`
}

/** Whether both name the same principal: realm and components, case and all; the name type does not matter. */
export function isSamePrincipal(one: Principal, other: Principal): boolean {
  return (
    one.realm === other.realm &&
    one.components.length === other.components.length &&
    one.components.every((part, index) => part === other.components[index])
  )
}

/** What an account is called in Kerberos. */
export interface PrincipalNames {
  /** With its `$`, in the directory's case. */
  readonly samAccountName: string
  readonly realm: string
  /** As in the directory: `HTTP/web01.ad.test`. */
  readonly servicePrincipalNames: readonly string[]
}

/**
 * The principals a keytab is for. `acceptor`: the SPNs, or `sAMAccountName@REALM` where there is none. `initiator`:
 * `sAMAccountName@REALM` only; nobody logs on as an SPN. `wanted` narrows it to these, each of which has to be one
 * of the account's: REQUEST_INVALID else. To a directory case does not matter in them, to who reads a keytab it does:
 * they are written as they are wanted, so that sshd finds its `host/` where the directory has `HOST/`. The order is the
 * directory's, so the same state gives the same bytes.
 */
export function principalsFor(
  use: 'acceptor' | 'initiator',
  { samAccountName, realm, servicePrincipalNames }: PrincipalNames,
  wanted: readonly string[] = [],
): Principal[] {
  const account: Principal = { realm, components: [samAccountName], nameType: NAME_TYPES.principal }
  const services = distinct(servicePrincipalNames.map((name) => servicePrincipal(name, realm)))
  const own = use === 'initiator' ? [account] : distinct([...services, account])
  if (wanted.length === 0) return use === 'initiator' || services.length === 0 ? [account] : services
  const asked = wanted.map((text) => parsePrincipal(text, { realm, code: 'REQUEST_INVALID' }))
  if (!asked.every((principal) => own.some((each) => isSameInDirectory(each, principal)))) {
    throw new GmsaError('REQUEST_INVALID', `principal: not one the account's ${use} keytab can hold`)
  }
  return distinct(own.flatMap((principal) => asked.filter((each) => isSameInDirectory(each, principal))))
}

/** Whether a directory takes them for the same: case counts in the realm only, which is ours to write. */
function isSameInDirectory(one: Principal, other: Principal): boolean {
  const folded = ({ components, ...principal }: Principal) => ({
    ...principal,
    components: components.map((part) => part.toLowerCase()),
  })
  return isSamePrincipal(folded(one), folded(other))
}

/**
 * The principal of an SPN: its parts between slashes, taken as they are, for SPNs know no escapes ([MS-KILE]
 * 3.1.5.11). Throws MATERIAL_MALFORMED where a part is empty.
 */
function servicePrincipal(name: string, realm: string): Principal {
  const components = name.split('/')
  if (components.includes('') || name.length > MAX_LENGTH || !name.isWellFormed()) {
    throw new GmsaError('MATERIAL_MALFORMED', 'servicePrincipalName: expected class/host, with no part empty')
  }
  return { realm, components, nameType: NAME_TYPES.principal }
}

function distinct(principals: readonly Principal[]): Principal[] {
  return principals.filter((each, index) => principals.findIndex((other) => isSamePrincipal(each, other)) === index)
}

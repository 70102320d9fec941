import type { Permission } from '../gmsa/material.ts'

/** Which certificates an entry speaks of. All keys given must hold; at least one is given. */
export interface ClientMatch {
  /** A URI SAN; `*` stands for any run of characters but `/`. */
  readonly uri?: string
  /** A DNS SAN, case ignored; `*` stands for one whole label. */
  readonly dns?: string
  /** The subject's common name; `*` stands for any run of characters. */
  readonly commonName?: string
  /** The certificate's SHA-256, 64 hexadecimal digits; case and colons ignored. */
  readonly fingerprint256?: string
}

/** An entry of `clients`: who, what, which accounts (`*` stands for any run of characters). */
export interface ClientRule {
  readonly match: ClientMatch
  readonly allow: readonly Permission[]
  readonly accounts: readonly string[]
}

/** What the policy looks at. All of it comes from the verified leaf certificate. */
export interface ClientIdentity {
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly commonName: string | undefined
  /** SHA-256 of the certificate, lower-case hexadecimal without colons. */
  readonly fingerprint256: string
}

/** What one client may do; worked out once for its certificate. */
export interface Grant {
  allows(account: string, permission: Permission): boolean
}

export interface Policy {
  grantFor(client: ClientIdentity): Grant
}

export interface PolicyOptions {
  /** The `clients` section; absent, every verified client may read the credentials of `openAccounts`. */
  readonly rules?: readonly ClientRule[] | undefined
  /** `all` is for Rancher mode alone, which serves every name of its namespace. */
  readonly openAccounts: ReadonlySet<string> | 'all'
}

/**
 * Turns the configured rules into a policy. A client gets what the first entry that matches it and names the account
 * allows; nothing matches, nothing is allowed.
 */
export function makePolicy({ rules, openAccounts }: PolicyOptions): Policy {
  if (!rules) {
    const isOpen = (account: string) => openAccounts === 'all' || openAccounts.has(account)
    const open: Grant = { allows: (account, permission) => permission === 'credential' && isOpen(account) }
    return { grantFor: () => open }
  }
  const compiled = rules.map(compileRule)
  return {
    grantFor(client) {
      const mine = compiled.filter((rule) => rule.matches(client))
      return {
        allows(account, permission) {
          const first = mine.find((rule) => rule.names(account))
          return first?.allow.has(permission) ?? false
        },
      }
    },
  }
}

function compileRule(rule: ClientRule) {
  const { uri, dns, commonName, fingerprint256 } = rule.match
  const tests: ((client: ClientIdentity) => boolean)[] = []
  if (uri !== undefined) {
    const matches = wildcard(uri, { within: '/' })
    tests.push((client) => client.uris.some(matches))
  }
  if (dns !== undefined) {
    const matches = wildcard(lowerCaseAscii(dns), { within: '.', atLeast: 1 })
    tests.push((client) => client.dnsNames.some((each) => matches(lowerCaseAscii(each))))
  }
  if (commonName !== undefined) {
    const matches = wildcard(commonName)
    tests.push((client) => client.commonName !== undefined && matches(client.commonName))
  }
  if (fingerprint256 !== undefined) {
    const wanted = normalFingerprint(fingerprint256)
    tests.push((client) => client.fingerprint256 === wanted)
  }
  const names = rule.accounts.map((account) => wildcard(account))
  return {
    allow: new Set(rule.allow),
    // An entry without any test would match everybody: the configuration refuses it, and so does this.
    matches: (client: ClientIdentity) => tests.length > 0 && tests.every((test) => test(client)),
    names: (account: string) => names.some((matches) => matches(account)),
  }
}

/** A fingerprint as this project compares them: lower-case hexadecimal without colons. */
export function normalFingerprint(text: string): string {
  return text.replaceAll(':', '').toLowerCase()
}

/** Other letters that Unicode lower-cases to ASCII ones (U+212A to `k`) are not those of a DNS name. */
function lowerCaseAscii(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
}

interface Runs {
  /** The separator that no run crosses; absent, a run may hold anything. */
  readonly within?: string
  /** How many characters a run has at least. */
  readonly atLeast?: number
}

/**
 * A pattern in which `*` stands for a run of characters, and every other character for itself. No regular expression:
 * one with several runs would try all ways to divide a long name among them, and a client chooses the name.
 */
function wildcard(pattern: string, { within, atLeast = 0 }: Runs = {}): (text: string) => boolean {
  const split = (text: string) => (within === undefined ? [text] : text.split(within))
  const parts = split(pattern).map((part) => part.replace(/\*+/g, '*').split('*'))
  return (text) => {
    const texts = split(text)
    return (
      texts.length === parts.length && parts.every((literals, index) => fits(literals, texts[index] ?? '', atLeast))
    )
  }
}

/** Whether `text` is these literals with a run between each two. The leftmost place for each leaves most to the rest. */
function fits([first = '', ...others]: readonly string[], text: string, atLeast: number): boolean {
  const last = others.pop()
  if (last === undefined) return text === first
  if (!text.startsWith(first)) return false
  let position = first.length
  for (const literal of others) {
    const found = text.indexOf(literal, position + atLeast)
    if (found < 0) return false
    position = found + literal.length
  }
  return position + atLeast + last.length <= text.length && text.endsWith(last)
}

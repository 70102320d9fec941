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
    const pattern = wildcard(uri, '[^/]*')
    tests.push((client) => client.uris.some((each) => pattern.test(each)))
  }
  if (dns !== undefined) {
    const pattern = wildcard(dns.toLowerCase(), '[^.]+')
    tests.push((client) => client.dnsNames.some((each) => pattern.test(each.toLowerCase())))
  }
  if (commonName !== undefined) {
    const pattern = wildcard(commonName, '.*')
    tests.push((client) => client.commonName !== undefined && pattern.test(client.commonName))
  }
  if (fingerprint256 !== undefined) {
    const wanted = normalFingerprint(fingerprint256)
    tests.push((client) => client.fingerprint256 === wanted)
  }
  const names = rule.accounts.map((account) => wildcard(account, '.*'))
  return {
    allow: new Set(rule.allow),
    // An entry without any test would match everybody: the configuration refuses it, and so does this.
    matches: (client: ClientIdentity) => tests.length > 0 && tests.every((test) => test(client)),
    names: (account: string) => names.some((pattern) => pattern.test(account)),
  }
}

/** A fingerprint as this project compares them: lower-case hexadecimal without colons. */
export function normalFingerprint(text: string): string {
  return text.replaceAll(':', '').toLowerCase()
}

/** A pattern in which `*` stands for `run`, and every other character for itself. Runs are merged: no slow matching. */
function wildcard(pattern: string, run: string): RegExp {
  const literals = pattern.replace(/\*+/g, '*').split('*').map(RegExp.escape)
  return new RegExp(`^${literals.join(run)}$`, 's')
}

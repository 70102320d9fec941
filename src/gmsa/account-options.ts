import type { EnctypeWord } from '../kerberos/enctype.ts'

/** What the configuration may say of a gMSA, whatever the type of its provider, as its check leaves it. */
export interface AccountOptions {
  readonly samAccountName?: string
  readonly domain?: string
  readonly servicePrincipalNames?: readonly string[]
  readonly enctypes?: readonly EnctypeWord[]
  readonly salt?: string | null
  readonly kvno?: number
  readonly managedPasswordInterval?: number
}

/** These options among an account's others, which the configuration has checked against the schema. */
export function accountOptionsOf(options: Readonly<Record<string, unknown>>): AccountOptions {
  return options
}

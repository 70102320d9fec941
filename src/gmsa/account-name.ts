/** The longest name of a DNS-1123 subdomain (RFC 1123 2.1), and so of a Kubernetes Secret. */
const MAX_LENGTH = 253

/** The grammar of account names as a JSON Schema pattern: a DNS-1123 subdomain, as Kubernetes names its Secrets. */
export const ACCOUNT_NAME_PATTERN = '^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$'

/** A DNS-1123 label, as Kubernetes names its namespaces: `a`, `0a` and two letters are names too. */
export const NAMESPACE_PATTERN = '^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$'

const grammar = new RegExp(ACCOUNT_NAME_PATTERN)

/**
 * Whether `text` may name an account: a DNS-1123 subdomain of at most 253 characters. Nothing else ever reaches a
 * store, so neither `../x` nor a NUL nor 64 KiB of letters can.
 */
export function isAccountName(text: string): boolean {
  return text.length <= MAX_LENGTH && grammar.test(text)
}

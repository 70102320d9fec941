/**
 * The grammar of lease IDs as a JSON Schema pattern. credentials-fetcher makes 20 hex digits; the part of a mount that
 * ECS gives, and names of an operator's choice, fit it too. No dot and no slash: an ID is one name in one folder.
 */
export const LEASE_ID_PATTERN = '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'

/** A gMSA's name without its `$` as it may name a folder of a lease, where the lease's own record stands too. */
export const LEASE_GMSA_PATTERN = '^(?!.*_metadata\\.json$)[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'

const id = new RegExp(LEASE_ID_PATTERN)
const gmsa = new RegExp(LEASE_GMSA_PATTERN)

/** Whether `text` may be the ID of a lease. Whatever else is given never becomes part of a path. */
export function isLeaseId(text: string): boolean {
  return id.test(text)
}

/** Whether `text` may be the name of a gMSA's folder in a lease. */
export function isLeaseGmsa(text: string): boolean {
  return gmsa.test(text)
}

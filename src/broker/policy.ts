import type { Permission } from '../gmsa/material.ts'

/** Which certificates an entry speaks of. All keys given must hold; at least one is given. */
export interface ClientMatch {
  readonly uri?: string
  readonly dns?: string
  readonly commonName?: string
  readonly fingerprint256?: string
}

/** An entry of `clients`: who, what, which accounts (`*` stands for any run of characters). */
export interface ClientRule {
  readonly match: ClientMatch
  readonly allow: readonly Permission[]
  readonly accounts: readonly string[]
}

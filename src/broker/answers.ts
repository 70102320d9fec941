import type { Secret } from '../base/secret.ts'
import type { CredentialSpec } from '../gmsa/credential-spec.ts'
import type { Deliverable, ImpersonationCredential } from '../gmsa/material.ts'
import type { KerberosKeys } from '../kerberos/keys.ts'

/** What every answer says beside its material. */
export interface Told {
  readonly provider: string
  /** Which of the provider's servers gave what this rests on, where it has several. */
  readonly server?: string
  /** Names this state of the answer (RFC 9110 8.8.1), without quotes. Made of nothing secret. */
  readonly tag: string
  /** Whole seconds since the store said so, where it is out now. */
  readonly stale?: number
  /** When to ask again, in ms since 1970; absent for credentials. */
  readonly refreshAt?: number
  /** That of the key in force. */
  readonly kvno?: number
}

export interface CredentialAnswer extends Told {
  readonly material: ImpersonationCredential
}

export interface KeysAnswer extends Told {
  readonly kvno: number
  /** `sAMAccountName@REALM`. */
  readonly principal: string
  readonly keys: KerberosKeys
  /** When these keys change or are read again, in ms since 1970. */
  readonly changesAt?: number
  /** Until when the previous keys are kept, in ms since 1970; absent without one. */
  readonly previousValidUntil?: number
}

export interface KeytabAnswer extends Told {
  readonly kvno: number
  /** MIT 0x0502. The caller sends and forgets them. */
  readonly bytes: Buffer
}

export interface ManagedPasswordAnswer extends Told {
  /** The MSDS-MANAGEDPASSWORD_BLOB as it was read. */
  readonly blob: Secret
  /** Whole seconds since then: its intervals count from there. */
  readonly age: number
}

export interface CredentialSpecAnswer extends Told {
  readonly spec: CredentialSpec
}

export interface AccountListing {
  readonly name: string
  readonly kinds: readonly Deliverable[]
  /** As far as they are known without asking the store. */
  readonly kvno?: number
  /** In ms since 1970. */
  readonly refreshAt?: number
}

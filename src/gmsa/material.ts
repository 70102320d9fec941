import type { Secret } from '../base/secret.ts'
import type { KerberosKeys } from '../kerberos/keys.ts'
import type { Principal } from '../kerberos/principal.ts'
import type { KeyHeader } from './key-envelope.ts'
import type { KdsRootKey } from './root-key.ts'

/** An ordinary domain user that may retrieve gMSA passwords: what the CCG plug-in asks for. */
export interface ImpersonationCredential {
  readonly kind: 'credential'
  readonly username: string
  readonly domainName: string
  readonly password: Secret
}

/** The gMSA's own clear password, as one reading of MSDS-MANAGEDPASSWORD_BLOB gives it ([MS-ADTS] 2.2.19). */
export interface ManagedPassword {
  readonly kind: 'managed-password'
  /** The blob itself, checked: parseManagedPassword takes it. */
  readonly blob: Secret
  /** When the blob arrived, in ms since 1970: its intervals count from there. */
  readonly receivedAt: number
  /**
   * msDS-KeyVersionNumber, read from the same server after the blob, and when; absent where nobody said. `predicted`: not
   * read, but counted on from one that was of an earlier password.
   */
  readonly kvno?: { readonly value: number; readonly readAt: number; readonly predicted?: true }
  /** Root key and cycle of the password in force, as far as they are known. No secret: msDS-ManagedPasswordId. */
  readonly passwordId?: Pick<KeyHeader, 'gkid' | 'rootKeyId'>
  readonly account: ManagedAccount
  /** The server that gave it, for log and metric. */
  readonly server?: string
}

/** What is known of a gMSA beside its password. */
export interface ManagedAccount {
  readonly samAccountName: string
  /** DNS name of the account's own domain. */
  readonly domain: string
  /** `S-1-5-21-…`. */
  readonly sid?: string
  readonly upn?: string
  readonly servicePrincipalNames: readonly string[]
  /** msDS-SupportedEncryptionTypes; absent where the attribute is. */
  readonly supportedEnctypes?: number
  /** msDS-ManagedPasswordInterval in days. */
  readonly managedPasswordInterval?: number
}

/** Keys as a keytab holds them, and whose they are. `salt` is what the names give; the keytab does not say. */
export interface StoredKeys extends KerberosKeys {
  readonly principals: readonly Principal[]
}

/** The KDS root keys of a forest. Never handed out: managed passwords are derived of them, and they are wiped. */
export interface KdsRootKeys {
  readonly kind: 'kds-root-key'
  readonly keys: readonly KdsRootKey[]
}

/** What a store can hold, rawest first. */
export type Material = KdsRootKeys | ManagedPassword | StoredKeys | ImpersonationCredential
export type Kind = Material['kind']
export type MaterialOf<K extends Kind> = Extract<Material, { kind: K }>

/** Everything a `clients` entry can allow. */
export const PERMISSIONS = ['credential', 'keys', 'keytab', 'managed-password', 'credential-spec', 'admin'] as const
export type Permission = (typeof PERMISSIONS)[number]

/** What a client may be handed; each is also the permission it takes. The root key is missing by type, not by an if. */
export type Deliverable = Exclude<Permission, 'admin'>

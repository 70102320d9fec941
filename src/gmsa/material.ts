import type { Secret } from '../base/secret.ts'

/** An ordinary domain user that may retrieve gMSA passwords: what the CCG plug-in asks for. */
export interface ImpersonationCredential {
  readonly kind: 'credential'
  readonly username: string
  readonly domainName: string
  readonly password: Secret
}

/** What a store can hold. Later kinds (managed password, Kerberos keys, KDS root key) join this union. */
export type Material = ImpersonationCredential
export type Kind = Material['kind']
export type MaterialOf<K extends Kind> = Extract<Material, { kind: K }>

/** What a client may be handed. Also the words of `clients[].allow`, beside those in {@link PERMISSIONS}. */
export type Deliverable = Kind

/** Everything a `clients` entry can allow. */
export const PERMISSIONS = ['credential', 'keys', 'keytab', 'managed-password', 'credential-spec', 'admin'] as const
export type Permission = (typeof PERMISSIONS)[number]

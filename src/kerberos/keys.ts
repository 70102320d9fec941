import { GmsaError } from '../base/errors.ts'
import type { Secret } from '../base/secret.ts'
import type { EnctypeNumber } from './enctype.ts'
import type { KeytabEntry } from './keytab.ts'
import type { Principal } from './principal.ts'

/** `current` is in force; `next` will be, and is not yet; `previous` was, and tickets under it may still be alive. */
export type Phase = 'previous' | 'current' | 'next'

/** One long-term key of an account. */
export interface KerberosKey {
  /** Never 0. */
  readonly kvno: number
  readonly enctype: EnctypeNumber
  readonly key: Secret
  readonly phase: Phase
  /** The kvno was not read but expected: one more than the last. */
  readonly predicted?: true
  /** When the key came or comes into force, in ms since 1970: the time of its keytab entry. Absent where unknown. */
  readonly start?: number
}

/** The Kerberos keys of an account, newest first and in the order of preference. */
export interface KerberosKeys {
  readonly kind: 'kerberos-keys'
  readonly realm: string
  readonly salt: string
  readonly keys: readonly KerberosKey[]
}

/**
 * What a keytab holds: for each principal in turn an `acceptor` gets every key, an `initiator` those in force alone,
 * because kinit takes the highest kvno and a domain controller refuses a key before its time. The same keys and
 * principals give the same entries on every replica.
 * Throws KVNO_UNKNOWN where there is no key to write: an empty keytab would take the place of one that works.
 */
export function keytabEntries(
  { keys }: KerberosKeys,
  use: 'acceptor' | 'initiator',
  principals: readonly Principal[],
): KeytabEntry[] {
  const held = use === 'acceptor' ? keys : keys.filter(({ phase }) => phase === 'current')
  if (held.length === 0 || held.some(({ kvno }) => kvno < 1)) {
    throw new GmsaError('KVNO_UNKNOWN', `no key with a known kvno for the ${use} keytab`)
  }
  return principals.flatMap((principal) =>
    held.map(({ kvno, enctype, key, start }) => ({
      principal,
      // Before 1970 and after 2106 there is no timestamp to give.
      timestamp: Math.min(Math.max(Math.floor((start ?? 0) / 1000), 0), 0xffff_ffff),
      kvno,
      enctype,
      key,
    })),
  )
}

import { type Clock, systemClock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import { type Log, silentLog } from '../base/log.ts'
import { accountOptionsOf } from '../gmsa/account-options.ts'
import type { ImpersonationCredential, Kind } from '../gmsa/material.ts'
import { CREDENTIAL_MEMBERS, decodeCredential } from './credential-record.ts'
import { decodeManagedPassword, decodeStoredKeys, KEYTAB_MEMBERS } from './key-records.ts'
import type { Account, Provider } from './provider.ts'
import { isBinary, malformed, memberOf, type StoredRecord } from './record-members.ts'
import { parseRecordText, unwrapRecord } from './record-text.ts'
import { decodeRootKeys } from './root-key-records.ts'

export { decodeCredential, isBinary, malformed, parseRecordText, type StoredRecord }

/** A store of named documents. Most stores are one, and {@link fromRecords} makes a provider of it. */
export interface RecordStore {
  /** Rejects with a GmsaError; absence is ACCOUNT_NOT_FOUND, never an empty record. */
  read(account: Account, signal: AbortSignal): Promise<StoredRecord>
  /** The record before the current one. Present where the store keeps it; ACCOUNT_NOT_FOUND where there is none. */
  readPrevious?(account: Account, signal: AbortSignal): Promise<StoredRecord>
  probe(signal: AbortSignal): Promise<void>
  watch?(changed: (secret?: string) => void): Disposable
  close?(): Promise<void>
}

/**
 * Lifts a store of documents to a provider: what a record means is decided here, once for all stores. `clock` tells
 * when a managed password was read whose record does not say so; `log` is told of records in other forms than the plain.
 */
export function fromRecords(
  name: string,
  store: RecordStore,
  clock: Pick<Clock, 'now'> = systemClock,
  log: Log = silentLog,
): Provider {
  const watches = new Set<Disposable>()

  function watch(changed: (secret?: string) => void): Disposable {
    const inner = store.watch?.(changed)
    if (inner) watches.add(inner)
    return {
      [Symbol.dispose]() {
        if (inner && watches.delete(inner)) inner[Symbol.dispose]()
      },
    }
  }

  /** The record, where it holds what is asked for. */
  async function read(kind: Kind, account: Account, signal: AbortSignal): Promise<StoredRecord> {
    return ofKind(await store.read(account, signal), kind, account.name)
  }

  const credentialOf = (record: StoredRecord, { name: own, options }: Account): ImpersonationCredential =>
    decodeCredential(record, own, { domain: accountOptionsOf(options).domain, log })

  async function readPrevious(account: Account, signal: AbortSignal): Promise<ImpersonationCredential> {
    const record = await store.readPrevious?.(account, signal)
    if (!record)
      throw new GmsaError('ACCOUNT_NOT_FOUND', `store keeps no record before that of account ${account.name}`)
    return credentialOf(ofKind(record, 'credential', account.name), account)
  }

  return {
    name,
    reads: {
      'kds-root-key': async (account, signal) =>
        decodeRootKeys(await read('kds-root-key', account, signal), account.name),
      credential: async (account, signal) => credentialOf(await read('credential', account, signal), account),
      'managed-password': async (account, signal) =>
        decodeManagedPassword(await read('managed-password', account, signal), account, clock.now()),
      'kerberos-keys': async (account, signal) =>
        decodeStoredKeys(await read('kerberos-keys', account, signal), account),
    },
    ...(store.readPrevious && { readPrevious }),
    probe: (signal) => store.probe(signal),
    ...(store.watch && { watch }),
    async [Symbol.asyncDispose]() {
      for (const each of watches) each[Symbol.dispose]()
      watches.clear()
      await store.close?.()
    },
  }
}

/** Every name that means something in a record, for stores that are asked for each by its name. */
export const MEMBERS: readonly string[] = [
  ...CREDENTIAL_MEMBERS,
  ...KEYTAB_MEMBERS,
  'managedPassword',
  'samAccountName',
  'domain',
  'kvno',
  'servicePrincipalNames',
  'readAt',
  'rootKeys',
  'value',
]

/** The members that tell what a record holds. */
const SIGNS: Readonly<Record<Kind, readonly string[]>> = {
  'kds-root-key': ['rootKeys'],
  'managed-password': ['managedPassword'],
  'kerberos-keys': KEYTAB_MEMBERS,
  credential: CREDENTIAL_MEMBERS,
}
const WORDS: Readonly<Record<Kind, string>> = {
  'kds-root-key': 'KDS root keys',
  'managed-password': 'a managed password',
  'kerberos-keys': 'a keytab',
  credential: 'a credential',
}

/**
 * The record, or what its `value` holds. Throws KIND_NOT_OFFERED where that is of another kind, and MATERIAL_MALFORMED
 * where it is of more than one. A record without any is left to the decoder, which says what is missing.
 */
function ofKind(stored: StoredRecord, kind: Kind, account: string): StoredRecord {
  const record = unwrapRecord(stored, account)
  const kinds = Object.keys(SIGNS) as Kind[]
  const [held, ...more] = kinds.filter((each) => SIGNS[each].some((sign) => memberOf(record, sign) !== undefined))
  if (held === undefined || (held === kind && more.length === 0)) return record
  if (more.length > 0) {
    const all = [held, ...more].map((each) => WORDS[each]).join(' and ')
    throw malformed(account, `holds ${all}: one of them belongs in another record`)
  }
  throw new GmsaError('KIND_NOT_OFFERED', `record of account ${account} holds ${WORDS[held]}, not ${WORDS[kind]}`)
}

import { type Clock, systemClock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'
import type { ImpersonationCredential, Kind } from '../gmsa/material.ts'
import { decodeManagedPassword, decodeStoredKeys } from './key-records.ts'
import type { Account, Provider } from './provider.ts'
import { malformed, memberOf, printableMember, type StoredRecord, textMember } from './record-members.ts'
import { decodeRootKeys } from './root-key-records.ts'

export { malformed, type StoredRecord }

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
 * when a managed password was read whose record does not say so.
 */
export function fromRecords(name: string, store: RecordStore, clock: Pick<Clock, 'now'> = systemClock): Provider {
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
    const record = await store.read(account, signal)
    expectKind(record, kind, account.name)
    return record
  }

  async function readPrevious(account: Account, signal: AbortSignal): Promise<ImpersonationCredential> {
    const record = await store.readPrevious?.(account, signal)
    if (!record)
      throw new GmsaError('ACCOUNT_NOT_FOUND', `store keeps no record before that of account ${account.name}`)
    expectKind(record, 'credential', account.name)
    return decodeCredential(record, account.name)
  }

  return {
    name,
    reads: {
      'kds-root-key': async (account, signal) =>
        decodeRootKeys(await read('kds-root-key', account, signal), account.name),
      credential: async (account, signal) => decodeCredential(await read('credential', account, signal), account.name),
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

/** The members that tell what a record holds. */
const SIGNS: Readonly<Record<Kind, readonly string[]>> = {
  'kds-root-key': ['rootKeys'],
  'managed-password': ['managedPassword'],
  'kerberos-keys': ['keytab'],
  credential: ['username', 'password', 'domainName'],
}
const WORDS: Readonly<Record<Kind, string>> = {
  'kds-root-key': 'KDS root keys',
  'managed-password': 'a managed password',
  'kerberos-keys': 'a keytab',
  credential: 'a credential',
}

/**
 * Throws KIND_NOT_OFFERED where the record holds another kind, and MATERIAL_MALFORMED where it holds more than one. A
 * record without any is left to the decoder, which says what is missing.
 */
function expectKind(record: StoredRecord, kind: Kind, account: string): void {
  const kinds = Object.keys(SIGNS) as Kind[]
  const [held, ...more] = kinds.filter((each) => SIGNS[each].some((sign) => memberOf(record, sign) !== undefined))
  if (held === undefined) return
  if (more.length > 0) {
    const all = [held, ...more].map((each) => WORDS[each]).join(' and ')
    throw malformed(account, `holds ${all}: one of them belongs in another record`)
  }
  if (held === kind) return
  throw new GmsaError('KIND_NOT_OFFERED', `record of account ${account} holds ${WORDS[held]}, not ${WORDS[kind]}`)
}

/**
 * The impersonation credential in a record: `username`, `password` and `domainName`, all three strings and none empty.
 * Throws MATERIAL_MALFORMED that names the member, never its value. Other members are ignored.
 */
export function decodeCredential(record: StoredRecord, account: string): ImpersonationCredential {
  const username = printableMember(record, 'username', account)
  const domainName = printableMember(record, 'domainName', account)
  const password = textMember(record, 'password', account)
  if (/[\r\n]$/.test(password)) {
    throw malformed(account, 'password ends in a line break', 'store it without one: a log-on with it would fail')
  }
  // Windows takes the text up to there: a shorter password than the one stored.
  if (password.includes('\0')) throw malformed(account, 'password holds a NUL character')
  return { kind: 'credential', username, domainName, password: Secret.fromText(password) }
}

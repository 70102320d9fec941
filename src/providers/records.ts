import { GmsaError } from '../base/errors.ts'
import { Secret } from '../base/secret.ts'
import type { ImpersonationCredential } from '../gmsa/material.ts'
import type { Account, Provider } from './provider.ts'

/** A document as a store holds it: a JSON object, a Secret's keys, a folder of files. */
export type StoredRecord = Readonly<Record<string, unknown>>

/** A store of named documents. Most stores are one, and {@link fromRecords} makes a provider of it. */
export interface RecordStore {
  /** Rejects with a GmsaError; absence is ACCOUNT_NOT_FOUND, never an empty record. */
  read(account: Account, signal: AbortSignal): Promise<StoredRecord>
  probe(signal: AbortSignal): Promise<void>
  watch?(changed: (secret?: string) => void): Disposable
  close?(): Promise<void>
}

/** More than Active Directory takes for any of them: a user principal name may have 1,024 characters, all else less. */
const MAX_LENGTH = 1024

/** Lifts a store of documents to a provider: what a record means is decided here, once for all stores. */
export function fromRecords(name: string, store: RecordStore): Provider {
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

  return {
    name,
    reads: {
      credential: async (account, signal) => decodeCredential(await store.read(account, signal), account.name),
    },
    probe: (signal) => store.probe(signal),
    ...(store.watch && { watch }),
    async [Symbol.asyncDispose]() {
      for (const each of watches) each[Symbol.dispose]()
      watches.clear()
      await store.close?.()
    },
  }
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

function printableMember(record: StoredRecord, member: string, account: string): string {
  const text = textMember(record, member, account)
  if (/\p{Cc}/u.test(text)) throw malformed(account, `${member} holds a control character`)
  return text
}

function textMember(record: StoredRecord, member: string, account: string): string {
  const value = Object.hasOwn(record, member) ? record[member] : undefined
  if (value === undefined || value === null) throw malformed(account, `${member} is missing`)
  if (typeof value !== 'string') throw malformed(account, `${member} must be a string`, 'put it in quotes')
  if (value === '') throw malformed(account, `${member} is empty`)
  if (value.length > MAX_LENGTH) throw malformed(account, `${member} is longer than ${MAX_LENGTH} characters`)
  if (!value.isWellFormed()) throw malformed(account, `${member} is not well-formed Unicode`)
  return value
}

/** MATERIAL_MALFORMED about the account's record. `problem` must not quote what the record holds. */
export function malformed(account: string, problem: string, hint?: string): GmsaError {
  return new GmsaError('MATERIAL_MALFORMED', `record of account ${account}: ${problem}`, hint ? { hint } : {})
}

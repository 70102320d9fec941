import { toGmsaError } from '../../base/errors.ts'
import type { Secret } from '../../base/secret.ts'
import { accountOptionsOf } from '../../gmsa/account-options.ts'
import { millisecondsOf } from '../../gmsa/file-time.ts'
import { MAX_SKEW_TICKS, startOfGkid } from '../../gmsa/gkid.ts'
import type { PasswordBlob } from '../../gmsa/managed-password.ts'
import type { ManagedPassword } from '../../gmsa/material.ts'
import { changesSince, type OfflinePassword } from '../../gmsa/offline.ts'
import { accountSalt } from '../../kerberos/salt.ts'
import type { Account, ProviderContext } from '../provider.ts'
import type { OfflineEntry } from './account.ts'
import { openKvnoKeytab } from './kvno-keytab.ts'

/** The kvno of one password of an account. */
interface KnownKvno {
  readonly value: number
  /** How many changes after the anchor's that password came. */
  readonly changes: number
  /** Nobody said that the number is this password's. */
  readonly assumed?: true
}

export interface Kvnos {
  /** That of the password in force; undefined where neither configuration nor keytab have one to count from. */
  of(
    account: Account,
    entry: OfflineEntry,
    password: OfflinePassword,
    signal: AbortSignal,
  ): Promise<ManagedPassword['kvno']>
}

/** Remembers of each account which password has which kvno: as configured, until its keytab has that of a later one. */
export function openKvnos(provider: string, allowReadable: boolean, { log }: Pick<ProviderContext, 'log'>): Kvnos {
  const known = new Map<string, KnownKvno>()
  const warned = new Set<string>()

  /** That of the password in force, or of the one before it, as far as the keytab has them. */
  async function fromKeytab(
    { name, options }: Account,
    { kvnoKeytab: path, samAccountName, domain }: OfflineEntry,
    { blob }: OfflinePassword,
    changes: number,
    signal: AbortSignal,
  ): Promise<KnownKvno | undefined> {
    if (path === undefined) return undefined
    const salt = accountOptionsOf(options).salt ?? accountSalt(samAccountName, domain)
    try {
      using keytab = await openKvnoKeytab(path, { allowReadable, log }, signal)
      for (const [before, password] of inForceFirst(blob).entries()) {
        const value = await keytab.kvnoOf(password, salt)
        if (value !== undefined) return { value, changes: changes - before }
      }
    } catch (thrown) {
      signal.throwIfAborted()
      const { code, message: problem } = toGmsaError(thrown)
      // The password can be handed out all the same.
      if (!warned.has(name)) log.warn({ provider, account: name, code, problem }, 'kvnoKeytab not read')
      warned.add(name)
    }
    return undefined
  }

  return {
    async of(account, entry, password, signal) {
      const start = startOfGkid(password.inForce.gkid)
      const changes = changesSince(entry, start)
      const before = known.get(account.name) ?? configuredKvno(entry, changes)
      const isSettled = before?.changes === changes && !before.assumed
      const learnt = isSettled ? undefined : await fromKeytab(account, entry, password, changes, signal)
      const best = learnt && (!before || before.assumed || learnt.changes > before.changes) ? learnt : before
      if (!best) return undefined
      known.set(account.name, best)
      return kvnoAfter(best, changes, millisecondsOf(start))
    },
  }
}

/**
 * The configured number is that of the password that managedPasswordId names. Without one it can only be that of the
 * password in force at the first look: certain as long as the account has its first one, and else assumed.
 */
function configuredKvno({ kvno: value, passwordId }: OfflineEntry, changes: number): KnownKvno | undefined {
  if (value === undefined) return undefined
  return passwordId || changes === 0 ? { value, changes: 0 } : { value, changes, assumed: true }
}

/**
 * The kvno after so many changes: that of the known password itself, and one more for each change since then. The
 * directory counts so as long as somebody uses the account in every interval, and otherwise differs: it is marked.
 */
function kvnoAfter(
  { value, changes: then, assumed }: KnownKvno,
  changes: number,
  since: number,
): ManagedPassword['kvno'] {
  if (changes < then) return undefined
  const isPredicted = assumed || changes > then
  // Not read a moment ago, but known for as long as its password is.
  return { value: value + changes - then, readAt: since, ...(isPredicted && { predicted: true as const }) }
}

/** In the last five minutes before a change the blob's current password is not in force yet. */
function inForceFirst({ current, previous, queryInterval }: PasswordBlob): Secret[] {
  const passwords = queryInterval <= MAX_SKEW_TICKS ? [previous] : [current, previous]
  return passwords.filter((password) => password !== undefined)
}

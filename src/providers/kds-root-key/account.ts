import { GmsaError } from '../../base/errors.ts'
import { accountOptionsOf } from '../../gmsa/account-options.ts'
import { parseFileTime } from '../../gmsa/file-time.ts'
import { type KeyIdentifier, parseKeyIdentifier } from '../../gmsa/key-identifier.ts'
import { BASE64_PATTERN, SID_PATTERN, TIME_PATTERN } from '../../gmsa/name-patterns.ts'
import type { OfflineAccount } from '../../gmsa/offline.ts'
import { parseSid } from '../../gmsa/sid.ts'
import type { AccountProblem } from '../define.ts'
import type { Account } from '../provider.ts'

/** An account whose passwords are derived, as its entry describes it. */
export interface OfflineEntry extends OfflineAccount {
  readonly samAccountName: string
  readonly domain: string
  readonly sidText: string
  readonly servicePrincipalNames: readonly string[]
  readonly kvno?: number
  /** Path of a keytab to learn the kvno from. */
  readonly kvnoKeytab?: string
}

/** What an account's entry says. Throws CONFIG_INVALID, where {@link problemsOf} would have found it at start. */
export function entryOf({ name, options }: Account): OfflineEntry {
  const [first] = problemsOf(name, options)
  if (first) throw new GmsaError('CONFIG_INVALID', `accounts.${name}.${first.option ?? ''}: ${first.problem}`)
  const { samAccountName, domain, servicePrincipalNames, managedPasswordInterval, kvno } = accountOptionsOf(options)
  const { sid, managedPasswordId, whenCreated, kvnoKeytab } = textsOf(options)
  if (sid === undefined || domain === undefined || managedPasswordInterval === undefined) {
    throw new GmsaError('CONFIG_INVALID', `accounts.${name}: expected domain, sid and managedPasswordInterval`)
  }
  const created = whenCreated === undefined ? undefined : timeOf(whenCreated)
  return {
    samAccountName: samAccountName ?? `${name}$`,
    domain,
    sidText: sid,
    sid: parseSid(sid),
    intervalDays: managedPasswordInterval,
    servicePrincipalNames: servicePrincipalNames ?? [],
    ...(managedPasswordId !== undefined && { passwordId: identifierOf(managedPasswordId) }),
    ...(created !== undefined && { whenCreated: created }),
    ...(kvno !== undefined && { kvno }),
    ...(kvnoKeytab !== undefined && { kvnoKeytab }),
  }
}

/** What the schema can't say of an account's options. Whatever does not fit the schema is passed over. */
export function problemsOf(account: string, options: Readonly<Record<string, unknown>>): AccountProblem[] {
  const { sid, managedPasswordId, whenCreated } = textsOf(options)
  const problems: AccountProblem[] = []
  // Each account has a SID of its own, so no other name can stand for it.
  if (account === '*') problems.push({ problem: 'passwords are derived for accounts with a name only' })
  if (options['managedPasswordId'] === undefined && options['whenCreated'] === undefined) {
    problems.push({ option: 'managedPasswordId', problem: 'required: expected it, or whenCreated' })
  }
  const look = (option: string, text: string | undefined, pattern: string, read: (text: string) => unknown) => {
    if (text === undefined || !new RegExp(pattern).test(text)) return
    try {
      read(text)
    } catch (error) {
      problems.push({ option, problem: error instanceof GmsaError ? error.message : 'cannot be read' })
    }
  }
  look('sid', sid, SID_PATTERN, parseSid)
  look('managedPasswordId', managedPasswordId, BASE64_PATTERN, identifierOf)
  look('whenCreated', whenCreated, TIME_PATTERN, timeOf)
  return problems
}

/** The options of this provider type that are text. */
function textsOf(options: Readonly<Record<string, unknown>>) {
  const text = (name: string) => {
    const value = options[name]
    return typeof value === 'string' ? value : undefined
  }
  return {
    sid: text('sid'),
    managedPasswordId: text('managedPasswordId'),
    whenCreated: text('whenCreated'),
    kvnoKeytab: text('kvnoKeytab'),
  }
}

function identifierOf(base64: string): KeyIdentifier {
  return parseKeyIdentifier(Buffer.from(base64, 'base64'))
}

/** RFC 3339, or `20261120055725.0Z`. */
function timeOf(text: string): bigint {
  const time = parseFileTime(text.replace(/^(....)(..)(..)(..)(..)(..)\.0Z$/, '$1-$2-$3T$4:$5:$6Z'))
  if (time === undefined) throw new GmsaError('CONFIG_INVALID', 'expected a time such as 2026-11-23T20:00:00Z')
  return time
}

import { type Log, silentLog } from '../base/log.ts'
import { Secret } from '../base/secret.ts'
import type { ImpersonationCredential } from '../gmsa/material.ts'
import { filledMember, malformed, memberOf, printableMember, type StoredRecord, textMember } from './record-members.ts'
import { refuseTypeName } from './record-text.ts'

/** What a record's credential may be called: our own names, and those of the secrets for gMSAs on Amazon ECS. */
const USERNAME = ['username', 'usernameOfStandardUserAccount'] as const
const PASSWORD = ['password', 'passwordOfStandardUserAccount'] as const
export const CREDENTIAL_MEMBERS: readonly string[] = [...USERNAME, ...PASSWORD, 'domainName']

export interface CredentialOptions {
  /** The account's domain as configured: for records without `domainName`. */
  readonly domain?: string | undefined
  /** Told which of the names and forms a record uses, where it is not the plain one. */
  readonly log?: Log
}

/**
 * The impersonation credential in a record: a user name, a password and `domainName`, all three strings and none empty;
 * of two names for one thing the first that is not empty counts. A user name `old:new` stands for the new one. Throws
 * MATERIAL_MALFORMED that names the member, never its value. Other members are ignored.
 */
export function decodeCredential(
  record: StoredRecord,
  account: string,
  { domain, log = silentLog }: CredentialOptions = {},
): ImpersonationCredential {
  const members = { username: filledMember(record, USERNAME), password: filledMember(record, PASSWORD) }
  const name = printableMember(record, members.username, account)
  const username = newerName(name, members.username, account)
  const domainName =
    domain !== undefined && memberOf(record, 'domainName') === undefined
      ? domain
      : printableMember(record, 'domainName', account)
  const password = passwordOf(record, members.password, account)
  const renamed = username !== name
  if (renamed || members.username !== USERNAME[0] || members.password !== PASSWORD[0]) {
    log.debug({ account, members, renamed }, 'record in another form than the plain one')
  }
  return { kind: 'credential', username, domainName, password }
}

/** A user is replaced by storing both names: who reads the secret takes the new one, who still runs keeps the old. */
function newerName(name: string, member: string, account: string): string {
  const [old, newer, ...more] = name.split(':')
  if (newer === undefined) return name
  if (old === '' || newer === '' || more.length > 0) {
    throw malformed(account, `${member}: expected a user name, or two as in old:new`)
  }
  return newer
}

function passwordOf(record: StoredRecord, member: string, account: string): Secret {
  const password = textMember(record, member, account)
  refuseTypeName(password, account, member)
  if (/[\r\n]$/.test(password)) {
    throw malformed(account, `${member} ends in a line break`, 'store it without one: a log-on with it would fail')
  }
  // Windows takes the text up to there: a shorter password than the one stored.
  if (password.includes('\0')) throw malformed(account, `${member} holds a NUL character`)
  return Secret.fromText(password)
}

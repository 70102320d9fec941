import { resolveSrv } from 'node:dns/promises'
import type { ConnectionOptions } from 'node:tls'
import { Client, InvalidCredentialsError, StrongAuthRequiredError } from 'ldapts'
import { GmsaError, type Reason } from '../../base/errors.ts'
import type { Secret } from '../../base/secret.ts'

/** How one domain controller is reached: LDAPS, its certificate verified against `ca` and its name. */
export interface DirectoryServer {
  /** DNS name or address, also the name its certificate has to carry. */
  readonly host: string
  readonly port?: number
  /** PEM; absent: the system's roots. */
  readonly ca?: string
  /** For each answer, in ms. */
  readonly timeout: number
}

const LDAPS_PORT = 636

/** The domain controllers of a domain by their SRV records, best first. Rejects with STORE_UNAVAILABLE. */
export async function findDomainControllers(domain: string): Promise<string[]> {
  const name = `_ldap._tcp.dc._msdcs.${domain}`
  try {
    const records = await resolveSrv(name)
    return records.sort((a, b) => a.priority - b.priority || b.weight - a.weight).map((each) => each.name)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new GmsaError('STORE_UNAVAILABLE', `no domain controller found: SRV ${name}: ${code}`, {
      cause: error,
      reason: 'not-found',
    })
  }
}

/** Runs `use` with a connection to one domain controller; its errors come out as GmsaError with a reason. */
export async function withDirectory<T>(server: DirectoryServer, use: (client: Client) => Promise<T>): Promise<T> {
  const { host, port = LDAPS_PORT, ca, timeout } = server
  const tlsOptions: ConnectionOptions = { minVersion: 'TLSv1.2', ...(ca === undefined ? {} : { ca }) }
  const bracketed = host.includes(':') ? `[${host}]` : host
  const client = new Client({ url: `ldaps://${bracketed}:${port}`, tlsOptions, timeout, connectTimeout: timeout })
  try {
    return await use(client)
  } catch (error) {
    throw directoryError(error, host)
  } finally {
    await client.unbind().catch(() => {})
  }
}

/** The controller's own clock, from its root entry, which anybody may read. */
export async function readDirectoryTime(client: Client): Promise<Date> {
  const { searchEntries } = await client.search('', { scope: 'base', attributes: ['currentTime'] })
  const time = parseGeneralizedTime(String(searchEntries[0]?.['currentTime'] ?? ''))
  if (!time) throw new GmsaError('STORE_UNAVAILABLE', 'the root entry has no currentTime', { reason: 'protocol' })
  return time
}

/** Logs on with a name and password (LDAP simple bind). Rejects with STORE_DENIED and the reason. */
export async function logOn(client: Client, name: string, password: Secret): Promise<void> {
  await client.bind(name, password.revealText())
}

/** The name for a simple bind: `user@domain` or, for a NetBIOS domain, `DOMAIN\user` ([MS-ADTS] 5.1.1.1.1). */
export function bindName(username: string, domainName: string): string {
  if (/[@\\]/.test(username)) return username
  return domainName.includes('.') ? `${username}@${domainName}` : `${domainName}\\${username}`
}

interface Cause {
  readonly reason: Reason
  readonly meaning: string
  readonly hint: string
}

/** What `data XXX` in a refused bind means: the Windows error code in hexadecimal ([MS-ERREF] 2.2). */
const BIND_CAUSES: Readonly<Record<string, Cause>> = {
  '525': {
    reason: 'not-found',
    meaning: 'no such user',
    hint: 'compare username and domainName in the store with the directory',
  },
  '52e': {
    reason: 'bad-password',
    meaning: 'wrong user name or password',
    hint: 'store the current password of the account, without a line break at its end; compare the user name as well',
  },
  '530': {
    reason: 'not-permitted',
    meaning: 'not allowed to log on at this time',
    hint: "look at the account's logonHours",
  },
  '531': {
    reason: 'not-permitted',
    meaning: 'not allowed to log on from here',
    hint: "look at the account's userWorkstations",
  },
  '532': {
    reason: 'password-expired',
    meaning: 'the password has expired',
    hint: 'set a new password in the directory and store it',
  },
  '533': {
    reason: 'disabled',
    meaning: 'the account is disabled',
    hint: 'enable it: userAccountControl has ACCOUNTDISABLE (2) set',
  },
  '568': { reason: 'not-permitted', meaning: 'member of too many groups', hint: 'reduce its group memberships' },
  '701': {
    reason: 'expired',
    meaning: 'the account has expired',
    hint: 'look at accountExpires',
  },
  '773': {
    reason: 'must-change',
    meaning: 'the password must be changed at the next log-on',
    hint: 'set pwdLastSet to -1, or a new password, and store it',
  },
  '775': {
    reason: 'locked',
    meaning: 'the account is locked out',
    hint: 'look at lockoutTime, and for whoever tries wrong passwords',
  },
}

const CONNECTION_CAUSES: Readonly<Record<string, Cause>> = {
  ERR_TLS_CERT_ALTNAME_INVALID: {
    reason: 'name-mismatch',
    meaning: 'its certificate is for another name',
    hint: 'use the name in the certificate',
  },
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: {
    reason: 'unknown-ca',
    meaning: 'its certificate comes from a CA that is not trusted here',
    hint: "give the CA's certificate with --ca",
  },
  ECONNREFUSED: {
    reason: 'refused',
    meaning: 'it refuses the connection',
    hint: 'check the address, the port and that LDAPS is on',
  },
  ENOTFOUND: { reason: 'not-found', meaning: 'its name is not known', hint: 'check the name and the DNS servers' },
  ETIMEDOUT: { reason: 'hang', meaning: 'it does not answer', hint: 'check the address and the firewall' },
}
const SAME_AS_UNKNOWN_CA = [
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_GET_ISSUER_CERT',
]

/** An error of the LDAP library as one of ours. Its own text may hold the bind name, never the password. */
export function directoryError(error: unknown, host: string): GmsaError {
  if (error instanceof GmsaError) return error
  if (error instanceof InvalidCredentialsError) {
    const data = /\bdata ([0-9a-f]{1,8})\b/i.exec(error.message)?.[1]?.toLowerCase()
    const cause = BIND_CAUSES[data ?? '']
    const meaning = cause?.meaning ?? 'the log-on fails'
    return new GmsaError('STORE_DENIED', `${host} refuses the log-on: ${meaning} (data ${data ?? 'not given'})`, {
      cause: error,
      reason: cause?.reason ?? 'bad-password',
      ...(cause && { hint: cause.hint }),
    })
  }
  if (error instanceof StrongAuthRequiredError) {
    return new GmsaError('STORE_DENIED', `${host} wants an encrypted connection`, {
      cause: error,
      reason: 'not-encrypted',
    })
  }
  const { code = '', message = '' } = error as NodeJS.ErrnoException
  const key = SAME_AS_UNKNOWN_CA.includes(code)
    ? 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'
    : /timed? ?out/i.test(message)
      ? 'ETIMEDOUT'
      : code
  const cause = CONNECTION_CAUSES[key]
  return new GmsaError('STORE_UNAVAILABLE', `${host}: ${cause?.meaning ?? (code || 'unexpected answer')}`, {
    cause: error,
    reason: cause?.reason ?? 'protocol',
    ...(cause && { hint: cause.hint }),
  })
}

/** `20261123195400.0Z` (RFC 4517 3.3.13, as directories write it: UTC). Undefined for anything else. */
function parseGeneralizedTime(text: string): Date | undefined {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:[.,]\d+)?Z$/.exec(text) ?? []
  if (second === undefined) return undefined
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
}

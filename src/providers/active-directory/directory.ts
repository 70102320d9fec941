import type { Client } from 'ldapts'
import { GmsaError } from '../../base/errors.ts'
import type { Secret } from '../../base/secret.ts'
import { directoryError } from './causes.ts'
import { openConnection } from './connection.ts'
import { discoverControllers } from './discovery.ts'

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

/** The domain controllers of a domain by their SRV records, best first. Rejects with STORE_UNAVAILABLE. */
export async function findDomainControllers(domain: string): Promise<string[]> {
  return discoverControllers({ domain, random: Math.random })
}

/** Runs `use` with a connection to one domain controller; its errors come out as GmsaError with a reason. */
export async function withDirectory<T>(server: DirectoryServer, use: (client: Client) => Promise<T>): Promise<T> {
  const { host, port = 636, ca, timeout } = server
  const tls = ca === undefined ? {} : { ca }
  const connection = openConnection({ host, port, transport: 'ldaps', tls, timeout })
  try {
    return await use(connection.client)
  } catch (error) {
    throw directoryError(error, host)
  } finally {
    connection.close()
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
  // An empty one would be an anonymous log-on that succeeds (RFC 4513 5.1.2).
  if (password.byteLength === 0) throw new GmsaError('MATERIAL_MALFORMED', 'the password is empty')
  await client.bind(name, password.revealText())
}

/** The name for a simple bind: `user@domain` or, for a NetBIOS domain, `DOMAIN\user` ([MS-ADTS] 5.1.1.1.1). */
export function bindName(username: string, domainName: string): string {
  if (/[@\\]/.test(username)) return username
  return domainName.includes('.') ? `${username}@${domainName}` : `${domainName}\\${username}`
}

/** `20261123195400.0Z` (RFC 4517 3.3.13, as directories write it: UTC). Undefined for anything else. */
function parseGeneralizedTime(text: string): Date | undefined {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:[.,]\d+)?Z$/.exec(text) ?? []
  if (second === undefined) return undefined
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
}

import { AndFilter, type Client, type Entry, EqualityFilter } from 'ldapts'
import type { Clock } from '../../base/clock.ts'
import { GmsaError } from '../../base/errors.ts'
import { Secret } from '../../base/secret.ts'
import { type KeyIdentifier, parseKeyIdentifier } from '../../gmsa/key-identifier.ts'
import { parseManagedPassword } from '../../gmsa/managed-password.ts'
import type { ManagedAccount, ManagedPassword } from '../../gmsa/material.ts'
import { formatSid } from '../../gmsa/sid.ts'
import { passwordError } from './causes.ts'

const BLOB = 'msDS-ManagedPassword'
const KVNO = 'msDS-KeyVersionNumber'
const PASSWORD_ID = 'msDS-ManagedPasswordId'
/** The blob is computed when it is asked for, and only when it is asked for by name. */
const ATTRIBUTES = [
  BLOB,
  'objectSid',
  'sAMAccountName',
  'servicePrincipalName',
  'msDS-SupportedEncryptionTypes',
  'msDS-ManagedPasswordInterval',
  'userPrincipalName',
] as const
const BYTES: readonly string[] = [BLOB, 'objectSid']

/** Where and how to look one account up. */
export interface Lookup {
  /** The account's sAMAccountName, `web01$`. */
  readonly samAccountName: string
  /** DNS name of its domain. */
  readonly domain: string
  /** Distinguished name to search below. */
  readonly searchBase: string
}

/**
 * Reads the managed password and then, over the same connection, its key version: reading the password may itself make
 * the directory change it, and the version in that very answer is still the old one ([MS-ADTS] 3.1.1.4.5.39).
 *
 * Rejects with ACCOUNT_NOT_FOUND; with STORE_DENIED, not-permitted, where the account is there and its password is
 * not; with STORE_UNAVAILABLE, clock; with MATERIAL_MALFORMED; and with the library's errors.
 */
export async function readManagedPassword(
  client: Client,
  host: string,
  lookup: Lookup,
  clock: Clock,
): Promise<ManagedPassword> {
  const entry = await findAccount(client, host, lookup)
  const receivedAt = clock.now()
  const blob = takeBlob(entry, lookup.samAccountName, host)
  const version = await readVersion(client, entry.dn, clock)
  return {
    kind: 'managed-password',
    blob,
    receivedAt,
    ...version,
    account: accountOf(entry, lookup.domain),
    server: host,
  }
}

/** The one entry; references to other domains, which every search of a domain brings as well, are passed over. */
async function findAccount(client: Client, host: string, { samAccountName, searchBase }: Lookup): Promise<Entry> {
  const search = client.search(searchBase, {
    scope: 'sub',
    // Not text: values go out as they are, so nothing in a name can be a part of the filter.
    filter: new AndFilter({
      filters: [
        new EqualityFilter({ attribute: 'objectClass', value: 'msDS-GroupManagedServiceAccount' }),
        new EqualityFilter({ attribute: 'sAMAccountName', value: samAccountName }),
      ],
    }),
    attributes: [...ATTRIBUTES],
    explicitBufferAttributes: [...BYTES],
    sizeLimit: 2,
  })
  const { searchEntries } = await search.catch((error) => {
    throw passwordError(error, host)
  })
  const [entry, another] = searchEntries
  if (!entry) {
    throw new GmsaError('ACCOUNT_NOT_FOUND', `no gMSA has the sAMAccountName ${samAccountName} below ${searchBase}`, {
      hint: samAccountName.endsWith('$')
        ? 'compare samAccountName and searchBase with the directory: Get-ADServiceAccount'
        : 'the sAMAccountName of a gMSA ends in $',
    })
  }
  if (another) {
    throw new GmsaError('MATERIAL_MALFORMED', `more than one gMSA has the sAMAccountName ${samAccountName}`)
  }
  return entry
}

/** A copy of the blob, checked; the library's bytes are overwritten. */
function takeBlob(entry: Entry, samAccountName: string, host: string): Secret {
  const [bytes] = valuesOf(entry, BLOB)
  if (!Buffer.isBuffer(bytes)) {
    throw new GmsaError('STORE_DENIED', `${host} does not give us the password of ${samAccountName}`, {
      reason: 'not-permitted',
      hint: 'let the bind account retrieve it: msDS-GroupMSAMembership (PrincipalsAllowedToRetrieveManagedPassword)',
    })
  }
  const blob = new Secret(Uint8Array.from(bytes))
  bytes.fill(0)
  const { current, previous } = parseManagedPassword(blob.reveal())
  current.wipe()
  previous?.wipe()
  return blob
}

type Version = Pick<ManagedPassword, 'kvno' | 'passwordId'>

async function readVersion(client: Client, dn: string, clock: Clock): Promise<Version> {
  const { searchEntries } = await client.search(dn, {
    scope: 'base',
    attributes: [KVNO, PASSWORD_ID],
    explicitBufferAttributes: [PASSWORD_ID],
  })
  const [entry] = searchEntries
  const value = entry && numberOf(entry, KVNO)
  const passwordId = entry && identifierOf(entry)
  return {
    ...(value !== undefined && value > 0 && { kvno: { value, readAt: clock.now() } }),
    ...(passwordId && { passwordId }),
  }
}

/** What the password in force came from. For doctor alone: one that can't be read is none. */
function identifierOf(entry: Entry): KeyIdentifier | undefined {
  const [bytes] = valuesOf(entry, PASSWORD_ID)
  try {
    return Buffer.isBuffer(bytes) ? parseKeyIdentifier(bytes) : undefined
  } catch {
    return undefined
  }
}

function accountOf(entry: Entry, domain: string): ManagedAccount {
  const [sid] = valuesOf(entry, 'objectSid')
  const [upn] = valuesOf(entry, 'userPrincipalName')
  const [samAccountName] = valuesOf(entry, 'sAMAccountName')
  const supportedEnctypes = numberOf(entry, 'msDS-SupportedEncryptionTypes')
  const managedPasswordInterval = numberOf(entry, 'msDS-ManagedPasswordInterval')
  return {
    samAccountName: String(samAccountName),
    domain,
    ...(Buffer.isBuffer(sid) && { sid: formatSid(sid) }),
    ...(upn !== undefined && { upn: String(upn) }),
    servicePrincipalNames: valuesOf(entry, 'servicePrincipalName').map(String),
    ...(supportedEnctypes !== undefined && { supportedEnctypes }),
    ...(managedPasswordInterval !== undefined && { managedPasswordInterval }),
  }
}

/** The values of an attribute, which the library gives as one value, a list, or an empty list when it is absent. */
function valuesOf(entry: Entry, attribute: string): readonly (string | Buffer)[] {
  const value = entry[attribute]
  if (value === undefined) return []
  return Array.isArray(value) ? value : [value]
}

/** An integer attribute. Undefined where it is absent. Throws MATERIAL_MALFORMED for anything but an integer. */
function numberOf(entry: Entry, attribute: string): number | undefined {
  const [text] = valuesOf(entry, attribute)
  if (text === undefined) return undefined
  if (/^-?[0-9]{1,10}$/.test(String(text))) return Number(text)
  throw new GmsaError('MATERIAL_MALFORMED', `${attribute} is not an integer`)
}

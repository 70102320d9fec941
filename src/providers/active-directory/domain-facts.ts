import { AndFilter, type Client, type Entry, EqualityFilter } from 'ldapts'
import { GmsaError } from '../../base/errors.ts'
import type { DomainFacts } from '../../gmsa/credential-spec.ts'
import { formatGuid } from '../../gmsa/guid.ts'
import { formatSid } from '../../gmsa/sid.ts'

/**
 * What the directory says of the domain `searchBase` (`DC=ad,DC=test`): from the domain's own entry, its crossRef among
 * the partitions ([MS-ADTS] 6.1.1.2.1.1) and the root entry. Rejects with STORE_UNAVAILABLE, protocol, and with the
 * library's errors.
 */
export async function readDomainFacts(client: Client, host: string, searchBase: string): Promise<DomainFacts> {
  const root = await readEntry(client, '', ['configurationNamingContext', 'rootDomainNamingContext'])
  const entry = await readEntry(client, searchBase, ['objectSid', 'objectGUID'], ['objectSid', 'objectGUID'])
  const { searchEntries } = await client.search(`CN=Partitions,${textOf(root, 'configurationNamingContext', host)}`, {
    scope: 'one',
    filter: new AndFilter({
      filters: [
        new EqualityFilter({ attribute: 'objectClass', value: 'crossRef' }),
        new EqualityFilter({ attribute: 'nCName', value: searchBase }),
      ],
    }),
    attributes: ['nETBIOSName', 'dnsRoot'],
  })
  const [partition] = searchEntries
  return {
    sid: formatSid(bytesOf(entry, 'objectSid', host)),
    guid: formatGuid(bytesOf(entry, 'objectGUID', host)),
    dnsName: textOf(partition, 'dnsRoot', host),
    dnsTreeName: dnsNameOf(textOf(root, 'rootDomainNamingContext', host)),
    netBiosName: textOf(partition, 'nETBIOSName', host),
  }
}

async function readEntry(client: Client, dn: string, attributes: string[], asBytes: string[] = []) {
  const { searchEntries } = await client.search(dn, {
    scope: 'base',
    attributes,
    explicitBufferAttributes: asBytes,
  })
  return searchEntries[0]
}

function textOf(entry: Entry | undefined, attribute: string, host: string): string {
  const [value] = [entry?.[attribute] ?? []].flat()
  if (typeof value === 'string' && value !== '') return value
  throw missing(attribute, host)
}

function bytesOf(entry: Entry | undefined, attribute: string, host: string): Buffer {
  const [value] = [entry?.[attribute] ?? []].flat()
  if (Buffer.isBuffer(value)) return value
  throw missing(attribute, host)
}

function missing(attribute: string, host: string): GmsaError {
  return new GmsaError('STORE_UNAVAILABLE', `${host} does not give us ${attribute} of the domain`, {
    reason: 'protocol',
  })
}

/** `ad.test` of `DC=ad,DC=test`. */
function dnsNameOf(dn: string): string {
  return dn
    .split(',')
    .map((each) => each.replace(/^\s*DC=/i, '').toLowerCase())
    .join('.')
}

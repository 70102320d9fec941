import { Resolver } from 'node:dns/promises'
import { GmsaError } from '../../base/errors.ts'

/** One SRV record (RFC 2782). */
export interface ServerRecord {
  readonly name: string
  readonly priority: number
  readonly weight: number
}

/** Asks the DNS for SRV records; rejects with an error whose `code` is the DNS's. */
export type Resolve = (name: string) => Promise<readonly ServerRecord[]>

/** Two tries of a second and a half: a silent DNS server must leave time for the directory. */
const askDns: Resolve = (name) => new Resolver({ timeout: 1_500, tries: 2 }).resolveSrv(name)

/**
 * The names in the records in the order to try them (RFC 2782): the lowest priority first; within one, drawn by weight.
 * Records with the name `.` say that there is no such service. `random` gives numbers from 0 to below 1.
 */
export function orderRecords(records: readonly ServerRecord[], random: () => number): string[] {
  const left = records.filter(({ name }) => name !== '' && name !== '.').toSorted((a, b) => a.weight - b.weight)
  const order: string[] = []
  while (left.length > 0) {
    const priority = Math.min(...left.map((each) => each.priority))
    const peers = left.filter((each) => each.priority === priority)
    const record = drawByWeight(peers, random)
    if (!record) break
    left.splice(left.indexOf(record), 1)
    order.push(record.name)
  }
  return [...new Set(order)]
}

function isWithin(host: string, domain: string): boolean {
  return host.toLowerCase().replace(/\.$/, '').endsWith(`.${domain.toLowerCase()}`)
}

/** One of the records, those of weight 0 first: the first whose running sum reaches the number drawn. */
function drawByWeight(records: readonly ServerRecord[], random: () => number): ServerRecord | undefined {
  const total = records.reduce((sum, { weight }) => sum + weight, 0)
  if (total === 0) return records[Math.floor(random() * records.length)]
  let left = Math.floor(random() * (total + 1))
  return records.find(({ weight }) => {
    left -= weight
    return left <= 0
  })
}

/** The SRV records of `name`. Rejects with STORE_UNAVAILABLE, not-found. */
export async function resolveRecords(name: string, resolve: Resolve = askDns): Promise<readonly ServerRecord[]> {
  try {
    return await resolve(name)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new GmsaError('STORE_UNAVAILABLE', `no domain controller found: SRV ${name}: ${code}`, {
      cause: error,
      reason: 'not-found',
      hint: "check that this machine asks the domain's DNS servers, or list the controllers in `servers`",
    })
  }
}

export interface Discovery {
  readonly domain: string
  /** AD site, whose controllers come first. */
  readonly site?: string | undefined
  readonly random: () => number
  readonly resolve?: Resolve | undefined
}

/**
 * The controllers of a domain, best first ([MS-ADTS] 6.3.2.3): those of the site, then all. A site without controllers,
 * or one whose records can't be had, only costs the preference. Rejects with STORE_UNAVAILABLE where there is none.
 *
 * Answers of the DNS prove nothing: a host elsewhere may well have a certificate for its own name (RFC 6125 1.7.2), so
 * only names within the domain are taken.
 */
export async function discoverControllers({ domain, site, random, resolve }: Discovery): Promise<string[]> {
  const all = `_ldap._tcp.dc._msdcs.${domain}`
  const near = `_ldap._tcp.${site}._sites.dc._msdcs.${domain}`
  const [ofSite, ofDomain] = await Promise.allSettled([
    site === undefined ? [] : resolveRecords(near, resolve),
    resolveRecords(all, resolve),
  ])
  const records = [ofSite, ofDomain].map((each) => (each.status === 'fulfilled' ? each.value : []))
  const order = [...new Set(records.flatMap((each) => orderRecords(each, random)))]
  const trusted = order.filter((each) => isWithin(each, domain))
  if (trusted.length > 0) return trusted
  if (ofDomain.status === 'rejected') throw ofDomain.reason
  const named = order.length > 0 ? `names only hosts outside ${domain}` : 'has no target'
  throw new GmsaError('STORE_UNAVAILABLE', `no domain controller found: SRV ${all} ${named}`, {
    reason: 'not-found',
    hint: 'list the domain controllers in `servers`',
  })
}

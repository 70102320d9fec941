import { GmsaError } from '../../base/errors.ts'
import { askDns, orderRecords, type Resolve, type ServerRecord } from '../../base/srv.ts'

function isWithin(host: string, domain: string): boolean {
  return host.toLowerCase().replace(/\.$/, '').endsWith(`.${domain.toLowerCase()}`)
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
  const order = [...new Set(records.flatMap((each) => orderRecords(each, random).map(({ name }) => name)))]
  const trusted = order.filter((each) => isWithin(each, domain))
  if (trusted.length > 0) return trusted
  if (ofDomain.status === 'rejected') throw ofDomain.reason
  const named = order.length > 0 ? `names only hosts outside ${domain}` : 'has no target'
  throw new GmsaError('STORE_UNAVAILABLE', `no domain controller found: SRV ${all} ${named}`, {
    reason: 'not-found',
    hint: 'list the domain controllers in `servers`',
  })
}

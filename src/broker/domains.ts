import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import type { DomainFacts } from '../gmsa/credential-spec.ts'
import type { Provider } from '../providers/provider.ts'
import { type Cached, makeCache } from './cache.ts'
import { withDeadline } from './deadline.ts'

export interface DomainOptions {
  readonly clock: Clock
  /** How long one read may take, in ms. */
  readonly timeout: number
  /** Below this age in ms facts may stand in while the store is out. */
  readonly serveStale: number
}

/** SIDs and GUIDs never change, and names hardly: an hour, in ms. */
const MAX_AGE = 3_600_000

/** Reads what a provider's directory says of its domain, and keeps it. Rejects with KIND_NOT_OFFERED where it is none. */
export function makeDomainReader({ clock, timeout, serveStale }: DomainOptions) {
  const cache = makeCache<DomainFacts>({ clock, maxAge: MAX_AGE, serveStale })
  return async (provider: Provider): Promise<Cached<DomainFacts>> => {
    const { domain } = provider
    if (!domain) {
      throw new GmsaError(
        'KIND_NOT_OFFERED',
        `provider ${provider.name} is no directory: it knows nothing of the domain`,
      )
    }
    return cache.get(provider.name, true, () => withDeadline(domain, timeout, clock))
  }
}

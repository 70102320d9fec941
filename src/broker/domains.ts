import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import type { DomainFacts } from '../gmsa/credential-spec.ts'
import type { Provider } from '../providers/provider.ts'
import { type Cached, makeCache } from './cache.ts'
import type { StoreCalls } from './store-calls.ts'

export interface DomainOptions {
  readonly clock: Clock
  readonly calls: StoreCalls
  /** Below this age in ms facts may stand in while the store is out. */
  readonly serveStale: number
}

/** SIDs and GUIDs never change, and names hardly: an hour, in ms. */
const MAX_AGE = 3_600_000

/** Reads what a provider's directory says of its domain, and keeps it. Rejects with KIND_NOT_OFFERED where it is none. */
export function makeDomainReader({ clock, calls, serveStale }: DomainOptions) {
  const cache = makeCache<DomainFacts>({ clock, maxAge: MAX_AGE, serveStale })
  return async ({ name, domain }: Provider): Promise<Cached<DomainFacts>> => {
    if (!domain) {
      throw new GmsaError('KIND_NOT_OFFERED', `provider ${name} is no directory: it knows nothing of the domain`)
    }
    return cache.get(name, true, () => calls.make({ provider: name, record: `${name}\ndomain`, read: domain }))
  }
}

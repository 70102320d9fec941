import type { Clock } from '../base/clock.ts'
import { type GmsaError, toGmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Provider } from '../providers/provider.ts'
import { withDeadline } from './deadline.ts'

export interface ProviderHealth {
  readonly provider: string
  /** Undefined until the store was first asked. */
  readonly up: boolean | undefined
  readonly error: GmsaError | undefined
}

export interface HealthOptions {
  readonly providers: ReadonlyMap<string, Provider>
  readonly clock: Clock
  readonly log: Log
  /** How long one probe may take, in ms. */
  readonly timeout: number
  /** Time between probes, in ms. */
  readonly interval?: number
  readonly onChange?: (provider: string, up: boolean) => void
}

/** Which stores answer. Probes ask on an interval; what reads meet on the way counts as well. */
export interface Health extends Disposable {
  /** Whether any store has ever answered. */
  ready(): boolean
  all(): ProviderHealth[]
  /** What a read met: nothing or an answer such as "absent" means up; an error of the store means down. */
  note(provider: string, error?: GmsaError): void
  /** Asks every store once, now. Resolves when all have answered or failed. */
  probeAll(): Promise<void>
}

/** The errors that speak of the store itself; all others are answers of a store that works. */
const STORE_ERRORS: ReadonlySet<string> = new Set(['STORE_DENIED', 'STORE_UNAVAILABLE', 'STORE_TIMEOUT', 'INTERNAL'])

/** Starts probing at once and every `interval` from then on. */
export function watchHealth(options: HealthOptions): Health {
  const { providers, clock, log, timeout, interval = 15_000, onChange = () => {} } = options
  const states = new Map([...providers.keys()].map((provider) => [provider, unknown(provider)]))
  let everUp = false

  function note(provider: string, error?: GmsaError): void {
    const up = !error || !STORE_ERRORS.has(error.code)
    const before = states.get(provider)
    states.set(provider, { provider, up, error: up ? undefined : error })
    everUp ||= up
    if (before?.up === up) return
    onChange(provider, up)
    if (!up) log.warn({ provider, code: error?.code, reason: error?.reason, problem: error?.message }, 'store is out')
    else if (before?.up === false) log.info({ provider }, 'store answers again')
  }

  async function probe(name: string, provider: Provider): Promise<void> {
    try {
      await withDeadline((signal) => provider.probe(signal), timeout, clock)
      note(name)
    } catch (thrown) {
      note(name, toGmsaError(thrown))
    }
  }

  async function probeAll(): Promise<void> {
    await Promise.all([...providers].map(([name, provider]) => probe(name, provider)))
  }

  const timer = clock.every(interval, () => void probeAll())
  return {
    ready: () => everUp,
    all: () => [...states.values()],
    note,
    probeAll,
    [Symbol.dispose]: () => timer[Symbol.dispose](),
  }
}

function unknown(provider: string): ProviderHealth {
  return { provider, up: undefined, error: undefined }
}

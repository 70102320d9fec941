import type { Clock } from '../base/clock.ts'
import { type GmsaError, isOutage, toGmsaError } from '../base/errors.ts'
import { faultBehind } from '../base/fault.ts'
import type { Log } from '../base/log.ts'
import type { Provider } from '../providers/provider.ts'
import { FIRST_REST, LONGEST_REST } from './circuit.ts'
import { withDeadline } from './deadline.ts'
import { waitWanted } from './retry.ts'

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
  /** A probe was answered, be it by a refusal. */
  readonly onAnswer?: (provider: string) => void
}

/** Which stores answer. Probes ask on an interval; what reads meet on the way counts as well. */
export interface Health extends Disposable {
  /** Whether any store has ever answered. */
  ready(): boolean
  all(): ProviderHealth[]
  /**
   * What a read met: nothing or an answer such as "absent" means up, no answer means down. A refusal says nothing: it
   * may be about that one record. Whether the store refuses us altogether is for the probe to find out.
   */
  note(provider: string, error?: GmsaError): void
  /** The store is left alone until then, by the monotonic clock in ms: the next probe comes when that is over. */
  rests(provider: string, until: number): void
  /** Asks every store once, now; one that is being asked already is waited for. Never rejects. */
  probeAll(): Promise<void>
}

/** An answer, or a fault of ours, that leaves open whether the store works for other records. */
const ABOUT_ONE_RECORD: ReadonlySet<string> = new Set(['STORE_DENIED', 'KIND_NOT_OFFERED', 'INTERNAL'])
/** A store that answers every other call changes its state at each: the log has one line in this many ms. */
const QUIET = 5_000

interface State {
  health: ProviderHealth
  logged: { up: boolean | undefined; at: number }
  probe: Promise<void> | undefined
  nextProbe: number
  retry: number
}

/** Probes every store each `interval`, and sooner while it is out. The first round is the caller's: `probeAll`. */
export function watchHealth(options: HealthOptions): Health {
  const { providers, clock, timeout, interval = 15_000, onChange = () => {}, onAnswer = () => {} } = options
  const first = Math.min(FIRST_REST, interval)
  const begin = clock.monotonic() + interval
  const states = new Map([...providers.keys()].map((provider) => [provider, newState(provider, begin, first)]))
  let everUp = false

  function set(provider: string, error: GmsaError | undefined): void {
    const state = states.get(provider)
    if (!state) return
    const before = state.health.up
    const up = error === undefined
    state.health = { provider, up, error }
    everUp ||= up
    if (before !== false && !up) state.nextProbe = Math.min(state.nextProbe, clock.monotonic() + state.retry)
    if (before !== up) onChange(provider, up)
    report(state, options)
  }

  function note(provider: string, error?: GmsaError): void {
    if (error && ABOUT_ONE_RECORD.has(error.code)) return
    set(provider, error && isOutage(error) ? error : undefined)
  }

  function rests(provider: string, until: number): void {
    const state = states.get(provider)
    if (state) state.nextProbe = until
  }

  async function probe(name: string, provider: Provider, state: State): Promise<void> {
    try {
      await withDeadline((signal) => provider.probe(signal), timeout, clock)
      set(name, undefined)
      onAnswer(name)
      state.retry = first
      state.nextProbe = clock.monotonic() + interval
    } catch (thrown) {
      const error = toGmsaError(thrown)
      set(name, error)
      if (!isOutage(error) && error.code !== 'INTERNAL') onAnswer(name)
      state.nextProbe = clock.monotonic() + Math.max(state.retry, waitWanted(error))
      // A store that gives no answer is probed at the pace of its circuit; one that refuses us is not, in vain, so often.
      state.retry = Math.min(state.retry * 2, isOutage(error) ? LONGEST_REST : interval)
    }
  }

  /** Asks the stores whose time has come, each once at a time: a probe may take longer than the interval. */
  async function probeDue(now: number): Promise<void> {
    const running: Promise<void>[] = []
    for (const [name, provider] of providers) {
      const state = states.get(name)
      if (!state || (state.nextProbe > now && !state.probe)) continue
      state.probe ??= probe(name, provider, state).finally(() => {
        state.probe = undefined
      })
      running.push(state.probe)
    }
    await Promise.all(running)
  }

  const timer = clock.every(first, () => void probeDue(clock.monotonic()))
  return {
    ready: () => everUp,
    all: () => [...states.values()].map(({ health }) => health),
    note,
    rests,
    probeAll: () => probeDue(Number.POSITIVE_INFINITY),
    [Symbol.dispose]: () => timer[Symbol.dispose](),
  }
}

/** Tells the log: the first change at once; then what it has come to, when it was quiet long enough. */
function report({ health: { provider, up, error }, logged }: State, { clock, log }: HealthOptions): void {
  const now = clock.monotonic()
  if (up === logged.up || now - logged.at < QUIET) return
  if (!up) {
    const problem = { code: error?.code, reason: error?.reason, problem: error?.message, ...faultBehind(error) }
    log.warn({ provider, ...problem }, 'store is out')
  } else if (logged.up === false) log.info({ provider }, 'store answers again')
  const silent = up && logged.up === undefined
  logged.up = up
  if (!silent) logged.at = now
}

function newState(provider: string, nextProbe: number, retry: number): State {
  return {
    health: { provider, up: undefined, error: undefined },
    logged: { up: undefined, at: Number.NEGATIVE_INFINITY },
    probe: undefined,
    nextProbe,
    retry,
  }
}

import type { Clock } from '../../base/clock.ts'
import { GmsaError, isOutage } from '../../base/errors.ts'
import { inTime } from '../../base/time-limit.ts'
import { directoryError, silentServer } from './causes.ts'

/** What is known of a server: nothing, or that it failed and when it may be asked again. */
export interface ServerState {
  /** In a row. */
  readonly failures: number
  /** Monotonic ms of the last one. */
  readonly failedAt: number
  /** Monotonic ms. */
  readonly retryAt: number
}

const FIRST_BACKOFF = 1_000
const MAX_BACKOFF = 30_000
/** How much shorter than the full time a back-off may be, so that many replicas do not come back at once. */
const JITTER = 0.2
/** A read's time is divided among no more servers than this: the fourth is asked only where others refuse at once. */
const SHARES = 3

/** A server that did not answer for this many ms when the caller gave up is taken for silent. */
const SILENCE = 500

/** How long in ms a server is left alone after this many failures in a row; `random` gives 0 to below 1. */
export function backoff(failures: number, random: () => number): number {
  const full = Math.min(FIRST_BACKOFF * 2 ** (failures - 1), MAX_BACKOFF)
  return Math.round(full * (1 - JITTER * random()))
}

/**
 * The order in which to ask: the server that answered last, then those that did not fail as listed, then the others,
 * whose back-off ends soonest first. None is left out: an answer is due now.
 */
export function orderServers(
  servers: readonly string[],
  states: ReadonlyMap<string, ServerState>,
  preferred: string | undefined,
  now: number,
): string[] {
  const waiting = (server: string) => Math.max(0, (states.get(server)?.retryAt ?? 0) - now)
  const ready = servers.filter((each) => waiting(each) === 0)
  const first = ready.filter((each) => each === preferred)
  const others = ready.filter((each) => each !== preferred)
  const failed = servers.filter((each) => waiting(each) > 0).toSorted((a, b) => waiting(a) - waiting(b))
  return [...first, ...others, ...failed]
}

/** How much of the time `left` in ms the next of so many servers may take. */
export function budget(left: number, servers: number): number {
  return left / Math.min(Math.max(servers, 1), SHARES)
}

/** The answer of a server, the refusal of one, or no answer. */
export type Outcome = 'ok' | 'refused' | 'failed'

export interface FailoverOptions {
  readonly clock: Clock
  readonly random: () => number
  /** For one answer, all servers together, in ms. */
  readonly timeout: number
  /** The servers, best first. */
  servers(): Promise<readonly string[]>
  /** Errors that no other server would mend although they look like an outage. */
  isOurs(error: GmsaError): boolean
  /** `failures`: how many in a row by now. */
  onFailure(server: string, error: GmsaError, failures: number): void
  onRecovery?(server: string): void
}

export interface Ask {
  readonly signal: AbortSignal
  /** Hears what came of each server asked. */
  onOutcome?(server: string, outcome: Outcome): void
}

export interface Failover {
  /**
   * Runs `attempt` against one server after the other until one answers. A refusal is an answer: it ends the round, so
   * that a wrong password counts once toward a lock-out and not once a server. Rejects with the signal's reason, with
   * the refusal, or with STORE_UNAVAILABLE that names each server and what became of it.
   */
  run<T>(attempt: (server: string) => Promise<T>, ask: Ask): Promise<T>
}

export function failover(options: FailoverOptions): Failover {
  const { clock, random, timeout, isOurs } = options
  const states = new Map<string, ServerState>()
  let preferred: string | undefined

  function fail(server: string, error: GmsaError, began: number): void {
    const before = states.get(server)
    // Reads that were under way together meet one failure, not many.
    if (before && began <= before.failedAt) return
    const failures = (before?.failures ?? 0) + 1
    const failedAt = clock.monotonic()
    states.set(server, { failures, failedAt, retryAt: failedAt + backoff(failures, random) })
    options.onFailure(server, error, failures)
  }

  function answered(server: string): void {
    if (states.delete(server)) options.onRecovery?.(server)
    preferred = server
  }

  /** One server's part of a round: its answer, or why there is none. Throws what ends the round. */
  async function askOne<T>(server: string, time: number, attempt: (server: string) => Promise<T>, ask: Ask) {
    const began = clock.monotonic()
    try {
      const answer = await inTime({ clock, limit: time, late: () => silentServer(server), signal: ask.signal }, () =>
        attempt(server),
      )
      answered(server)
      ask.onOutcome?.(server, 'ok')
      return { answer }
    } catch (thrown) {
      if (ask.signal.aborted) {
        // The caller's time was shorter than ours, and this server had enough of it.
        if (isTimeout(ask.signal.reason) && clock.monotonic() - began >= SILENCE) {
          ask.onOutcome?.(server, 'failed')
          fail(server, silentServer(server), began)
        }
        throw ask.signal.reason
      }
      const error = directoryError(thrown, server)
      if (isOurs(error)) throw error
      const outage = isOutage(error)
      ask.onOutcome?.(server, outage ? 'failed' : error.code === 'STORE_DENIED' ? 'refused' : 'ok')
      if (outage) {
        fail(server, error, began)
        return { error }
      }
      answered(server)
      throw error
    }
  }

  return {
    async run(attempt, ask) {
      ask.signal.throwIfAborted()
      const deadline = clock.monotonic() + timeout
      const late = () => new GmsaError('STORE_UNAVAILABLE', 'the DNS does not answer', { reason: 'hang' })
      const servers = await inTime({ clock, limit: timeout, late, signal: ask.signal }, () => options.servers())
      const order = orderServers(servers, states, preferred, clock.monotonic())
      const errors: GmsaError[] = []
      for (const [index, server] of order.entries()) {
        const left = deadline - clock.monotonic()
        if (left <= 0) break
        const result = await askOne(server, budget(left, order.length - index), attempt, ask)
        if ('answer' in result) return result.answer
        errors.push(result.error)
      }
      throw allFailed(errors)
    },
  }
}

function isTimeout(reason: unknown): boolean {
  if (reason instanceof GmsaError) return reason.code === 'STORE_TIMEOUT'
  return reason instanceof DOMException && reason.name === 'TimeoutError'
}

function allFailed(errors: readonly GmsaError[]): GmsaError {
  const [first] = errors
  if (!first) return new GmsaError('STORE_UNAVAILABLE', 'no domain controller to ask', { reason: 'not-found' })
  if (errors.length === 1) return first
  const messages = errors.map(({ message }) => message).join('; ')
  return new GmsaError('STORE_UNAVAILABLE', `no domain controller answers: ${messages}`, {
    cause: first,
    ...(first.reason === undefined ? {} : { reason: first.reason }),
    ...(first.hint === undefined ? {} : { hint: first.hint }),
  })
}

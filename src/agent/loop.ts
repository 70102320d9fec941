import type { Clock } from '../base/clock.ts'
import { type GmsaError, toGmsaError } from '../base/errors.ts'

/** Work that is done again and again. */
export interface Task {
  /**
   * Does it once; gives in how many ms it is due again. The signal ends it early; `bidden`: by a call to wake(), so
   * that somebody waits for it. Rejects with a GmsaError.
   */
  round(signal: AbortSignal, bidden: boolean): Promise<number>
  /** Told of each round that failed, and in how many ms the next one begins. */
  failed(error: GmsaError, retryIn: number): void
}

export interface LoopOptions {
  readonly clock: Clock
  /** From 0 to below 1. */
  readonly random: () => number
}

export interface Loop {
  /** Does it now: ends a pause, and whatever a round is waiting for. */
  wake(): void
  /** Resolves once the round under way has ended. */
  stop(): Promise<void>
}

const FIRST_RETRY = 2_000
/** Not longer, for the next keys are needed within five minutes. */
const LAST_RETRY = 60_000
/** Between two rounds, whatever they say: a service that answers at once is not asked in a tight loop. */
const SHORTEST = 1_000

/** Runs the task until it is stopped. After a failure it tries again, after twice as long each time. */
export function runLoop(task: Task, { clock, random }: LoopOptions): Loop {
  let current = new AbortController()
  let stopped = false
  let failures = 0
  let bidden = false

  /** Gives how long to pause. */
  async function once(): Promise<number> {
    const { signal } = current
    try {
      const due = await task.round(signal, bidden)
      failures = 0
      return Math.max(due, SHORTEST)
    } catch (thrown) {
      if (signal.aborted) return 0
      const error = toGmsaError(thrown)
      const wait = retryDelay(failures, random(), error.retryAfter)
      failures += 1
      task.failed(error, wait)
      return wait
    }
  }

  async function run(): Promise<void> {
    while (!stopped) {
      const pause = await once()
      if (!stopped && !current.signal.aborted) await sleep(clock, pause, current.signal)
      bidden = current.signal.aborted
      if (bidden) current = new AbortController()
    }
  }

  const ended = run()
  return {
    wake: () => current.abort(),
    async stop() {
      stopped = true
      current.abort()
      await ended
    },
  }
}

/** In ms, after so many failures before: doubled each time, by up to half less so that many don't ask at once. */
export function retryDelay(failures: number, random: number, retryAfter = 0): number {
  const wait = Math.min(FIRST_RETRY * 2 ** Math.min(failures, 30), LAST_RETRY) * (1 - random / 2)
  return Math.max(wait, Math.min(retryAfter * 1000, LAST_RETRY))
}

/** Ends after `ms`, or as soon as the signal is given. */
export async function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const end = () => resolve()
  if (signal.aborted) return
  signal.addEventListener('abort', end, { once: true })
  using _timer = clock.after(ms, end)
  await promise
  signal.removeEventListener('abort', end)
}

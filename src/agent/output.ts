import { type GmsaError, toGmsaError } from '../base/errors.ts'
import type { OutputConfig, OutputKind } from './config.ts'
import { Hook, type HookOptions } from './hook.ts'
import { type Loop, runLoop } from './loop.ts'

/** What is known of one file that the agent keeps. Nothing of it is secret. Times are in ms since 1970. */
export interface OutputState extends Partial<Known> {
  readonly account: string
  readonly kind: OutputKind
  readonly file: string
  /** When the file was last known to be right. */
  readonly lastSuccess?: number
  /** What the last attempt failed for. */
  readonly problem?: Problem
  /** Whether a change is still to be told. */
  readonly hookPending?: boolean
}

/** What a round finds out. */
export interface Known {
  /** Of the key in force. */
  readonly kvno: number
  /** Keys, or tickets, in the file. */
  readonly entries: number
  /** The address that answered last. */
  readonly server?: string
  /** When the file may have to change next. */
  readonly refreshAt?: number
  /** When what is in the file ends, where it does. */
  readonly validUntil?: number
  /** Seconds since the store said so, where it is out and the service goes by what it said. */
  readonly stale?: number
}

export interface Problem {
  readonly code: string
  readonly message: string
  readonly hint?: string
}

export interface RoundOptions {
  /** Ends it early. */
  readonly signal: AbortSignal
  /** Somebody waits for it. */
  readonly bidden: boolean
  /** There will be no other round. */
  readonly once: boolean
  /** Called with the file's place before it gets other bytes. */
  readonly onReplacing: (path: string) => Promise<void>
}

/** What a round came to. */
export interface Round {
  /** Where the file stands, and whether it has other bytes now. */
  readonly path: string
  readonly changed: boolean
  readonly known: Known
  /** In how many ms the next one is due. */
  readonly pause: number
}

/** How one kind of file is kept. */
export interface Work {
  /** Makes sure the file can be written. Rejects with CONFIG_INVALID. */
  open(): Promise<unknown>
  /** Brings the file up to date. Rejects with a GmsaError, or with the signal's reason; the file stays then. */
  round(options: RoundOptions): Promise<Round>
}

export interface OutputOptions extends Pick<HookOptions, 'clock' | 'random' | 'log'> {
  readonly config: OutputConfig
  readonly work: Work
  readonly onHookRun: (account: string, outcome: 'ok' | 'failed') => void
  /** Told after each round. */
  readonly onRound: () => void
}

/** One file that is kept fresh, and those who have to know of its changes. */
export class Output {
  readonly config: OutputConfig
  readonly #options: OutputOptions
  readonly #hook: Hook | undefined
  #state: OutputState
  #loop: Loop | undefined

  constructor(options: OutputOptions) {
    const { config, onHookRun } = options
    const { name: account, kind, file, onChange: hook } = config
    this.config = config
    this.#options = options
    this.#state = { account, kind, file }
    this.#hook = hook && new Hook({ ...options, output: config, hook, onRun: (outcome) => onHookRun(account, outcome) })
  }

  state(): OutputState {
    return { ...this.#state, ...(this.#hook && { hookPending: this.#hook.pending }) }
  }

  /** Makes sure the file can be written. Rejects with CONFIG_INVALID. */
  async open(): Promise<void> {
    await this.#options.work.open()
  }

  /** Brings the file up to date once, and tells who has to know. Rejects with a GmsaError. */
  async once(): Promise<void> {
    try {
      const { path, changed, known } = await this.#refresh({
        signal: new AbortController().signal,
        bidden: true,
        once: true,
      })
      if (await this.#isUntold(changed, path)) await this.#hook?.tellOnce({ path, kvno: known.kvno })
    } catch (thrown) {
      const error = toGmsaError(thrown)
      this.#state = { ...this.#state, problem: problemOf(error) }
      throw error
    }
  }

  /** Keeps it up to date from now on. */
  start(): void {
    const round = (signal: AbortSignal, bidden: boolean) => this.#round(signal, bidden)
    this.#loop = runLoop({ round, failed: (error, retryIn) => this.#failed(error, retryIn) }, this.#options)
  }

  /** Does it now. */
  wake(): void {
    this.#loop?.wake()
  }

  async stop(): Promise<void> {
    await this.#loop?.stop()
    await this.#hook?.stop()
  }

  async #round(signal: AbortSignal, bidden: boolean): Promise<number> {
    const { path, changed, known, pause } = await this.#refresh({ signal, bidden, once: false })
    if (await this.#isUntold(changed, path)) this.#hook?.tell({ path, kvno: known.kvno })
    this.#options.onRound()
    return pause
  }

  async #refresh(options: Omit<RoundOptions, 'onReplacing'>): Promise<Round> {
    const { work, clock, log } = this.#options
    const { name: account, kind, file } = this.config
    const round = await work.round({ ...options, onReplacing: async (path) => this.#hook?.announce(path) })
    const { changed, known } = round
    const { kvno, entries, server } = known
    if (changed) log.info({ account, kind, file, kvno, entries, server }, 'file written')
    else if (this.#state.problem) log.info({ account, kind, file, server }, 'up to date again')
    this.#state = { account, kind, file, lastSuccess: clock.now(), ...known }
    return round
  }

  /** Whether the hook is to run: for this change, or for one that a process before this one did not live to tell. */
  async #isUntold(changed: boolean, path: string): Promise<boolean> {
    if (!this.#hook || this.#hook.pending) return changed
    return changed || (await this.#hook.isAnnounced(path))
  }

  #failed(error: GmsaError, retryIn: number): void {
    const { log, onRound } = this.#options
    const { name: account, kind, file } = this.config
    const { code, message, hint } = error
    // A failure that goes on is told once.
    const level = this.#state.problem?.message === message ? 'debug' : 'warn'
    const about = { account, kind, file, code, problem: message, ...(hint && { hint }) }
    log[level]({ ...about, retryInMs: Math.round(retryIn) }, 'not up to date; the file stays as it is')
    this.#state = { ...this.#state, problem: problemOf(error) }
    onRound()
  }
}

function problemOf({ code, message, hint }: GmsaError): Problem {
  return { code, message, ...(hint && { hint }) }
}

/** Why the file can't be relied on at `now`; undefined where it can. `grace` in ms. */
export function unreadiness(state: OutputState, now: number, grace: number): string | undefined {
  const { lastSuccess, refreshAt, validUntil, problem } = state
  const why = problem ? ` (${problem.code}: ${problem.message})` : ''
  if (lastSuccess === undefined) return `not up to date since the start${why}`
  if (validUntil !== undefined) {
    return now < validUntil ? undefined : `the ticket ended ${new Date(validUntil).toISOString()}${why}`
  }
  if (refreshAt === undefined || now < refreshAt + grace) return undefined
  return `new keys were due ${new Date(refreshAt).toISOString()}${why}`
}

import { type GmsaError, toGmsaError } from '../base/errors.ts'
import type { Holds } from './holds.ts'
import { Hook } from './hook.ts'
import { type KeeperContext, type KeytabConfig, KeytabKeeper, type Refreshed } from './keytab-keeper.ts'
import { type Loop, runLoop, sleep } from './loop.ts'
import { type Output, type OutputState, problemOf } from './output.ts'
import type { KeytabReply } from './service-client.ts'

/** What the outputs of one agent share. */
export interface OutputContext extends KeeperContext {
  readonly holds: Holds
  /** In ms; as in AgentConfig. */
  readonly wait: number
  readonly checkInterval: number
  /** From 0 to below 1. */
  readonly random: () => number
  readonly onHookRun: (account: string, outcome: 'ok' | 'failed') => void
  /** Told after each round. */
  readonly onRound: () => void
}

/** At least so long between two questions, in ms. */
const SHORTEST_PAUSE = 5_000
/** By up to so much later than the service says, in ms, so that not all ask at once. */
const JITTER = 10_000
/** A request is held until so long after the keys are due, in ms: it is answered as soon as they are there. */
const PAST_DUE = 5_000
/** How long a run that ends with it waits before it asks again whether an older key is meant, in ms. */
const CONFIRM_ONCE_AFTER = 2_000

/** Keeps one keytab file, and tells who has to know of its changes. */
export class KeytabOutput implements Output {
  readonly config: KeytabConfig
  readonly #context: OutputContext
  readonly #keeper: KeytabKeeper
  readonly #hook: Hook | undefined
  #state: OutputState
  #loop: Loop | undefined

  constructor(config: KeytabConfig, context: OutputContext) {
    const { name, kind, file, onChange: hook } = config
    this.config = config
    this.#context = context
    this.#keeper = new KeytabKeeper(config, context)
    this.#state = { account: name, kind, file }
    const onRun = (outcome: 'ok' | 'failed') => context.onHookRun(name, outcome)
    this.#hook = hook && new Hook({ ...context, output: config, hook, onRun })
  }

  state(): OutputState {
    return { ...this.#state, ...(this.#hook && { hookPending: this.#hook.pending }) }
  }

  async open(): Promise<void> {
    await this.#keeper.open()
  }

  async once(): Promise<void> {
    try {
      const refreshed = await this.#refresh({}).catch(async (thrown) => {
        if (!this.#keeper.isBehind) throw thrown
        await sleep(this.#context.clock, CONFIRM_ONCE_AFTER, new AbortController().signal)
        return this.#refresh({ confirmAfter: CONFIRM_ONCE_AFTER })
      })
      if (await this.#isUntold(refreshed)) await this.#hook?.tellOnce(refreshed)
    } catch (thrown) {
      const error = toGmsaError(thrown)
      this.#state = { ...this.#state, problem: problemOf(error) }
      throw error
    }
  }

  start(): void {
    const round = (signal: AbortSignal, bidden: boolean) => this.#round(signal, bidden)
    this.#loop = runLoop({ round, failed: (error, retryIn) => this.#failed(error, retryIn) }, this.#context)
  }

  wake(): void {
    this.#loop?.wake()
  }

  async stop(): Promise<void> {
    await this.#loop?.stop()
    await this.#hook?.stop()
  }

  /** Gives in how many ms to come back. */
  async #round(signal: AbortSignal, bidden: boolean): Promise<number> {
    const { holds, wait, onRound } = this.#context
    using place = this.#keeper.hasAnswer && wait > 0 && !bidden ? holds.take() : undefined
    const refreshed = await this.#refresh({ signal, wait: place ? this.#holdFor() : 0 }).catch((thrown) => {
      // Others with our certificate have all the places that the service gives one client: go by the clock.
      if (place && toGmsaError(thrown).code === 'RATE_LIMITED') return this.#refresh({ signal })
      throw thrown
    })
    if (await this.#isUntold(refreshed)) this.#hook?.tell(refreshed)
    onRound()
    const { reply } = refreshed
    const nextIsHeld = place ? reply.held : wait > 0 && holds.free > 0
    return nextIsHeld ? 0 : this.#pauseAfter(reply)
  }

  async #refresh(options: Parameters<KeytabKeeper['refresh']>[0]): Promise<Refreshed> {
    const { log, clock } = this.#context
    const { name: account, kind, file } = this.config
    const onReplacing = async (path: string) => this.#hook?.announce(path)
    const refreshed = await this.#keeper.refresh({ ...options, onReplacing })
    const { reply, changed, kvno, entries } = refreshed
    const { server, refreshAt, stale } = reply
    if (changed) log.info({ account, kind, file, kvno, entries, server }, 'keytab written')
    else if (this.#state.problem) log.info({ account, kind, file, server }, 'up to date again')
    this.#state = {
      account,
      kind,
      file,
      lastSuccess: clock.now(),
      kvno,
      entries,
      server,
      ...(refreshAt !== undefined && { refreshAt }),
      ...(stale !== undefined && { stale }),
    }
    return refreshed
  }

  /** Whether the hook is to run: for this change, or for one that a process before this one did not live to tell. */
  async #isUntold({ changed, path }: Refreshed): Promise<boolean> {
    if (!this.#hook || this.#hook.pending) return changed
    return changed || (await this.#hook.isAnnounced(path))
  }

  /** For how many seconds the next question may be held. */
  #holdFor(): number {
    const { clock, wait } = this.#context
    const untilDue = (this.#state.refreshAt ?? Number.POSITIVE_INFINITY) - clock.now() + PAST_DUE
    return Math.ceil(Math.min(wait, Math.max(untilDue, SHORTEST_PAUSE)) / 1000)
  }

  #pauseAfter({ refreshAt = Number.POSITIVE_INFINITY }: KeytabReply): number {
    const { clock, random, checkInterval } = this.#context
    const untilDue = refreshAt - clock.now() + random() * JITTER
    return Math.max(SHORTEST_PAUSE, Math.min(untilDue, checkInterval))
  }

  #failed(error: GmsaError, retryIn: number): void {
    const { log, onRound } = this.#context
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

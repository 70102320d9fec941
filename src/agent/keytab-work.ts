import { toGmsaError } from '../base/errors.ts'
import type { KeytabConfig } from './config.ts'
import type { Holds } from './holds.ts'
import { type KeeperContext, KeytabKeeper, type Refreshed, type RefreshOptions } from './keytab-keeper.ts'
import { sleep } from './loop.ts'
import type { Round, RoundOptions, Work } from './output.ts'

/** What all keytabs of an agent share. */
export interface KeytabContext extends KeeperContext {
  readonly holds: Holds
  /** In ms; as in AgentConfig. */
  readonly wait: number
  readonly checkInterval: number
  /** From 0 to below 1. */
  readonly random: () => number
}

/** At least so long between two questions, in ms. */
const SHORTEST_PAUSE = 5_000
/** By up to so much later than the service says, in ms, so that not all ask at once. */
const JITTER = 10_000
/** A request is held until so long after the keys are due, in ms: it is answered as soon as they are there. */
const PAST_DUE = 5_000
/** How long a run that ends with it waits before it asks again whether an older key is meant, in ms. */
const CONFIRM_ONCE_AFTER = 2_000

/** Keeps a keytab: has its questions held where there is a place for it, and else asks when new keys are due. */
export class KeytabWork implements Work {
  readonly #context: KeytabContext
  readonly #keeper: KeytabKeeper
  #refreshAt = Number.POSITIVE_INFINITY

  constructor(config: KeytabConfig, context: KeytabContext) {
    this.#context = context
    this.#keeper = new KeytabKeeper(config, context)
  }

  async open(): Promise<unknown> {
    return this.#keeper.open()
  }

  async round({ signal, bidden, once, onReplacing }: RoundOptions): Promise<Round> {
    const { holds, wait } = this.#context
    using place = this.#keeper.hasAnswer && wait > 0 && !bidden ? holds.take() : undefined
    const shared = { signal, onReplacing }
    const refreshed = await this.#keeper.refresh({ ...shared, wait: place ? this.#holdFor() : 0 }).catch((thrown) => {
      // Others with our certificate have all the places that the service gives one client: go by the clock.
      if (place && toGmsaError(thrown).code === 'RATE_LIMITED') return this.#keeper.refresh(shared)
      if (once && this.#keeper.isBehind) return this.#confirm(shared)
      throw thrown
    })
    const { reply, path, changed, kvno, entries } = refreshed
    const { server, refreshAt, stale, held } = reply
    this.#refreshAt = refreshAt ?? Number.POSITIVE_INFINITY
    const nextIsHeld = place ? held : wait > 0 && holds.free > 0
    return {
      path,
      changed,
      pause: nextIsHeld ? 0 : this.#untilDue(),
      known: {
        kvno,
        entries,
        server,
        ...(refreshAt !== undefined && { refreshAt }),
        ...(stale !== undefined && { stale }),
      },
    }
  }

  async #confirm(options: RefreshOptions): Promise<Refreshed> {
    await sleep(this.#context.clock, CONFIRM_ONCE_AFTER, new AbortController().signal)
    return this.#keeper.refresh({ ...options, confirmAfter: CONFIRM_ONCE_AFTER })
  }

  /** For how many seconds the next question may be held. */
  #holdFor(): number {
    const { clock, wait } = this.#context
    const longest = Math.max(this.#refreshAt - clock.now() + PAST_DUE, SHORTEST_PAUSE)
    return Math.ceil(Math.min(wait, longest) / 1000)
  }

  #untilDue(): number {
    const { clock, random, checkInterval } = this.#context
    const untilDue = this.#refreshAt - clock.now() + random() * JITTER
    return Math.max(SHORTEST_PAUSE, Math.min(untilDue, checkInterval))
  }
}

import type { Clock } from '../base/clock.ts'
import { GmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { type KeytabEntry, parseKeytab } from '../kerberos/keytab.ts'
import type { KeytabConfig } from './config.ts'
import type { KeytabFiles } from './keytab-files.ts'
import { type Merged, mergeKeytab } from './merge.ts'
import type { KeytabReply, ServiceClient } from './service-client.ts'
import { openConfigured, type Target } from './target.ts'

export interface KeeperContext {
  readonly client: ServiceClient
  readonly files: KeytabFiles
  readonly clock: Clock
  readonly log: Log
}

export interface RefreshOptions {
  readonly signal?: AbortSignal
  /** Seconds the service may hold the question as long as there is nothing new. */
  readonly wait?: number
  /** An initiator's key of a lower version than the file's is believed when so much later, in ms, it still is the answer. */
  readonly confirmAfter?: number
  /** Called with the file's place before it gets other bytes. */
  readonly onReplacing?: (path: string) => Promise<void>
}

/** What a question came to. */
export interface Refreshed {
  readonly reply: KeytabReply
  /** Where the file stands, and whether it has other bytes now. */
  readonly path: string
  readonly changed: boolean
  /** Of the key in force. */
  readonly kvno: number
  /** How many keys the file holds, those of others included. */
  readonly entries: number
}

const CONFIRM_AFTER = 30_000

/** Asks the service for one keytab, and brings its file up to date. */
export class KeytabKeeper {
  readonly #config: KeytabConfig
  readonly #context: KeeperContext
  #target: Target | undefined
  /** The keys that the service gave last, and the tag it gave them. */
  #answer: { readonly entries: readonly KeytabEntry[]; readonly etag: string | undefined } | undefined
  /** Since when, by the monotonic clock, its answers are older than the file. */
  #behindSince: number | undefined

  constructor(config: KeytabConfig, context: KeeperContext) {
    this.#config = config
    this.#context = context
  }

  /** Whether there is an answer to which the next can be compared. */
  get hasAnswer(): boolean {
    return this.#answer !== undefined && !this.isBehind
  }

  /** Whether the last answer was older than the file. */
  get isBehind(): boolean {
    return this.#behindSince !== undefined
  }

  /** Makes sure that the file can be written. Rejects with CONFIG_INVALID. */
  async open(): Promise<Target> {
    this.#target ??= await openConfigured(this.#config)
    return this.#target
  }

  /**
   * Asks, and brings the file up to date; without anything new as well, for somebody may have changed the file.
   * Rejects with a GmsaError, or with the signal's reason; the file stays as it is then.
   */
  async refresh({ signal, wait = 0, confirmAfter = CONFIRM_AFTER, onReplacing }: RefreshOptions): Promise<Refreshed> {
    const target = await this.open()
    const { account, kind: use, principals } = this.#config
    const etag = this.hasAnswer ? this.#answer?.etag : undefined
    const reply = await this.#context.client.keytab({ account, use, principals, etag, wait, ...(signal && { signal }) })
    if (reply.bytes) this.#answer = { entries: parseAnswer(reply.bytes, account), etag: reply.etag }
    if (!this.#answer)
      throw new GmsaError('STORE_UNAVAILABLE', `${account}: the service answers 304 to a first question`)
    const fresh = this.#answer.entries
    const now = this.#context.clock.now()
    const path = await target.locate()
    const merge = (existing: readonly KeytabEntry[]) => this.#merge(existing, fresh, { now, reply, confirmAfter })
    const result = await this.#context.files.update(target, {
      by: `${this.#config.name} ${use}`,
      fresh,
      merge,
      onReplacing: async () => onReplacing?.(path),
    })
    return { reply, path, changed: result.changed, kvno: kvnoInForce(fresh, now), entries: result.entries.length }
  }

  #merge(
    existing: readonly KeytabEntry[],
    fresh: readonly KeytabEntry[],
    { now, reply, confirmAfter }: { now: number; reply: KeytabReply; confirmAfter: number },
  ): Merged['entries'] {
    const { kind: use, keepPrevious, name } = this.#config
    const time = this.#context.clock.monotonic()
    const patience = use === 'initiator' ? confirmAfter : keepPrevious
    // What the service says while its own store is out confirms nothing.
    const confirmed = reply.stale === undefined && time - (this.#behindSince ?? time) >= patience
    const takeBack = this.isBehind && confirmed
    const { entries, behind } = mergeKeytab({ existing, fresh, use, now, keepPrevious, takeBack })
    if (!behind || takeBack) this.#behindSince = undefined
    else this.#noteBehind(time)
    if (behind && !takeBack && use === 'initiator') {
      throw new GmsaError(
        'STORE_UNAVAILABLE',
        `${name}: the answer's kvno is below that in the file, and not believed yet`,
        {
          hint: 'another server may be behind; a new account of the old name is taken up once the answer is repeated',
        },
      )
    }
    return entries
  }

  #noteBehind(time: number): void {
    if (this.#behindSince !== undefined) return
    this.#behindSince = time
    const { name: account, kind, file } = this.#config
    this.#context.log.warn({ account, kind, file }, 'the file holds a higher kvno than the answer: it is not given up')
  }
}

/** The keys of a keytab from the service; its bytes are wiped. Throws MATERIAL_MALFORMED. */
export function parseAnswer(bytes: Buffer, account: string): KeytabEntry[] {
  try {
    const entries = parseKeytab(bytes)
    if (entries.length > 0 && entries.every(({ kvno }) => kvno > 0)) return entries
  } finally {
    bytes.fill(0)
  }
  throw new GmsaError('MATERIAL_MALFORMED', `${account}: the service's keytab has no keys, or one without a kvno`)
}

/** An acceptor's keys may include the next one, whose time is still to come. */
export function kvnoInForce(entries: readonly KeytabEntry[], now: number): number {
  const started = entries.filter(({ timestamp }) => timestamp * 1000 <= now)
  const kvnos = (started.length > 0 ? started : entries).map(({ kvno }) => kvno)
  return Math.max(...kvnos)
}

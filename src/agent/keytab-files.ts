import { GmsaError } from '../base/errors.ts'
import { encodeKeytab, type KeytabEntry, MAX_KEYTAB_BYTES, parseKeytab } from '../kerberos/keytab.ts'
import { formatPrincipal } from '../kerberos/principal.ts'
import type { Target } from './target.ts'

export interface KeytabUpdate {
  /** Who asks: two of them can't keep the same principal in one file. */
  readonly by: string
  /** The keys whose principals this one keeps. */
  readonly fresh: readonly KeytabEntry[]
  /** What the file is to hold, from what it holds. */
  readonly merge: (existing: readonly KeytabEntry[]) => readonly KeytabEntry[]
  /** Called once it is certain that the bytes will be other ones, before the file is replaced. */
  readonly onReplacing: () => Promise<void>
}

export interface KeytabResult {
  /** Whether the bytes are other ones than before. */
  readonly changed: boolean
  readonly entries: readonly KeytabEntry[]
}

/** The keytab files of this agent. Several outputs may share one: their updates come one after the other. */
export class KeytabFiles {
  readonly #queues = new Map<string, Promise<unknown>>()
  /** By file, who keeps which principals in it. */
  readonly #keepers = new Map<string, Map<string, ReadonlySet<string>>>()

  /**
   * Brings the file up to date, and leaves it alone where its bytes, mode and owner are right already.
   * Rejects with a GmsaError: where what stands there is no keytab nothing is written.
   */
  async update(target: Target, update: KeytabUpdate): Promise<KeytabResult> {
    const path = await target.locate()
    const turn = (this.#queues.get(path) ?? Promise.resolve()).then(
      () => this.#updateAlone(target, path, update),
      () => this.#updateAlone(target, path, update),
    )
    this.#queues.set(path, turn)
    return turn
  }

  async #updateAlone(target: Target, path: string, update: KeytabUpdate): Promise<KeytabResult> {
    this.claim(path, update)
    const found = await target.read(path, MAX_KEYTAB_BYTES)
    const existing = found && found.bytes.length > 0 ? parseExisting(found.bytes, target.file) : []
    const entries = update.merge(existing)
    const bytes = encodeKeytab(entries)
    try {
      const changed = !(found?.bytes.equals(bytes) ?? false)
      if (changed) await update.onReplacing()
      if (changed || !found?.asWished) await target.replace(path, bytes)
      return { changed, entries }
    } finally {
      bytes.fill(0)
      found?.bytes.fill(0)
    }
  }

  /**
   * Notes who keeps these principals in the file; what an output does not keep any more is free for another. Throws
   * CONFIG_INVALID where another one keeps one of them.
   */
  claim(path: string, { by, fresh }: Pick<KeytabUpdate, 'by' | 'fresh'>): void {
    const keepers = this.#keepers.get(path) ?? new Map<string, ReadonlySet<string>>()
    const names = new Set(fresh.map(({ principal }) => formatPrincipal(principal)))
    for (const [keeper, kept] of keepers) {
      const [name] = keeper === by ? [] : kept.intersection(names)
      if (name === undefined) continue
      throw new GmsaError('CONFIG_INVALID', `${path}: ${name} is kept there for ${keeper} already`, {
        hint: 'give each its own file, or say by principals which of them each one keeps',
      })
    }
    this.#keepers.set(path, keepers.set(by, names))
  }
}

/** What stands in a keytab's place. Throws MATERIAL_MALFORMED where that is none. */
export function parseExisting(bytes: Buffer, file: string): KeytabEntry[] {
  try {
    return parseKeytab(bytes)
  } catch (thrown) {
    const problem = thrown instanceof GmsaError ? thrown.message : 'not a keytab'
    throw new GmsaError('MATERIAL_MALFORMED', `${file}: what stands there can't be kept: ${problem}`, {
      hint: 'it is left as it is: move it away, and a new one is made',
    })
  }
}

import type { Clock } from '../base/clock.ts'
import { type GmsaError, isOutage, toGmsaError } from '../base/errors.ts'

export interface CacheOptions {
  readonly clock: Clock
  /** Below this age in ms an answer is fresh; 0 for never. */
  readonly maxAge: number
  /** Below this age in ms an answer may be given when the store is out; 0 for never. */
  readonly serveStale: number
  /** How long absence is remembered, in ms. */
  readonly absentAge?: number
  /** How many entries that are not pinned are kept. */
  readonly bound?: number
  readonly onResult?: (result: CacheResult) => void
}

/** One for each call of get, once it is known: joined calls count as such, however the shared load ends. */
export type CacheResult = 'fresh' | 'miss' | 'joined' | 'stale'

export interface Cached<T> {
  readonly value: T
  /** Age in ms, where the store was out and this is what it last said. */
  readonly staleFor?: number
}

interface Entry<T> {
  /** What the store last said, and when; dropped once the store says anything else than "I'm out". */
  good?: { readonly value: T; readonly at: number }
  absent?: { readonly error: GmsaError; readonly until: number }
  /** The store announced a change: what we have is no longer fresh. */
  outdated: boolean
  flight: Promise<Cached<T>> | undefined
}

export interface Cache<T> {
  /**
   * The value of `key`, by `load` unless it is fresh; calls that meet share one load.
   * `pinned` keys are never pushed out by others. Rejects with a GmsaError.
   */
  get(key: string, pinned: boolean, load: () => Promise<T>): Promise<Cached<T>>
  /** What these keys hold is to be read again at the next call; all keys when `matches` is absent. */
  invalidate(matches?: (key: string) => boolean): void
}

/** A cache with single flight, and stale answers while the store is out. A load has to end by itself. */
export function makeCache<T>(options: CacheOptions): Cache<T> {
  const { clock, maxAge, absentAge = 5_000, bound = 1_000, onResult = () => {} } = options
  const entries = makeEntries<T>(bound)

  function get(key: string, pinned: boolean, load: () => Promise<T>): Promise<Cached<T>> {
    const entry = entries.of(key, pinned)
    const now = clock.monotonic()
    if (!entry.outdated) {
      if (entry.good && now - entry.good.at < maxAge) {
        onResult('fresh')
        return Promise.resolve({ value: entry.good.value })
      }
      if (entry.absent && now < entry.absent.until) {
        onResult('fresh')
        return Promise.reject(entry.absent.error)
      }
    }
    if (entry.flight) {
      onResult('joined')
      return entry.flight
    }
    const flight: Promise<Cached<T>> = fly(entry, load, () => entry.flight === flight).finally(() => {
      if (entry.flight === flight) entry.flight = undefined
    })
    entry.flight = flight
    return flight
  }

  /**
   * One load. Once the entry was invalidated the flight is not the entry's any more, and stores nothing; but what the
   * store says against an older value holds.
   */
  async function fly(entry: Entry<T>, load: () => Promise<T>, ours: () => boolean): Promise<Cached<T>> {
    const started = clock.monotonic()
    try {
      const value = await Promise.try(load)
      if (ours()) {
        entry.good = { value, at: started }
        entry.outdated = false
        delete entry.absent
      }
      onResult('miss')
      return { value }
    } catch (thrown) {
      const error = toGmsaError(thrown)
      const { good } = entry
      if (isOutage(error)) {
        const age = good ? clock.monotonic() - good.at : Number.POSITIVE_INFINITY
        const stale = good !== undefined && age < options.serveStale
        onResult(stale ? 'stale' : 'miss')
        if (!stale) throw error
        return { value: good.value, staleFor: age }
      }
      if (good && good.at <= started) delete entry.good
      if (ours()) {
        entry.outdated = false
        delete entry.absent
        if (error.code === 'ACCOUNT_NOT_FOUND') entry.absent = { error, until: clock.monotonic() + absentAge }
      }
      onResult('miss')
      throw error
    }
  }

  function invalidate(matches: (key: string) => boolean = () => true): void {
    for (const [key, entry] of entries.all()) {
      if (!matches(key)) continue
      entry.outdated = true
      entry.flight = undefined
    }
  }

  return { get, invalidate }
}

/** The entries by key: all pinned ones, and of the others those used last. */
function makeEntries<T>(bound: number) {
  const pinnedOnes = new Map<string, Entry<T>>()
  const others = new Map<string, Entry<T>>()

  function of(key: string, pinned: boolean): Entry<T> {
    const entries = pinned ? pinnedOnes : others
    const known = entries.get(key)
    if (known && pinned) return known
    const entry = known ?? { outdated: false, flight: undefined }
    // Least recently used first: a Map keeps the order of insertion.
    if (known) entries.delete(key)
    entries.set(key, entry)
    if (!pinned && entries.size > bound) entries.delete(entries.keys().next().value ?? key)
    return entry
  }

  return { of, all: () => [...pinnedOnes, ...others] }
}

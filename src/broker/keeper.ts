import type { Clock } from '../base/clock.ts'
import { type GmsaError, isOutage, toGmsaError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { AccountOptions } from '../gmsa/account-options.ts'
import { rolloverOf } from '../gmsa/cycle.ts'
import type { Generation, Reading } from '../gmsa/generations.ts'
import { parseManagedPassword } from '../gmsa/managed-password.ts'
import type { ManagedPassword } from '../gmsa/material.ts'
import { type Schedule, scheduleKeys } from '../gmsa/schedule.ts'
import type { CacheResult } from './cache.ts'
import { makeNotices, type Notices } from './notices.ts'

export interface KeeperOptions {
  readonly account: string
  readonly options: AccountOptions
  readonly clock: Clock
  readonly log: Log
  /** How long a key is kept after it left force, in ms. */
  readonly keepPrevious: number
  /** From 0 to below 1. */
  readonly random: () => number
  /** One read of the store; ends by itself. Rejects with a GmsaError. */
  readonly load: () => Promise<ManagedPassword>
  readonly onResult: (result: CacheResult) => void
  /** After each reading, asked for or not: when the next one is due, in ms since 1970. */
  readonly onReading: (nextDue: number) => void
}

/** What is known of an account at this moment. */
export interface Known {
  readonly material: ManagedPassword
  readonly schedule: Schedule
  /** Age in ms, where the store is out and this is what it last said. */
  readonly staleFor?: number
  /** When it is worth asking again, in ms since 1970. */
  readonly refreshAt: number
  /** False once nothing that rests on the reading may be handed out. */
  readonly usable: boolean
}

/** The latest reading, and both clocks at its arrival. */
interface Latest {
  readonly material: ManagedPassword
  readonly reading: Reading
  readonly version: number
  readonly wall: number
  readonly monotonic: number
}

interface Failure {
  readonly error: GmsaError
  readonly version: number
  /** By the monotonic clock: until when nobody's call sets off a read, and when the store is asked again unbidden. */
  readonly quietUntil: number
  readonly retryAt: number
}

/**
 * So long after a read without result nobody's call sets off another, in ms; absence is remembered as long. After an
 * outage up to half of it is taken off, so that accounts that failed together do not all come back together.
 */
const QUIET = 5_000
/** A store that has come back gets the reads of all accounts spread over so many ms. */
const SPREAD = 10_000
const FIRST_RETRY = 30_000
const LAST_RETRY = 600_000
/** A reading that claims its own end is past is still not repeated sooner, in ms. */
const SOONEST_READ = 30_000
/** A kvno that contradicts what is known is believed when a reading so much later repeats it, in ms. */
const CONFIRMED_AFTER = 25_000
/** Timers of the system may be early by that much, in ms. */
const TIMER_SLACK = 50

/** Keeps what one gMSA's passwords are, across their changes: read when asked for, and from then on as they are due. */
export class Keeper implements Disposable {
  readonly #options: KeeperOptions
  readonly #notices: Notices
  readonly #listeners = new Set<() => void>()
  #latest: Latest | undefined
  /** Outlives the reading: a later one may still find in it what a key was. */
  #generations: readonly Generation[] = []
  /** Whose they are. */
  #owner: string | undefined
  #failure: Failure | undefined
  #failures = 0
  #doubt: { readonly value: number; readonly since: number } | undefined
  #flight: Promise<Latest | Failure> | undefined
  /** Grows with each change that the store announces. */
  #version = 0
  #timer: Disposable | undefined
  #closed = false

  constructor(options: KeeperOptions) {
    this.#options = options
    this.#notices = makeNotices(options.account, options.log)
  }

  /**
   * What is known, read again where that is due or the last reading is older than `maxAge` ms; calls that meet share
   * one read. While the store is out, what it last said stands in as long as its password can be in force.
   * Rejects with a GmsaError.
   */
  async get(maxAge = Number.POSITIVE_INFINITY): Promise<Known> {
    const { clock, onResult } = this.#options
    const wanted = this.#version
    if (this.#latest && this.#isFresh(this.#latest, maxAge)) {
      onResult('fresh')
      return this.#describe(this.#latest)
    }
    const failure = this.#failure
    if (failure && failure.version >= wanted && clock.monotonic() < failure.quietUntil) return this.#answer(failure)
    onResult(this.#flight ? 'joined' : 'miss')
    let outcome = await this.#readOnce()
    // A read that began before the store announced a change does not answer who asks after it.
    while (outcome.version < wanted) outcome = await this.#readOnce()
    return this.#answer(outcome)
  }

  /** What is known without any read. */
  peek(): Known | undefined {
    return this.#latest && this.#describe(this.#latest)
  }

  /** The store announced a change: the next answer rests on a new reading. */
  announce(): void {
    const { clock, random } = this.#options
    this.#version += 1
    this.#failure = undefined
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
    if (this.#closed || (!this.#latest && this.#listeners.size === 0)) return
    const delay = this.#listeners.size > 0 ? TIMER_SLACK : random() * QUIET
    this.#timer = clock.after(delay, () => this.#tick())
  }

  /** The store was out and answers again: what it could not say is asked for soon, but not by all accounts at once. */
  recovered(): void {
    const { clock, random } = this.#options
    if (!this.#failure || !isOutage(this.#failure.error)) return
    const retryAt = Math.min(this.#failure.retryAt, clock.monotonic() + random() * SPREAD)
    this.#failure = { ...this.#failure, retryAt }
    this.#arm()
  }

  /** Calls back whenever what is known may have changed. */
  onChange(changed: () => void): Disposable {
    this.#listeners.add(changed)
    return { [Symbol.dispose]: () => void this.#listeners.delete(changed) }
  }

  [Symbol.dispose](): void {
    this.#closed = true
    this.#timer?.[Symbol.dispose]()
    this.#listeners.clear()
  }

  /**
   * The time on the clock of the reading: as much has passed since then as the clock says on which more did. A step
   * of the wall clock back must not keep a password in force, nor a machine that slept.
   */
  #nowOf({ wall, monotonic }: Latest): number {
    const { clock } = this.#options
    return wall + Math.max(clock.monotonic() - monotonic, clock.now() - wall)
  }

  #plan(of: Latest): Schedule {
    const { keepPrevious } = this.#options
    const before = this.#generations
    const schedule = scheduleKeys({ reading: of.reading, before, now: this.#nowOf(of), keepPrevious })
    this.#generations = schedule.generations
    return schedule
  }

  #isFresh(of: Latest, maxAge: number): boolean {
    const now = this.#nowOf(of)
    return of.version === this.#version && now - of.wall <= maxAge && now < dueAt(of, this.#plan(of))
  }

  #describe(of: Latest, staleFor?: number): Known {
    const { clock } = this.#options
    const schedule = this.#plan(of)
    const now = this.#nowOf(of)
    const nextRead = this.#failure ? now + this.#failure.retryAt - clock.monotonic() : dueAt(of, schedule)
    const refreshAt = Math.max(now + QUIET, Math.min(nextRead, schedule.changesAt ?? nextRead))
    const usable = now < schedule.usableUntil
    return { material: of.material, schedule, refreshAt, usable, ...(staleFor !== undefined && { staleFor }) }
  }

  #answer(outcome: Latest | Failure): Known {
    if ('material' in outcome) return this.#describe(outcome)
    const { error } = outcome
    const latest = this.#latest
    if (!latest || !isOutage(error)) throw error
    const known = this.#describe(latest, this.#nowOf(latest) - latest.reading.receivedAt)
    if (!known.usable) throw error
    this.#options.onResult('stale')
    return known
  }

  #readOnce(): Promise<Latest | Failure> {
    this.#flight ??= this.#read().finally(() => {
      this.#flight = undefined
      this.#arm()
      this.#tell()
    })
    return this.#flight
  }

  /** Never rejects. */
  async #read(): Promise<Latest | Failure> {
    const { load } = this.#options
    const began = this.#version
    const doubted = this.#doubt !== undefined
    try {
      let taken = this.#take(await load(), began)
      // The change may have come between the two answers of the directory: then the next pair agrees with itself.
      if (this.#doubt && !doubted) taken = this.#take(await load(), began)
      this.#failure = undefined
      this.#failures = 0
      this.#options.onReading(dueAt(taken, this.#plan(taken)))
      return taken
    } catch (thrown) {
      return this.#fail(toGmsaError(thrown), began)
    }
  }

  #take(material: ManagedPassword, began: number): Latest {
    const { options, clock, random } = this.#options
    const { oddities, ...blob } = parseManagedPassword(material.blob.reveal())
    const { samAccountName, domain, sid, managedPasswordInterval } = material.account
    const owner = [sid, samAccountName, domain].join(' ').toLowerCase()
    // Another account of the same name: what was known is not its past.
    if (this.#owner !== owner) this.#generations = []
    this.#owner = owner
    const days = managedPasswordInterval ?? options.managedPasswordInterval
    const kvno = this.#kvnoOf(material)
    const latest: Latest = {
      material,
      reading: {
        blob,
        receivedAt: material.receivedAt,
        ...(kvno && { kvno }),
        ...(days !== undefined && { rollover: rolloverOf(days) }),
        jitter: random(),
      },
      version: began,
      wall: clock.now(),
      monotonic: clock.monotonic(),
    }
    const schedule = this.#plan(latest)
    this.#latest = latest
    this.#doubt = this.#doubtOf(schedule, material)
    this.#notices.reading({ schedule, oddities, material })
    return latest
  }

  #kvnoOf({ kvno, receivedAt }: ManagedPassword): Reading['kvno'] {
    const { options, clock } = this.#options
    if (kvno) {
      const doubt = this.#doubt
      const confirmed = doubt?.value === kvno.value && clock.monotonic() - doubt.since >= CONFIRMED_AFTER
      return { ...kvno, ...(confirmed && { confirmed }) }
    }
    // The configured one is that of the password it was configured with, not of every later one. Nothing in a record
    // tells which that was: after a start it is taken for the first one read.
    if (options.kvno === undefined || this.#generations.some((each) => each.kvno)) return undefined
    return { value: options.kvno, readAt: receivedAt }
  }

  #doubtOf({ notes }: Schedule, { kvno }: ManagedPassword) {
    if (!kvno || !notes.includes('kvno-doubtful')) return undefined
    return this.#doubt?.value === kvno.value
      ? this.#doubt
      : { value: kvno.value, since: this.#options.clock.monotonic() }
  }

  #fail(error: GmsaError, began: number): Failure {
    const { clock, random } = this.#options
    if (!isOutage(error)) this.#latest = undefined
    const wait = FIRST_RETRY * 2 ** this.#failures * (1 + random() / 5)
    this.#failures += 1
    const now = clock.monotonic()
    const quietUntil = now + QUIET * (isOutage(error) ? 1 - random() / 2 : 1)
    this.#failure = { error, version: began, quietUntil, retryAt: now + Math.min(wait, LAST_RETRY) }
    this.#notices.failed(error)
    return this.#failure
  }

  /** Sets the one timer: for the next read, or for when the schedule changes by itself. */
  #arm(): void {
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
    // What was never read with success is nobody's but the caller's concern.
    const wanted = this.#latest !== undefined || this.#generations.length > 0 || this.#listeners.size > 0
    if (this.#closed || !wanted) return
    this.#timer = this.#options.clock.after(Math.max(this.#untilNext(), TIMER_SLACK), () => this.#tick())
  }

  #untilNext(): number {
    const latest = this.#latest
    const retryIn = this.#failure && this.#failure.retryAt - this.#options.clock.monotonic()
    if (!latest) return retryIn ?? FIRST_RETRY
    const schedule = this.#plan(latest)
    const now = this.#nowOf(latest)
    const outdated = latest.version < this.#version
    const readIn = retryIn ?? (outdated ? 0 : dueAt(latest, schedule) - now)
    return Math.min(readIn, (schedule.changesAt ?? Number.POSITIVE_INFINITY) - now)
  }

  #tick(): void {
    const failure = this.#failure
    const latest = this.#latest
    const due = failure
      ? this.#options.clock.monotonic() >= failure.retryAt
      : !latest || !this.#isFresh(latest, Number.POSITIVE_INFINITY)
    if (due) {
      void this.#readOnce()
    } else {
      this.#arm()
      this.#tell()
    }
  }

  #tell(): void {
    for (const changed of [...this.#listeners]) changed()
  }
}

const dueAt = (of: Latest, schedule: Schedule) => Math.max(schedule.nextReadAt, of.wall + SOONEST_READ)

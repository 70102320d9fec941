import type { Phase } from '../kerberos/keys.ts'
import { nearestEdge } from './cycle.ts'
import { type Family, type Generation, joinReading, type Reading, type ScheduleNote, WINDOW } from './generations.ts'

/** For five minutes after a change domain controllers take the old password as well, and no longer. */
const GRACE = 300_000
/**
 * Without a fresh read the change counts as done this long after its time: the clocks of the controllers differ, and
 * meanwhile they take the old password anyway. The read that settles it is due sooner.
 */
const SWITCH_DELAY = 30_000
/** A read is asked for no sooner and no later than this after the last one, whatever the intervals say. */
const SOONEST_READ = 30_000
const LATEST_READ = 86_400_000
/** How long after the window opens, or after the change, to ask: at least this, and up to so much more. */
const MARGIN = 2_000
const JITTER = 8_000

export type PlannedGeneration = Generation & { readonly phase: Phase }

export interface ScheduleInput {
  readonly reading: Reading
  /** The `generations` of the schedule before, of whichever reading. */
  readonly before?: readonly Generation[]
  /** In ms since 1970, on the clock that gave the reading its times. */
  readonly now: number
  /** For how long a key is kept after it left force, in ms. */
  readonly keepPrevious: number
}

export interface Schedule {
  /** All that is worth keeping, newest first. Give it back as `before`. */
  readonly generations: readonly PlannedGeneration[]
  /** What an acceptor may hold: newest first, each with a kvno and none twice. Empty when nothing may be handed out. */
  readonly acceptor: readonly PlannedGeneration[]
  /** What an initiator may hold: the one in force. Empty when nothing may be handed out. */
  readonly initiator: readonly PlannedGeneration[]
  /** When the password in force changes: what rests on this reading is stale from then on. */
  readonly queryDate: number
  /** From then on nothing that rests on this reading may be handed out, and nothing is. */
  readonly usableUntil: number
  /** When to ask the directory again. */
  readonly nextReadAt: number
  /** When this schedule changes by itself, without another reading. */
  readonly changesAt?: number
  /** Until when a previous key is kept at least; absent without one, or where its end is not known. */
  readonly previousValidUntil?: number
  /** By how much our clock is ahead of the directory's in ms, as far as the ten-hour edges tell: up to five hours. */
  readonly clockAhead: number
  readonly notes: readonly ScheduleNote[]
}

/**
 * Which passwords of an account are previous, current and next at `now`, under which kvno each, who may have them,
 * and when to ask again. Pure: the same input gives the same answer, and its own `generations` as `before` change
 * nothing.
 *
 * A password goes out only under a kvno known to be its own. The one exception says `prediction`: the next password's
 * number, until a read after the change settles it. What was in force stays for `keepPrevious` after it left force,
 * also where the directory withholds it, as it does for up to ten hours after an account's first change.
 */
export function scheduleKeys({ reading, before = [], now, keepPrevious }: ScheduleInput): Schedule {
  const family = joinReading(reading, before)
  const { inForce, next, previous, end, notes } = family
  const switched = next !== undefined && now >= end + SWITCH_DELAY
  const keptUntil = (each: Generation) => (each.end === undefined ? now : each.end + keepPrevious)
  const current = switched ? next : inForce
  const planned = (each: Generation | undefined, phase: Phase): PlannedGeneration[] =>
    each ? [{ ...each, phase }] : []
  const generations = [
    ...planned(next, switched ? 'current' : 'next'),
    ...planned(inForce, switched ? 'previous' : 'current'),
    ...planned(previous, 'previous'),
    ...family.others.filter((each) => now < keptUntil(each)).flatMap((each) => planned(each, 'previous')),
  ].filter((each) => each.phase !== 'previous' || each.password === previous?.password || now < keptUntil(each))
  const usableUntil = end + GRACE
  const usable = now < usableUntil && current?.kvno !== undefined
  return {
    generations,
    acceptor: usable ? numbered(generations) : [],
    initiator: usable ? generations.filter(({ phase }) => phase === 'current') : [],
    queryDate: end,
    usableUntil,
    nextReadAt: nextRead(reading, family),
    ...changes(generations, family, { now, usableUntil, keptUntil }),
    ...previousEnd(generations, keepPrevious),
    clockAhead: end - nearestEdge(end),
    notes,
  }
}

/** Those with a kvno, the highest first. No two have the same: joinReading sees to that. */
function numbered(generations: readonly PlannedGeneration[]): PlannedGeneration[] {
  const withKvno = generations.filter(({ kvno }) => kvno !== undefined)
  return withKvno.toSorted((one, other) => (other.kvno?.value ?? 0) - (one.kvno?.value ?? 0))
}

/** Just after the window opens, to learn the next password, and just after the change, to learn its kvno. */
function nextRead({ receivedAt, jitter }: Reading, { end, inWindow, notes }: Family): number {
  const doubt = notes.includes('kvno-doubtful') || notes.includes('in-force-unknown')
  const due = doubt ? receivedAt : inWindow ? end : end - WINDOW
  const at = Math.floor(due + MARGIN + jitter * JITTER)
  return Math.min(Math.max(at, receivedAt + SOONEST_READ), receivedAt + LATEST_READ)
}

function changes(
  generations: readonly PlannedGeneration[],
  { next, previous, end }: Family,
  { now, usableUntil, keptUntil }: { now: number; usableUntil: number; keptUntil: (each: Generation) => number },
): Pick<Schedule, 'changesAt'> {
  const leaving = generations.filter(({ phase, password }) => phase === 'previous' && password !== previous?.password)
  const times = [usableUntil, ...(next ? [end + SWITCH_DELAY] : []), ...leaving.map(keptUntil)]
  const ahead = times.filter((time) => time > now)
  return ahead.length > 0 ? { changesAt: Math.min(...ahead) } : {}
}

/** On the ten-hour edges, so that every replica and every read gives the same time. */
function previousEnd(
  generations: readonly PlannedGeneration[],
  keepPrevious: number,
): Pick<Schedule, 'previousValidUntil'> {
  const ends = generations.flatMap(({ phase, end }) => (phase === 'previous' && end !== undefined ? [end] : []))
  return ends.length > 0 ? { previousValidUntil: nearestEdge(Math.max(...ends)) + keepPrevious } : {}
}

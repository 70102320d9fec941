import type { Secret } from '../base/secret.ts'
import { isWholeCycles, nearestEdge } from './cycle.ts'
import { TICKS_PER_MS } from './file-time.ts'
import type { PasswordBlob } from './managed-password.ts'

/** Five minutes: from here to the change the blob's CurrentPassword is the next one ([MS-ADTS] 3.1.1.4.5.39). */
export const WINDOW = 300_000
const WINDOW_TICKS = BigInt(WINDOW) * TICKS_PER_MS
/** About a hundred years in ms: no interval is longer in our arithmetic, whatever its 64 bits say. */
const FOREVER = 3_155_760_000_000
const MAX_KVNO = 0xffff_ffff
/**
 * A kvno read this close to the change may be from after it: the blob was some way on the road, so our idea of the
 * change is a little late.
 */
const TOO_CLOSE = 5_000

/**
 * What names a kvno: the directory, read for this very password; the order, for it writes an old and a new password
 * together under neighbouring numbers; or a prediction, one more for each change, which each may prove wrong by one.
 */
export type KvnoSource = 'directory' | 'order' | 'prediction'

export interface Kvno {
  readonly value: number
  readonly from: KvnoSource
}

/** A password of the account under one kvno. */
export interface Generation {
  /** The same object for as long as it is the same password, so that what is derived from it can be kept by it. */
  readonly password: Secret
  /** Absent where it is not known: such a password can't be handed out. */
  readonly kvno?: Kvno
  /** When it comes into force, in ms since 1970, on a ten-hour edge. Absent where the interval is not known. */
  readonly start?: number
  /** When it leaves force, in ms since 1970 by our own clock. Absent where the interval is not known. */
  readonly end?: number
}

/** One answer of the directory, or of an offline derivation in its place. */
export interface Reading {
  readonly blob: PasswordBlob
  /** When the blob arrived, in ms since 1970. */
  readonly receivedAt: number
  /**
   * msDS-KeyVersionNumber, read from the same server and **after** the blob, because the read of the blob may itself
   * set off the change; or as configured. Absent where it is not known. `readAt` is when that second answer arrived:
   * later than five seconds before the change it is not used, for the directory may have changed already.
   * `confirmed`: read once more after the schedule had called it doubtful, and still the same. `predicted`: not read, but
   * counted on from that of an earlier password.
   */
  readonly kvno?: {
    readonly value: number
    readonly readAt: number
    readonly confirmed?: boolean
    readonly predicted?: boolean
  }
  /** From one change to the next in ms, by rolloverOf; absent where msDS-ManagedPasswordInterval is not known. */
  readonly rollover?: number
  /** From 0 to below 1, drawn once for each reading, so that replicas don't all ask at the same moment. */
  readonly jitter: number
}

/**
 * - `kvno-unknown`: the password in force has none, so nothing can be handed out.
 * - `kvno-doubtful`: the kvno read contradicts what was known, and was not used. Read again, and confirm.
 * - `kvno-raised`: the same password has a higher kvno than before; somebody may have set another password.
 * - `kvno-predicted`: the kvno of the password in force is counted on from an earlier one.
 * - `previous-withheld`: there was a password before this one, and neither the directory nor memory has it.
 * - `in-force-unknown`: the blob shows the next password and not the one in force.
 */
export type ScheduleNote =
  | 'kvno-unknown'
  | 'kvno-doubtful'
  | 'kvno-raised'
  | 'kvno-predicted'
  | 'previous-withheld'
  | 'in-force-unknown'

/** The generations of an account, as a reading and what was known before it tell. */
export interface Family {
  readonly inForce?: Generation
  readonly next?: Generation
  /** The blob's previous password, which the account need not ever have had. */
  readonly previous?: Generation
  /** What was known before and still is: earlier passwords, and the same password under an earlier kvno. */
  readonly others: readonly Generation[]
  /** When the password in force changes, in ms since 1970 by our own clock: the query date. */
  readonly end: number
  /** Whether the reading was made in the last five minutes before that. */
  readonly inWindow: boolean
  readonly notes: readonly ScheduleNote[]
}

/** What one reading says, with each password as the object under which it is known already. */
interface Seen extends Pick<Family, 'end' | 'inWindow'> {
  readonly inForce: Secret | undefined
  readonly next: Secret | undefined
  readonly previous: Secret | undefined
  readonly rollover: number | undefined
}

const milliseconds = (ticks: bigint) => Math.min(Number(ticks / TICKS_PER_MS), FOREVER)

/** Joins a reading with the generations known before it. Pure; joining the same reading again changes nothing. */
export function joinReading(reading: Reading, before: readonly Generation[]): Family {
  const seen = look(reading, before)
  const edge = nearestEdge(seen.end)
  const { kvno, note } = settleKvno(reading, seen, before)
  const known = note === 'confirmed' ? before.filter((each) => isBelow(each, seen.inForce, kvno)) : before
  const ofPassword = (password: Secret) => known.find((each) => each.password === password)
  const { rollover } = seen

  const inForce = seen.inForce && {
    password: seen.inForce,
    ...(kvno && { kvno }),
    ...optional('start', rollover === undefined ? ofPassword(seen.inForce)?.start : edge - rollover),
    end: seen.end,
  }
  const next = nextGeneration(seen, edge, kvno, known)
  const previous = previousGeneration(seen, edge, kvno, known, note === 'kvno-predicted')
  const family = [inForce, next, previous].filter((each) => each !== undefined)
  const others = known.filter((each) => each.kvno && !isReplaced(each, family, edge))
  const notes: ScheduleNote[] = []
  if (note !== undefined && note !== 'confirmed') notes.push(note)
  if (!inForce) notes.push('in-force-unknown')
  else if (!kvno) notes.push('kvno-unknown')
  if (!seen.inWindow && !previous && others.length === 0 && kvno?.value !== 1) notes.push('previous-withheld')
  return {
    ...optional('inForce', inForce),
    ...optional('next', next),
    ...optional('previous', previous),
    others,
    end: seen.end,
    inWindow: seen.inWindow,
    notes,
  }
}

/**
 * Whether the family stands for what was known before: the same password under the same number. Where the old number
 * was a guess, either is enough, or another password that has its time; and a guess ahead of its time is none.
 */
function isReplaced(old: Generation, family: readonly Generation[], edge: number): boolean {
  const { password, kvno, start } = old
  const samePassword = (member: Generation) => member.password === password
  const sameNumber = (member: Generation) => member.kvno?.value === kvno?.value
  if (kvno?.from !== 'prediction') return family.some((member) => samePassword(member) && sameNumber(member))
  const sameTime = (member: Generation) => start !== undefined && member.start === start
  return isLater(old, edge) || family.some((each) => samePassword(each) || sameNumber(each) || sameTime(each))
}

/** Whether a password is known to have this number. */
const isAt = ({ kvno }: Generation, { value }: Kvno) => isFirm(kvno) && kvno.value === value

/** Decides what the blob's two passwords are. Only Q tells the window; U is taken for the interval, where it fits. */
function look({ blob, receivedAt, rollover }: Reading, before: readonly Generation[]): Seen {
  const { queryInterval, unchangedInterval } = blob
  const held = (password: Secret) => before.find((each) => each.password.equals(password))?.password ?? password
  const inWindow = queryInterval <= WINDOW_TICKS
  const end = receivedAt + milliseconds(queryInterval)
  const current = held(blob.current)
  const previous = blob.previous && (blob.previous.equals(current) ? current : held(blob.previous))
  if (!inWindow) return { inWindow, end, inForce: current, next: undefined, previous, rollover }
  // In the window U is what is left of this interval and the whole next one, less five minutes.
  const interval = milliseconds(unchangedInterval - queryInterval + WINDOW_TICKS)
  const inForce = previous ?? before.find((each) => endsAt(each, end) && each.password !== current)?.password
  return {
    inWindow,
    end,
    inForce,
    next: current === inForce ? undefined : current,
    previous: undefined,
    rollover: rollover ?? (isWholeCycles(interval) ? interval : undefined),
  }
}

const endsAt = ({ end }: Generation, time: number) => end !== undefined && nearestEdge(end) === nearestEdge(time)
const isLater = ({ start }: Generation, edge: number) => start !== undefined && start >= edge
/** What can still be true when the directory insists on this kvno for the password in force. */
function isBelow({ password, kvno }: Generation, inForce: Secret | undefined, confirmed: Kvno | undefined): boolean {
  const [value, limit] = [kvno?.value ?? 0, confirmed?.value ?? 0]
  return value < limit || (value === limit && password === inForce)
}

/** A kvno that is more than a guess. */
const isFirm = (kvno: Kvno | undefined): kvno is Kvno & { readonly from: 'directory' | 'order' } =>
  kvno !== undefined && kvno.from !== 'prediction'

interface Settled {
  readonly kvno?: Kvno
  readonly note?: 'kvno-doubtful' | 'kvno-raised' | 'kvno-predicted' | 'confirmed'
}

/**
 * The kvno of the password in force. What was read counts unless it came after the change, or contradicts what is
 * known: numbers only grow, and no two passwords share one.
 */
function settleKvno({ kvno: read }: Reading, { inForce, end, previous }: Seen, before: readonly Generation[]): Settled {
  if (!inForce) return {}
  const own = before.filter(({ password }) => password === inForce).flatMap(({ kvno }) => (kvno ? [kvno] : []))
  const fallback = optional('kvno', own.toSorted(byFirmness)[0] ?? successor(previous, inForce, before))
  if (!read || read.readAt >= end - TOO_CLOSE) return fallback
  const { value } = read
  if (!(Number.isSafeInteger(value) && value >= 1 && value <= MAX_KVNO)) return { ...fallback, note: 'kvno-doubtful' }
  const firm = own.filter(isFirm)
  const taken = before.some((each) => each.password !== inForce && isFirm(each.kvno) && each.kvno.value >= value)
  if (read.predicted) {
    if (firm.length > 0) return fallback
    return { ...(taken ? fallback : { kvno: { value, from: 'prediction' } }), note: 'kvno-predicted' }
  }
  const kvno = { value, from: 'directory' } as const
  if (firm.some((each) => each.value === value)) return { kvno }
  if (taken || firm.some((each) => each.value > value)) {
    return read.confirmed ? { kvno, note: 'confirmed' } : { ...fallback, note: 'kvno-doubtful' }
  }
  return firm.length > 0 ? { kvno, note: 'kvno-raised' } : { kvno }
}

const FIRMNESS: readonly KvnoSource[] = ['directory', 'order', 'prediction']

/** The firmest first, and of those the newest. */
function byFirmness(one: Kvno, other: Kvno): number {
  return FIRMNESS.indexOf(one.from) - FIRMNESS.indexOf(other.from) || other.value - one.value
}

/** One more than the kvno of the password before, where that is known and nobody has that number. */
function successor(password: Secret | undefined, own: Secret, known: readonly Generation[]): Kvno | undefined {
  return expected(known.find((each) => each.password === password && each.kvno)?.kvno, own, known)
}

/** One more than `kvno`, as a guess for `password`, unless another password is known under that number. */
function expected(kvno: Kvno | undefined, password: Secret, known: readonly Generation[]): Kvno | undefined {
  if (!kvno || kvno.value >= MAX_KVNO) return undefined
  const guess = { value: kvno.value + 1, from: 'prediction' } as const
  return known.some((each) => each.password !== password && isAt(each, guess)) ? undefined : guess
}

/**
 * The password after the one in force: from the blob in the window, else from memory where another server is ahead of
 * this one. Its kvno is a prediction until the change: one more, and two more where the directory skipped an interval.
 */
function nextGeneration(
  { next, end, rollover, inForce, previous }: Seen,
  edge: number,
  kvno: Kvno | undefined,
  known: readonly Generation[],
): Generation | undefined {
  const later = known
    .filter((each) => isLater(each, edge) && each.password !== inForce && each.password !== previous)
    .toSorted((one, other) => (one.start ?? 0) - (other.start ?? 0))
  const password = next ?? later[0]?.password
  if (!password) return undefined
  const own = known.find((each) => each.password === password && isFirm(each.kvno))?.kvno
  return {
    password,
    ...optional('kvno', own ?? expected(kvno, password, known)),
    start: edge,
    ...optional('end', rollover === undefined ? undefined : end + rollover),
  }
}

/** The blob's previous password, which left force when the one in force came. */
function previousGeneration(
  { previous: password, end, rollover, inForce }: Seen,
  edge: number,
  kvno: Kvno | undefined,
  known: readonly Generation[],
  isPredicted: boolean,
): Generation | undefined {
  if (!password || password === inForce) return undefined
  const own = known.find((each) => each.password === password)
  return {
    password,
    ...optional('kvno', previousKvno(password, kvno, known, isPredicted)),
    ...optional('start', own?.start ?? (rollover === undefined ? undefined : edge - 2 * rollover)),
    ...optional('end', own?.end ?? (rollover === undefined ? undefined : end - rollover)),
  }
}

/**
 * The directory writes old and new together, so the previous password is one below the one in force, unless it is
 * known under another number, or another password is known under that one. An earlier guess is the last resort. Below
 * a kvno that was counted on there is nothing but a guess.
 */
function previousKvno(
  password: Secret,
  kvno: Kvno | undefined,
  known: readonly Generation[],
  isPredicted: boolean,
): Kvno | undefined {
  const own = known
    .flatMap((each) => (each.password === password && each.kvno ? [each.kvno] : []))
    .toSorted(byFirmness)[0]
  if (!kvno || isFirm(own)) return own
  const order = { value: kvno.value - 1, from: isPredicted ? 'prediction' : 'order' } as const
  const free = !known.some((each) => each.password !== password && isAt(each, order))
  if ((isPredicted || kvno.from === 'directory') && order.value > 0 && free) return order
  return own && own.value < kvno.value ? own : undefined
}

/** The member, or nothing where there is no value for it: absent and undefined are two things to the compiler. */
function optional<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { readonly [P in K]?: V })
}

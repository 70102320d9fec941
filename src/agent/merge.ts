import type { KeytabEntry } from '../kerberos/keytab.ts'
import { formatPrincipal, isSamePrincipal, type Principal } from '../kerberos/principal.ts'

export interface MergeInput {
  /** What stands in the file. */
  readonly existing: readonly KeytabEntry[]
  /** The service's answer: every key of each of its principals that it knows. Not empty. */
  readonly fresh: readonly KeytabEntry[]
  readonly use: 'acceptor' | 'initiator'
  /** In ms since 1970. */
  readonly now: number
  /** How long a key stays in an acceptor's file after it left force, in ms. */
  readonly keepPrevious: number
  /** The answer is older than the file, and is to be believed all the same. */
  readonly takeBack?: boolean
}

export interface Merged {
  readonly entries: readonly KeytabEntry[]
  /** The file holds a key version above all of the answer's: the answer is old, or the account is a new one. */
  readonly behind: boolean
}

/**
 * What the file is to hold. The answer's principals are ours, all others are left as they are and where they are.
 *
 * An acceptor's file keeps keys that the answer does not have as long as tickets under them can live: until
 * `keepPrevious` after the next key came into force. So it outlives a service that forgot them, and what an older
 * answer leaves out stays too, unless `takeBack`. An initiator's file has the key in force alone, for kinit takes the
 * highest version; an answer with a lower version than the file's changes nothing unless `takeBack`.
 *
 * Pure, and its own result as `existing` changes nothing: equal keys give equal bytes.
 */
export function mergeKeytab(input: MergeInput): Merged {
  const { existing, fresh, use, takeBack = false } = input
  const principals = distinct(fresh.map(({ principal }) => principal))
  const isOurs = ({ principal }: KeytabEntry) => principals.some((each) => isSamePrincipal(each, principal))
  const old = existing.filter(isOurs)
  const behind = highest(old) > highest(fresh)
  if (behind && !takeBack && use === 'initiator') return { entries: existing, behind }
  const ours = principals.flatMap((principal) => {
    const of = (entries: readonly KeytabEntry[]) => entries.filter((each) => isSamePrincipal(each.principal, principal))
    return mergePrincipal({ ...input, existing: of(old), fresh: of(fresh) })
  })
  const first = existing.findIndex(isOurs)
  const before = first < 0 ? existing : existing.slice(0, first)
  const after = first < 0 ? [] : existing.slice(first).filter((each) => !isOurs(each))
  return { entries: [...before, ...ours, ...after], behind }
}

/** The keys of one principal, the highest version first and the answer's before others of the same. */
function mergePrincipal({ existing, fresh, use, now, keepPrevious, takeBack = false }: MergeInput): KeytabEntry[] {
  const dated = fresh.map((each) => ({ ...each, timestamp: each.timestamp || firstSeen(each, existing, now) }))
  const all = distinctKeys([...dated, ...existing.filter(({ kvno }) => kvno > 0)])
  const newest = highest(fresh)
  const stays = (each: KeytabEntry): boolean => {
    if (dated.includes(each) || each.kvno === newest) return true
    if (each.kvno > newest) return !takeBack
    return use === 'acceptor' && now < leftForce(each, all, now) + keepPrevious
  }
  return all.filter(stays).toSorted((one, other) => other.kvno - one.kvno)
}

/** An entry without a time gets that at which it first stood in the file: it says when the key before it left force. */
function firstSeen(entry: KeytabEntry, existing: readonly KeytabEntry[], now: number): number {
  const known = existing.find((each) => isSameSlot(each, entry) && each.key.equals(entry.key))
  return known?.timestamp || Math.floor(now / 1000)
}

/**
 * When the key was followed by another one, in ms since 1970: at the latest when the first of the later ones whose time
 * is known came into force; `now` where there is none.
 */
function leftForce({ kvno }: KeytabEntry, all: readonly KeytabEntry[], now: number): number {
  const times = all.filter((each) => each.kvno > kvno && each.timestamp > 0).map(({ timestamp }) => timestamp)
  return times.length > 0 ? Math.min(...times) * 1000 : now
}

const highest = (entries: readonly KeytabEntry[]) => Math.max(0, ...entries.map(({ kvno }) => kvno))

const isSameSlot = (one: KeytabEntry, other: KeytabEntry) =>
  one.kvno === other.kvno && one.enctype === other.enctype && isSamePrincipal(one.principal, other.principal)

/** The first of each version and enctype. */
function distinctKeys(entries: readonly KeytabEntry[]): KeytabEntry[] {
  return entries.filter((each, index) => entries.findIndex((other) => isSameSlot(each, other)) === index)
}

function distinct(principals: readonly Principal[]): Principal[] {
  const byName = new Map(principals.map((each) => [formatPrincipal(each), each]))
  return [...byName.values()]
}

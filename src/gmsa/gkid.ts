import { LAST_INDEX, MAX_L0 } from '../crypto/gkdi.ts'
import { rolloverOf } from './cycle.ts'
import { checkFileTime, TICKS_PER_MS } from './file-time.ts'

/** [MS-GKDI]: a key cycle, which is one step of L2, lasts ten hours. In 100 ns. */
export const CYCLE_TICKS = 360_000_000_000n
/** How far clocks may differ, in 100 ns: for so long before a change the next password is handed out. */
export const MAX_SKEW_TICKS = 3_000_000_000n
/** Steps of L2 in one of L1, and of L1 in one of L0. */
const STEPS = BigInt(LAST_INDEX + 1)

/** A group key identifier: which ten-hour cycle a key is of. An L1 step is 32 of them, an L0 step 1,024. */
export interface Gkid {
  readonly l0: number
  /** From 0 to 31. */
  readonly l1: number
  /** From 0 to 31. */
  readonly l2: number
}

/** The cycle that a FILETIME lies in ([MS-GKDI] 3.1.4.1.3). Throws RangeError for one that has no 64 bits. */
export function gkidAt(fileTime: bigint): Gkid {
  const cycles = checkFileTime(fileTime) / CYCLE_TICKS
  return { l0: Number(cycles / STEPS / STEPS), l1: Number((cycles / STEPS) % STEPS), l2: Number(cycles % STEPS) }
}

/** When a cycle starts, as FILETIME. Throws RangeError where an index is out of range, or the time beyond 64 bits. */
export function startOfGkid({ l0, l1, l2 }: Gkid): bigint {
  if (![l0, l1, l2].every((index) => Number.isInteger(index) && index >= 0)) throw new RangeError('a negative index')
  if (l0 > MAX_L0 || l1 > LAST_INDEX || l2 > LAST_INDEX) throw new RangeError('an index is too large')
  return checkFileTime(((BigInt(l0) * STEPS + BigInt(l1)) * STEPS + BigInt(l2)) * CYCLE_TICKS)
}

/** The start of the cycle that a FILETIME lies in. */
export function cycleStart(fileTime: bigint): bigint {
  return fileTime - (fileTime % CYCLE_TICKS)
}

/** From one password change to the next in 100 ns. Throws RangeError, see {@link rolloverOf}. */
export function rolloverTicks(days: number): bigint {
  return BigInt(rolloverOf(days)) * TICKS_PER_MS
}

/** [MS-GKDI]: every key starts and ends on the edge of a ten-hour cycle, counted from 1601. In ms. */
const CYCLE = 36_000_000
/** 1601-01-01 in ms since 1970. */
const EPOCH = -11_644_473_600_000
/** The largest msDS-ManagedPasswordInterval a domain controller takes, in days. */
const MAX_DAYS = 21_350_397

/**
 * From one password change to the next, in ms: as many whole cycles as fit into msDS-ManagedPasswordInterval days.
 * One day is 20 hours, two are 40. Throws RangeError for an interval no domain controller takes.
 */
export function rolloverOf(days: number): number {
  if (!Number.isSafeInteger(days) || days < 1 || days > MAX_DAYS) {
    throw new RangeError(`days must be a whole number from 1 to ${MAX_DAYS}`)
  }
  return Math.floor((days * 24) / 10) * CYCLE
}

/** The edge of a cycle nearest to `time`, both in ms since 1970. */
export function nearestEdge(time: number): number {
  return Math.round((time - EPOCH) / CYCLE) * CYCLE + EPOCH
}

/** Whether `duration` in ms is one or more whole cycles. */
export function isWholeCycles(duration: number): boolean {
  return duration > 0 && duration % CYCLE === 0
}

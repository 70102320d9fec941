/** FILETIME counts 100 ns since 1601-01-01 UTC in 64 unsigned bits ([MS-DTYP] 2.3.3). */
export const TICKS_PER_MS = 10_000n
export const MAX_FILE_TIME = 0xffff_ffff_ffff_ffffn

/** From 1601 to 1970, in ms. */
const EPOCH_MS = 11_644_473_600_000n
const TICK_DIGITS = 7
/** RFC 3339 5.6 with a zone; `T` may be a blank, and a fraction may have any digits, of which seven count. */
const RFC_3339 = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$/

/** The FILETIME of a time in ms since 1970. Throws RangeError for one it can't express. */
export function fileTimeOf(ms: number): bigint {
  if (!Number.isFinite(ms)) throw new RangeError('ms must be a finite number')
  return checkFileTime((BigInt(Math.floor(ms)) + EPOCH_MS) * TICKS_PER_MS)
}

/** Milliseconds since 1970 of a FILETIME, rounded down. */
export function millisecondsOf(fileTime: bigint): number {
  return Number(fileTime / TICKS_PER_MS - EPOCH_MS)
}

/** The time in ISO form, to the second: for messages. */
export function formatFileTime(fileTime: bigint): string {
  return new Date(millisecondsOf(fileTime)).toISOString().replace(/\.\d+Z$/, 'Z')
}

/** A FILETIME from its decimal digits or from RFC 3339 text with a zone. Undefined for anything else. */
export function parseFileTime(text: string): bigint | undefined {
  if (/^[0-9]{1,20}$/.test(text)) {
    const ticks = BigInt(text)
    return ticks <= MAX_FILE_TIME ? ticks : undefined
  }
  const [, day, time, fraction = '', zone = ''] = RFC_3339.exec(text) ?? []
  const ms = Date.parse(`${day}T${time}${zone.toUpperCase()}`)
  if (Number.isNaN(ms)) return undefined
  const ticks = (BigInt(ms) + EPOCH_MS) * TICKS_PER_MS + BigInt(fraction.slice(0, TICK_DIGITS).padEnd(TICK_DIGITS, '0'))
  return ticks >= 0n && ticks <= MAX_FILE_TIME ? ticks : undefined
}

/** `fileTime` itself; throws RangeError unless it has 64 bits without a sign. */
export function checkFileTime(fileTime: bigint): bigint {
  if (fileTime < 0n || fileTime > MAX_FILE_TIME) throw new RangeError('a time before 1601, or beyond 64 bits')
  return fileTime
}

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** What a duration looks like in the configuration, as a JSON Schema pattern: `30s`, `1h`, `10h5m`, `500ms`. */
export const DURATION_PATTERN = '^(?:[0-9]{1,9}(?:ms|s|m|h|d))+$'

/** Milliseconds of a duration such as `10h5m`. Throws RangeError for anything else. */
export function parseDuration(text: string): number {
  if (!new RegExp(DURATION_PATTERN).test(text)) throw new RangeError('expected a duration such as 30s, 5m or 10h5m')
  let total = 0
  for (const [, amount = '', unit = ''] of text.matchAll(/([0-9]+)(ms|s|m|h|d)/g)) {
    total += Number(amount) * UNITS[unit as keyof typeof UNITS]
  }
  return total
}

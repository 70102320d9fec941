/** A measure over the repetitions, by the target's name; same index, same repetition. */
export type Samples = ReadonlyMap<string, readonly number[]>

export interface Row {
  readonly title: string
  readonly samples: Samples
  /** Decimals that are shown. */
  readonly digits?: number
  /** What the project aims for and whether this run has it. */
  readonly aim?: string
  /** Requests that failed make the row worthless. */
  readonly failed?: string
}

/** min/median/max; a dash where nothing could be measured, as off Linux. */
export function spread(values: readonly number[], digits = 0): string {
  const known = values.filter((value) => !Number.isNaN(value))
  if (known.length === 0) return '–'
  const shown = [Math.min(...known), median(known), Math.max(...known)].map((value) => value.toFixed(digits))
  return known.length === 1 ? `${shown[0]}` : shown.join('/')
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const [low = Number.NaN, high = Number.NaN] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return (low + high) / 2
}

/** `of` divided by `by`, repetition by repetition. */
export function ratios(samples: Samples, of: string, by: string): number[] {
  const divisors = samples.get(by) ?? []
  return (samples.get(of) ?? []).map((value, index) => value / (divisors[index] ?? Number.NaN))
}

/** Whether `value` keeps within `limit`, as shown behind an aim. */
export function verdict(value: number, limit: number): string {
  if (Number.isNaN(value)) return 'not measured'
  return value <= limit ? 'met' : 'missed'
}

/** A Markdown table. */
export function table(rows: readonly Row[]): string {
  const head = ['', 'raw', 'lean', 'product', 'product/raw', 'product/lean', 'aim']
  const lines = rows.map(({ title, samples, digits = 0, aim = '', failed }) => [
    failed ? `${title} **(${failed})**` : title,
    ...['raw', 'lean', 'product'].map((name) => spread(samples.get(name) ?? [], digits)),
    ...['raw', 'lean'].map((name) => spread(ratios(samples, 'product', name), 2)),
    aim,
  ])
  const cells = [head, head.map(() => '---'), ...lines]
  return cells.map((line) => `| ${line.join(' | ')} |`).join('\n')
}

/**
 * The word of `known` that `word` was probably meant to be: the same but for
 * case, `-` and `_`, else one that begins alike, else one a few typing errors away.
 */
function nearMiss(word: string, known: readonly string[]): string | undefined {
  const plain = simplify(word)
  const same = known.find((candidate) => simplify(candidate) === plain)
  if (same !== undefined) return same
  if (plain.length < 2 || plain.length > 64) return undefined
  const begun = known.filter((candidate) => beginAlike(plain, simplify(candidate)))
  if (begun.length === 1) return begun[0]
  const limit = Math.max(1, Math.floor(plain.length / 3))
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(plain, simplify(candidate)) }))
    .filter(({ candidate, distance }) => distance <= limit && distance < candidate.length)
    .sort((a, b) => a.distance - b.distance)
  return ranked[0]?.candidate
}

/** `, did you mean url?`, or nothing. */
export function didYouMean(word: string, known: readonly string[]): string {
  const meant = nearMiss(word, known)
  return meant === undefined ? '' : `, did you mean ${meant}?`
}

/** As `warning` and `warn`. */
function beginAlike(a: string, b: string): boolean {
  return Math.min(a.length, b.length) > 3 && (a.startsWith(b) || b.startsWith(a))
}

function simplify(word: string): string {
  return word.toLowerCase().replaceAll(/[-_]/g, '')
}

/** Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      current[column] = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
        swapped ? (beforeLast[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
      )
    }
    beforeLast = last
    last = current
  }
  return last[b.length] ?? 0
}

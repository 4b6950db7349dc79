/** Finds the name that a misspelled one was probably meant to be. */

/** The closest of `candidates`, when it is close enough to be a slip of the fingers; undefined otherwise. */
export function closest(name: string, candidates: Iterable<string>): string | undefined {
  // A third of the letters wrong is still a slip; more is another word.
  let shortest = Math.max(2, Math.floor(name.length / 3)) + 1
  let found: string | undefined
  for (const candidate of candidates) {
    const distance = editDistance(normalize(name), normalize(candidate), shortest)
    if (distance >= shortest) continue
    shortest = distance
    found = candidate
  }
  return found
}

/** The sentence to add to an error message, with a leading space; empty when nothing is close. */
export function didYouMean(name: string, candidates: Iterable<string>, prefix = ''): string {
  const found = closest(name, candidates)
  return found === undefined ? '' : ` Did you mean ${prefix}${found}?`
}

// session_idle_timeout, sessionIdleTimeout and session-idle-timeout are the same word.
function normalize(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, '')
}

/** Levenshtein distance, or `limit` when it is at least that. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return Math.min(row[b.length] ?? limit, limit)
}

/** What the scripts that check the examples have in common: one line for each check, and how many failed. */

let failed = 0

/** How many checks have failed so far. */
export const failures = () => failed

/** Does one check and prints its line, with what it returns. Never rejects. */
export async function check(name, body) {
  try {
    const detail = await body()
    console.log(`ok    ${name}${detail === undefined ? '' : `: ${detail}`}`)
  } catch (error) {
    failed += 1
    console.log(`FAIL  ${name}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Settles as the promise does, or rejects after so many milliseconds. */
export function within(ms, what, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${ms} ms`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Returns the first when the two are the same, else throws. */
export function expectEqual(actual, expected) {
  if (actual !== expected)
    throw new Error(`expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`)
  return actual
}

/** The text of a tool's result; throws when that is an error. */
export function textOf(result) {
  if (result.isError) throw new Error(`the tool answered an error: ${JSON.stringify(result.content)}`)
  return result.content.map((part) => (part.type === 'text' ? part.text : `(${part.type})`)).join('\n')
}

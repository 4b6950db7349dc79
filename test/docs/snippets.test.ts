/** The TypeScript in the documentation is compiled code: each block names the region of a file, and says what stands there. */

import { readdirSync, readFileSync } from 'node:fs'

import { describe, expect, test } from 'vitest'

const root = new URL('../../', import.meta.url)

/** A fenced block of TypeScript, and the comment before it. */
const BLOCK =
  /(?:<!-- from: (?<path>\S+?)#(?<region>\S+) -->\n)?(?<indent>[ ]*)```(?:ts|typescript)\n(?<code>[^]*?)```/g

interface Snippet {
  readonly page: string
  /** The first line, to find it by. */
  readonly starts: string
  readonly from: { readonly path: string; readonly region: string } | undefined
  readonly code: string
}

/** The lines of a file between `// #region name` and `// #endregion name`, as if nothing stood around them. */
function regionOf(path: string, name: string): string {
  const lines = readFileSync(new URL(path, root), 'utf8').split('\n')
  const start = lines.findIndex((line) => line.trim() === `// #region ${name}`)
  const end = lines.findIndex((line) => line.trim() === `// #endregion ${name}`)
  if (start < 0 || end < start) throw new Error(`${path} has no region ${name}`)
  const inside = lines.slice(start + 1, end).filter((line) => !/^\s*\/\/ #(?:end)?region /.test(line))
  const depths = inside.filter((line) => line.trim() !== '').map((line) => /^ */.exec(line)?.[0].length ?? 0)
  const depth = Math.min(...depths)
  return `${inside.map((line) => line.slice(depth)).join('\n')}\n`
}

function snippetsOf(page: string): Snippet[] {
  return [...readFileSync(new URL(page, root), 'utf8').matchAll(BLOCK)].map(({ groups = {} }) => {
    const { path, region, code = '' } = groups
    const from = path === undefined || region === undefined ? undefined : { path, region }
    return { page, starts: code.split('\n')[0] ?? '', from, code }
  })
}

const pages = readdirSync(new URL('docs/', root), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.md'))
  .map((name) => `docs/${name}`)
const snippets = pages.flatMap(snippetsOf)

test('there are some', () => {
  expect(snippets.length).toBeGreaterThan(5)
})

describe.each(pages.filter((page) => snippets.some((snippet) => snippet.page === page)))('%s', (page) => {
  test.each(snippets.filter((snippet) => snippet.page === page))('$starts', ({ from, code }) => {
    expect(from, 'a block of TypeScript needs `<!-- from: path#region -->` before it').toBeDefined()
    if (from === undefined) return
    // What `npm run typecheck` compiles.
    expect(from.path).toMatch(/^(?:src|test|examples|bench|scripts)\/.*\.ts$/)
    expect(code).toBe(regionOf(from.path, from.region))
  })
})

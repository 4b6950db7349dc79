/** The kept inputs of every target run for good, and a few new ones; `npm run fuzz` makes more. */

import { describe, expect, test } from 'vitest'

import { readCorpus } from './corpus.ts'
import { fuzz, replay } from './fuzz.ts'
import { must, type Target, utf8 } from './target.ts'
import { TARGETS } from './targets.ts'

/** All kept inputs together, in bytes: a repository is no place for more. */
const LARGEST_CORPUS = 512 * 1024

describe.each([...TARGETS.values()])('$name', (target) => {
  test('kept inputs break nothing', async () => {
    expect((await replay(target, readCorpus(target.name))).map(({ problem }) => problem)).toEqual([])
  })

  test('nor do a few new ones', async () => {
    const { found, executions, coverage } = await fuzz(target, { seconds: 0.3, seed: 1, corpus: [] })
    expect(found.map(({ problem, input }) => ({ problem, input: utf8(input) }))).toEqual([])
    expect(executions).toBeGreaterThan(target.seeds.length)
    expect(coverage).toBeGreaterThan(200)
  })
})

test('the kept inputs are few', () => {
  const bytes = [...TARGETS.keys()].flatMap(readCorpus).reduce((sum, input) => sum + input.length, 0)
  expect(bytes).toBeLessThan(LARGEST_CORPUS)
})

/** A fault of its own, which no seed shows. */
function faulty(run: (text: string) => void): Target {
  const open = () => ({ run: (input: Uint8Array) => run(utf8(input)) })
  return { name: 'faulty', about: '', seeds: ['abc=1'], words: ['magic'], longest: 100, deadline: 200, open }
}

describe('the fuzzer', () => {
  test('finds a fault, makes its input small, and tells a fault of one kind once', async () => {
    const target = faulty((text) => must(!/magic.*\d/s.test(text), `broken by '${text}'`))
    const { found } = await fuzz(target, { seconds: 10, executions: 20_000, seed: 1, corpus: [] })
    expect(found).toHaveLength(1)
    expect(found[0]).toMatchObject({ alone: true })
    expect(utf8(found[0]?.input ?? new Uint8Array())).toMatch(/^magic\d$/)
  })

  test('takes what takes too long for a fault', async () => {
    const slow: Target = {
      ...faulty(() => {}),
      open: () => ({ run: (input) => (input.length === 5 ? new Promise(() => {}) : undefined) }),
    }
    expect(await replay(slow, [Buffer.from('abc=1'), new Uint8Array()])).toMatchObject([
      { problem: 'did not end within 200 ms' },
    ])
  })

  test('is led by what inputs reach', async () => {
    const target = TARGETS.get('settings') ?? faulty(() => {})
    const run = { seed: 1, corpus: [] }
    const seedsOnly = await fuzz(target, { ...run, seconds: 0 })
    const longer = await fuzz(target, { ...run, seconds: 1 })
    expect(longer.coverage).toBeGreaterThan(seedsOnly.coverage)
    expect(longer.corpus).toBeGreaterThan(seedsOnly.corpus)
  })
})

/** R24: the official conformance suite of both eras, and one suite over every face, store and Node, again and again: what flakes is a bug. */

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { type Chaos, count, type Findings, type Progress } from './chaos.ts'
import { runTests } from './vitest-run.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const NODES = [20, 22, 24]
const FACES = ['node', 'fetch', 'express', 'fastify', 'hono']

/** With a store in a file run those that run on real time: official clients. What restarts is the same on every face: test/restart. */
const STORES: Readonly<Record<string, readonly string[]>> = {
  memory: ['test/clients', 'test/wire', 'test/per-request'],
  sqlite: ['test/clients'],
}

/** One combination, over all runs. */
interface Cell {
  readonly node: number
  readonly face: string
  readonly store: string
  passed: number
  failed: number
  skipped: number
  seconds: number
}

/** What a run found. */
interface R24Findings extends Findings {
  readonly runs: number
  readonly cells: readonly Cell[]
  /** Runs of the conformance suite that gave what its lists say, by major version of Node. */
  readonly conformance: Readonly<Record<string, number>>
}

/** What is run. */
interface R24Size {
  readonly runs: number
  readonly nodes: readonly number[]
  readonly faces: readonly string[]
  readonly stores: Readonly<Record<string, readonly string[]>>
  readonly conformance: boolean
}

/** Everything, `runs` times; a version of Node that is not there is installed from npm. */
async function r24(size: R24Size, onProgress: Progress): Promise<R24Findings> {
  const { runs, nodes, faces, stores } = size
  const { nodeBinary } = await import('../../bench/lib/nodes.ts')
  const violations: string[] = []
  const cells: Cell[] = nodes.flatMap((node) =>
    faces.flatMap((face) =>
      Object.keys(stores).map((store) => ({
        node,
        face,
        store,
        passed: 0,
        failed: 0,
        skipped: 0,
        seconds: 0,
      })),
    ),
  )
  const conformance: Record<string, number> = {}
  for (let run = 1; run <= runs; run++) {
    for (const cell of cells) {
      const name = `Node ${cell.node}, ${cell.face}, ${cell.store}`
      onProgress(`R24: run ${run} of ${runs}: ${name}; ${violations.length} violations`)
      const { passed, failed, skipped, seconds, failures } = await runTests(
        ['--mode=faces', `--project=${cell.face}`, ...(stores[cell.store] ?? [])],
        { node: nodeBinary(cell.node), env: { SUITE_STORE: cell.store } },
      )
      cell.passed += passed
      cell.failed += failed
      cell.skipped += skipped
      cell.seconds += seconds
      for (const failure of failures) violations.push(`run ${run}, ${name}: ${failure}`)
      if (passed === 0 && failures.length === 0) violations.push(`run ${run}, ${name}: no test ran`)
    }
    for (const node of size.conformance ? nodes : []) {
      onProgress(`R24: run ${run} of ${runs}: conformance on Node ${node}; ${violations.length} violations`)
      const problem = await conforms(nodeBinary(node))
      if (problem === undefined) conformance[node] = (conformance[node] ?? 0) + 1
      else violations.push(`run ${run}, conformance on Node ${node}: ${problem}`)
    }
  }
  return { runs, cells, conformance, violations }
}

/** Runs test/conformance/run.ts; gives what differed, or nothing. */
async function conforms(node: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(node, ['--import', 'tsx', 'test/conformance/run.ts'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    const keep = (text: string): void => void (output = (output + text).slice(-2000))
    child.stdout.setEncoding('utf8').on('data', keep)
    child.stderr.setEncoding('utf8').on('data', keep)
    child.once('error', (error) => resolve(String(error)))
    child.once('close', (code) => resolve(code === 0 ? undefined : output.trim()))
  })
}

/** `npm run chaos -- r24` */
export const chaos: Chaos<R24Findings> = {
  name: 'r24',
  help: [
    [
      '',
      'conformance, and the suites of clients and wire over five faces, two stores and three Nodes; an hour',
    ],
    ['--runs 20', 'so often in a row: what fails once is a flake'],
    ['--nodes 20', 'on these versions of Node only'],
    ['--short', 'one file of it on this Node, one face and both stores; the gate runs the parts by itself'],
  ],
  options: {
    runs: { type: 'string', default: '1' },
    nodes: { type: 'string', default: NODES.join(',') },
  },
  run(args, progress) {
    const nodes = (args.text('nodes') ?? '').split(',').map(Number)
    const unknown = nodes.filter((node) => !NODES.includes(node))
    if (unknown.length > 0)
      throw new RangeError(`--nodes takes some of ${NODES.join(',')}, got ${unknown.join(',')}`)
    if (!args.short)
      return r24(
        { runs: args.count('runs'), nodes, faces: FACES, stores: STORES, conformance: true },
        progress,
      )
    const file = ['test/clients/calls.test.ts']
    const here = [Number(process.versions.node.split('.')[0])]
    const stores = { memory: file, sqlite: file }
    return r24({ runs: 1, nodes: here, faces: ['node'], stores, conformance: false }, progress)
  },
  tell({ runs, cells, conformance }) {
    const lines = cells.map(
      ({ node, face, store, passed, failed, skipped, seconds }) =>
        `  Node ${node}  ${face.padEnd(8)}${store.padEnd(8)}${String(passed).padStart(6)} passed ${String(failed).padStart(4)} failed ` +
        `${String(skipped).padStart(4)} not for this face ${seconds.toFixed(0).padStart(6)} s`,
    )
    const suites = Object.entries(conformance).map(([node, times]) => `Node ${node}: ${times} of ${runs}`)
    return [
      `R24: ${runs} runs`,
      ...lines,
      `  conformance as its lists say: ${suites.join(', ') || 'not run'}`,
    ].join('\n')
  },
  row({ runs, cells, conformance }) {
    const sum = (of: (cell: Cell) => number): number => cells.reduce((total, cell) => total + of(cell), 0)
    const each = (of: (cell: Cell) => unknown): number => new Set(cells.map(of)).size
    const suites = Object.values(conformance).reduce((total, times) => total + times, 0)
    return {
      test: 'R24',
      done:
        `the suites of clients and wire over ${each(({ face }) => face)} faces, ${each(({ store }) => store)} stores, ` +
        `Node ${[...new Set(cells.map(({ node }) => node))].join(', ')}; the official conformance suite, both eras; ${runs} ${runs === 1 ? 'run' : 'runs'}`,
      came: `${count(sum(({ passed }) => passed))} tests passed, ${count(sum(({ failed }) => failed))} failed; conformance as listed ${suites} of ${runs * each(({ node }) => node)} times`,
    }
  },
}

/** Watches from a thread of its own: an input that blocks the event loop for ever is kept, told of, and ends the process. */

import { mkdirSync, writeFileSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { workerData } from 'node:worker_threads'

/** How long an input may block everything, in milliseconds, and how often that is looked at. */
const LONGEST = 30_000
const LOOK = 1000

/** `state`: how many inputs were begun, whether one runs, and its length. */
const { state, bytes, target, folder } = workerData
let seen = -1
let since = 0

setInterval(() => {
  const begun = Atomics.load(state, 0)
  if (Atomics.load(state, 1) === 0 || begun !== seen) {
    seen = begun
    since = Date.now()
  } else if (Date.now() - since > LONGEST) {
    const input = Buffer.from(bytes.slice(0, Atomics.load(state, 2)))
    const file = `${folder}crash-hang-${Date.now()}`
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, input)
    writeSync(1, `\n  ${target} blocks for ${LONGEST} ms by ${input.length} bytes (latin1): ${JSON.stringify(input.toString('latin1'))}\n  kept as ${file}\n`) // prettier-ignore
    process.kill(process.pid, 'SIGKILL')
  }
}, LOOK)

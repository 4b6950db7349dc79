/** The kept inputs of each target: files under corpus/, named by what is in them. */

import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const ROOT = new URL('corpus/', import.meta.url)

/** Inputs that broke something once are never dropped. */
const CRASH = 'crash-'

/** Every input of a target. */
export function readCorpus(target: string): Uint8Array[] {
  const folder = folderOf(target)
  if (!existsSync(folder)) return []
  return readdirSync(folder).map((name) => readFileSync(new URL(name, folder)))
}

/** Keeps an input that broke something. Gives the name of its file. */
export function keepCrash(target: string, input: Uint8Array): string {
  return write(target, `${CRASH}${nameOf(input)}`, input)
}

/** Makes these inputs the corpus of a target, beside those that broke something. */
export function writeCorpus(target: string, inputs: readonly Uint8Array[]): void {
  const folder = folderOf(target)
  const kept = new Set(inputs.map(nameOf))
  if (existsSync(folder))
    for (const name of readdirSync(folder))
      if (!name.startsWith(CRASH) && !kept.has(name)) rmSync(new URL(name, folder))
  for (const input of inputs) write(target, nameOf(input), input)
}

function write(target: string, name: string, input: Uint8Array): string {
  const file = new URL(name, folderOf(target))
  mkdirSync(folderOf(target), { recursive: true })
  writeFileSync(file, input)
  return fileURLToPath(file)
}

/** Where the inputs of a target are kept. */
export function folderOf(target: string): URL {
  return new URL(`${target}/`, ROOT)
}

function nameOf(input: Uint8Array): string {
  return createHash('sha256').update(input).digest('hex').slice(0, 12)
}

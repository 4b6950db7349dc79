/** Makes inputs out of inputs: bytes, lines, numbers and words changed, moved, doubled and mixed, all by a seed. */

import type { Random } from '../simulation/random.ts'

/** Bytes at which parsers decide something. */
const EDGES = [
  0x00, 0x09, 0x0a, 0x0d, 0x20, 0x22, 0x2c, 0x3a, 0x3b, 0x3d, 0x5b, 0x5c, 0x7b, 0x7f, 0x80, 0xc0, 0xff,
]

const NUMBERS = [
  '0', '-1', '1', '-0', '1e999', '1.5', '65535', '65536', '2147483648', '9007199254740991', '9007199254740993',
  '4503599627370496', '00', '1e-7', 'NaN', 'Infinity', '999999999999999', '1000000000000000000000',
] // prettier-ignore

/** Text with which everything has to cope. */
const COMMON = [
  '\r\n',
  '\n',
  '\0',
  '\u2028',
  '\ufeff',
  '\ud83d\ude00',
  '__proto__',
  '"',
  '\\u0000',
  '\\ud800',
  '%00',
  '{}',
  '[]',
  'null',
]

type Change = (bytes: Uint8Array, random: Random) => Uint8Array

/** Makes new inputs for one target. */
export class Mutator {
  readonly #random: Random
  readonly #words: readonly Uint8Array[]
  readonly #longest: number

  constructor(random: Random, words: readonly string[], longest: number) {
    this.#random = random
    this.#words = [...COMMON, ...words].map((word) => Buffer.from(word))
    this.#longest = longest
  }

  /** Something like one of the inputs. */
  next(inputs: readonly Uint8Array[]): Uint8Array {
    const random = this.#random
    const pick = (): Uint8Array => inputs[random.int(0, inputs.length - 1)] ?? new Uint8Array()
    let bytes = pick()
    // Mostly little, so that what the input reached is still reached.
    const changes = 2 ** random.int(0, 4)
    for (let change = random.int(1, changes); change > 0; change--) {
      if (random.chance(0.08)) bytes = splice(bytes, pick(), random)
      else if (random.chance(0.35)) bytes = this.#word(bytes)
      else bytes = (CHANGES[random.int(0, CHANGES.length - 1)] ?? flip)(bytes, random)
    }
    return bytes.length > this.#longest ? bytes.subarray(0, this.#longest) : bytes
  }

  /** Puts a word in, or in the place of something. */
  #word(bytes: Uint8Array): Uint8Array {
    const random = this.#random
    const word = this.#words[random.int(0, this.#words.length - 1)] ?? new Uint8Array()
    const [from, to] = random.chance(0.5) ? wordAt(bytes, random) : [random.int(0, bytes.length), undefined]
    return replaced(bytes, from, to ?? from + (random.chance(0.5) ? word.length : 0), word)
  }
}

const flip: Change = (bytes, random) => {
  if (bytes.length === 0) return Uint8Array.of(random.int(0, 255))
  const copy = new Uint8Array(bytes)
  const at = random.int(0, bytes.length - 1)
  copy[at] = (copy[at] ?? 0) ^ (1 << random.int(0, 7))
  return copy
}

const overwrite: Change = (bytes, random) => {
  if (bytes.length === 0) return bytes
  const copy = new Uint8Array(bytes)
  copy[random.int(0, bytes.length - 1)] = random.chance(0.5)
    ? random.int(0, 255)
    : (EDGES[random.int(0, EDGES.length - 1)] ?? 0)
  return copy
}

const insert: Change = (bytes, random) => {
  const at = random.int(0, bytes.length)
  const byte = random.chance(0.5) ? random.int(0, 255) : (EDGES[random.int(0, EDGES.length - 1)] ?? 0)
  return replaced(bytes, at, at, Uint8Array.of(byte))
}

const remove: Change = (bytes, random) => {
  const at = random.int(0, bytes.length)
  return replaced(
    bytes,
    at,
    at + random.int(1, Math.max(1, Math.min(16, bytes.length >> 1))),
    new Uint8Array(),
  )
}

const double: Change = (bytes, random) => {
  const from = random.int(0, bytes.length)
  const piece = bytes.subarray(from, from + random.int(1, 64))
  const at = random.chance(0.5) ? from : random.int(0, bytes.length)
  // Now and then very often: depth and length are found no other way.
  const times = random.chance(0.05) ? random.int(2, 400) : 1
  return replaced(bytes, at, at, Buffer.concat(Array.from({ length: times }, () => piece)))
}

const number: Change = (bytes, random) => {
  const text = Buffer.from(bytes).toString('latin1')
  const found = [...text.matchAll(/-?\d+(?:\.\d+)?/g)]
  const match = found[random.int(0, Math.max(0, found.length - 1))]
  if (match === undefined) return insert(bytes, random)
  const other = random.chance(0.5)
    ? (NUMBERS[random.int(0, NUMBERS.length - 1)] ?? '0')
    : String(Number(match[0]) + random.int(-2, 2))
  return replaced(bytes, match.index, match.index + match[0].length, Buffer.from(other))
}

/** Doubles, drops, or swaps lines: header fields, mostly. */
const lines: Change = (bytes, random) => {
  const all = Buffer.from(bytes).toString('latin1').split('\n')
  const at = random.int(0, all.length - 1)
  const to = random.int(0, all.length - 1)
  const line = all[at] ?? ''
  if (random.chance(0.4)) all.splice(to, 0, line)
  else if (random.chance(0.5)) all.splice(at, 1)
  else [all[at], all[to]] = [all[to] ?? '', line]
  return Buffer.from(all.join('\n'), 'latin1')
}

/** Changes the case of a word: much of HTTP does not care, the rest must. */
const recase: Change = (bytes, random) => {
  const [from, to] = wordAt(bytes, random)
  const text = Buffer.from(bytes.subarray(from, to)).toString('latin1')
  return replaced(
    bytes,
    from,
    to,
    Buffer.from(random.chance(0.5) ? text.toUpperCase() : text.toLowerCase(), 'latin1'),
  )
}

const ODD_VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  2 ** 53,
  1e308,
  '',
  'x',
  '1',
  [],
  {},
  [[]],
  '\r\n\0',
  'x'.repeat(300),
]

/** Changes one value of the JSON in the input, so that it stays JSON. */
const json: Change = (bytes, random) => {
  const text = Buffer.from(bytes).toString('utf8')
  const from = text.search(/[[{]/)
  const to = Math.max(text.lastIndexOf('}'), text.lastIndexOf(']')) + 1
  if (from < 0 || to <= from) return insert(bytes, random)
  let value: unknown
  try {
    value = JSON.parse(text.slice(from, to))
  } catch {
    return insert(bytes, random)
  }
  const places: [holder: Record<string, unknown>, key: string][] = []
  const collect = (holder: unknown): void => {
    if (typeof holder !== 'object' || holder === null || places.length > 1000) return
    for (const key of Object.keys(holder)) {
      places.push([holder as Record<string, unknown>, key])
      collect((holder as Record<string, unknown>)[key])
    }
  }
  collect(value)
  const [holder, key = ''] = places[random.int(0, Math.max(0, places.length - 1))] ?? []
  if (holder === undefined) return insert(bytes, random)
  const other = places[random.int(0, places.length - 1)]
  const odd = ODD_VALUES[random.int(0, ODD_VALUES.length - 1)]
  const what = random.next()
  if (what < 0.2) delete holder[key]
  else if (what < 0.35) holder[key] = { [key]: holder[key] }
  else if (what < 0.4) holder[key] = Array.from({ length: random.int(1, 120) }, () => holder[key])
  else holder[key] = random.chance(0.3) && other !== undefined ? structuredClone(other[0][other[1]]) : odd
  return Buffer.from(text.slice(0, from) + JSON.stringify(value) + text.slice(to))
}

const CHANGES: readonly Change[] = [
  flip,
  overwrite,
  insert,
  remove,
  double,
  number,
  lines,
  recase,
  json,
  json,
]

/** The beginning of one and the end of another. */
function splice(first: Uint8Array, second: Uint8Array, random: Random): Uint8Array {
  return Buffer.concat([
    first.subarray(0, random.int(0, first.length)),
    second.subarray(random.int(0, second.length)),
  ])
}

/** Where a run of letters, digits and dashes begins and ends. */
function wordAt(bytes: Uint8Array, random: Random): [from: number, to: number] {
  let from = random.int(0, bytes.length)
  while (from > 0 && isWord(bytes[from - 1])) from -= 1
  let to = from
  while (to < bytes.length && isWord(bytes[to])) to += 1
  return [from, to]
}

function isWord(byte: number | undefined): boolean {
  return byte !== undefined && /[\w-]/.test(String.fromCharCode(byte))
}

function replaced(bytes: Uint8Array, from: number, to: number, by: Uint8Array): Uint8Array {
  return Buffer.concat([bytes.subarray(0, from), by, bytes.subarray(Math.min(to, bytes.length))])
}

/** What R9's writer writes, told from its key alone. */

export function eventData(key: string, position: number): string {
  return JSON.stringify({ key, position, filler: 'x'.repeat(150) })
}

export function recordOf(key: string, version: number): string {
  return JSON.stringify({ key, version, filler: 'y'.repeat(300) })
}

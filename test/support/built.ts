/** Before any test: dist/ is made of the source as it is, for those who start the command line as users have it. */

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export function setup(): void {
  execFileSync(process.execPath, [
    fileURLToPath(new URL('../../scripts/ensure.mjs', import.meta.url)),
    'built',
  ])
}

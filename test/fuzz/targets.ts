/** Everything that is fuzzed. */

import type { Target } from './target.ts'
import { cursors } from './targets/cursors.ts'
import { accept, hosts, targets as requestTargets } from './targets/headers.ts'
import { messages } from './targets/messages.ts'
import { records } from './targets/records.ts'
import { request } from './targets/request.ts'
import { settings } from './targets/settings.ts'
import { sse } from './targets/sse.ts'
import { tokens } from './targets/tokens.ts'

/** By the name that `--target` takes. */
export const TARGETS: ReadonlyMap<string, Target> = new Map(
  [accept, hosts, requestTargets, messages, sse, settings, tokens, records, cursors, request].map(
    (target) => [target.name, target],
  ),
)

/** The history of a seed of sleep or of restart: what was asked and answered, what a slow store did, and when processes died. */

import { Incarnations } from '../restart/incarnations.ts'
import { SimApp } from '../support/sim-app.ts'
import type { SimLink, SimRequest } from '../support/sim-exchange.ts'
import { SlowStore } from './slow-store.ts'

/** The longest text of a line. */
const LONGEST = 240

/** Has a method of a class note its arguments, or change them; gives what puts it back. */
function watch(
  owner: { prototype: object },
  name: string,
  note: (args: unknown[], self: unknown) => void,
): () => void {
  const original = Reflect.get(owner.prototype, name) as (...args: unknown[]) => unknown
  Reflect.set(owner.prototype, name, function (this: unknown, ...args: unknown[]) {
    note(args, this)
    return original.apply(this, args)
  })
  return () => void Reflect.set(owner.prototype, name, original)
}

/** Runs something and notes what apps, stores and processes do meanwhile, in virtual time. */
export async function keepHistory<T>(run: () => Promise<T>): Promise<{ result: T; lines: string[] }> {
  const lines: string[] = []
  let now = (): number => 0
  const note = (text: string): void => {
    const line = text.replaceAll('\n', '\\n')
    lines.push(
      `${now().toFixed(1).padStart(9)} ${line.length > LONGEST ? `${line.slice(0, LONGEST)}…` : line}`,
    )
  }
  const restore = [
    watch(SimApp, 'send', (args, self) => {
      const app = self as SimApp
      const [request, link] = args as [SimRequest, SimLink | undefined]
      now = () => app.clock.now()
      const number = app.exchanges.length + 1
      const fields = request.headers ?? {}
      const who = ['authorization', 'mcp-session-id', 'last-event-id'].map((name) => fields[name] ?? '-')
      note(`#${number} ${request.method ?? 'POST'} ${who.join(' ')} ${String(request.body ?? '')}`)
      const watched: SimLink = {
        ...link,
        onanswer(exchange) {
          note(`#${number} answered ${exchange.answeredStatus}`)
          link?.onanswer?.(exchange)
        },
        onover(exchange, completed) {
          note(`#${number} ${exchange.outcome} ${exchange.text.slice(-LONGEST + 20)}`)
          link?.onover?.(exchange, completed)
        },
      }
      args[1] = watched
    }),
    ...['save', 'touch', 'delete'].map((name) =>
      watch(SlowStore, name, (args) => note(`  store: ${name} ${JSON.stringify(args)}`)),
    ),
    ...['crash', 'start', 'stop'].map((name) => watch(Incarnations, name, () => note(`=== ${name}`))),
  ]
  try {
    return { result: await run(), lines }
  } finally {
    for (const put of restore) put()
  }
}

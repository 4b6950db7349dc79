/** `sojourn serve` on a terminal: follows the sessions, and keeps a view of them below the log. */

import type { WriteStream } from 'node:tty'

import type { SessionEvent } from '../session/events.ts'
import type { SessionHandle, Sessions } from '../session/sessions.ts'
import { isRoutine } from './event-log-lines.ts'
import { LiveScreen } from './live-screen.ts'
import { MOST_ROWS, renderLive } from './live-view.ts'
import type { LiveRow, LiveState, TerminalSize } from './live-view.ts'
import type { Style } from './style.ts'

/** How often the view may change, in milliseconds. */
const INTERVAL = 500

/** Over how many intervals calls per second are counted. */
const RATE_INTERVALS = 10

/** Sizes where the terminal tells none. */
const USUAL = { columns: 80, rows: 24 }

/** Events of a session that was not seen before. */
const BEGINNINGS: readonly string[] = ['session.opened', 'request.started', 'stream.opened']

/** Whether a terminal can show the view: one that moves its cursor, and whose user wants more than plain lines. */
export function canShowLive(stream: NodeJS.WritableStream, env: NodeJS.ProcessEnv): boolean {
  return (stream as WriteStream).isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
}

/** The view of a server that listens, until {@link LiveView.stop}. */
export class LiveView {
  readonly #stream: WriteStream
  readonly #style: Style
  readonly #followed: FollowedSessions
  readonly #screen: LiveScreen
  readonly #undo: (() => void)[] = []
  #draining = false

  /** @param stream the terminal; whatever anyone writes there or to stdout goes above the view from now on */
  constructor(sessions: Sessions, stream: WriteStream, style: Style) {
    this.#stream = stream
    this.#style = style
    const followed = new FollowedSessions(sessions)
    this.#followed = followed
    const write = stream.write.bind(stream)
    this.#screen = new LiveScreen({ size: () => this.#size(), write: (text) => void write(text) })
    this.#divert(stream)
    if (process.stdout.isTTY === true) this.#divert(process.stdout)

    const refresh = (): void => this.#refresh()
    const timer = setInterval(() => {
      followed.tick()
      refresh()
    }, INTERVAL)
    timer.unref()
    const stop = (): void => this.stop()
    // After Ctrl-Z and fg, the shell has written where the view was.
    const continued = (): void => this.#screen.forget()
    stream.on('resize', refresh)
    process.on('SIGCONT', continued)
    process.on('exit', stop)
    this.#undo.push(
      () => clearInterval(timer),
      () => stream.off('resize', refresh),
      () => process.off('SIGCONT', continued),
      () => process.off('exit', stop),
      () => followed.stop(),
    )
    refresh()
  }

  /** The server was told to stop. */
  drain(): void {
    this.#draining = true
    this.#refresh()
  }

  /** Removes the view and leaves the terminal as it was. Idempotent. */
  stop(): void {
    for (const undo of this.#undo.splice(0)) undo()
    this.#screen.close()
  }

  #refresh(): void {
    const state = { ...this.#followed.state(), draining: this.#draining }
    this.#screen.show(renderLive(state, this.#size(), this.#style))
  }

  #size(): TerminalSize {
    // A terminal that does not know its size says 0.
    return { columns: this.#stream.columns || USUAL.columns, rows: this.#stream.rows || USUAL.rows }
  }

  /** Sends what anyone writes to a stream through the screen, until the view stops. */
  #divert(stream: WriteStream): void {
    const { write } = stream
    stream.write = (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
      this.#screen.write(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString())
      const callback = rest.at(-1)
      if (typeof callback === 'function') process.nextTick(callback as () => void)
      return true
    }
    this.#undo.push(() => {
      stream.write = write
    })
  }
}

/** What the view needs to know of sessions beyond what their handles tell, from their events. */
class FollowedSessions {
  readonly #sessions: Sessions
  readonly #unsubscribe: () => void
  readonly #started = performance.now()
  /** Calls that ended, by session; used last comes last. */
  readonly #calls = new Map<string, number>()
  readonly #ended: number[] = [0]
  #refused = 0
  #streams = 0

  constructor(sessions: Sessions) {
    this.#sessions = sessions
    this.#unsubscribe = sessions.subscribe((event) => this.#note(event))
  }

  /** An interval is over. */
  tick(): void {
    this.#ended.push(0)
    if (this.#ended.length > RATE_INTERVALS + 1) this.#ended.shift()
  }

  /** How things are now. Looks at the sessions that can be shown, not at all. */
  state(): LiveState {
    const { total, active, asleep, requests } = this.#sessions.counts
    const ids = [...this.#calls.keys()].slice(-MOST_ROWS).reverse()
    const rows = ids.flatMap((id) => {
      const handle = this.#sessions.get(id)
      return handle === undefined ? [] : [this.#row(id, handle)]
    })
    const calls = this.#ended.reduce((sum, count) => sum + count, 0)
    const seconds = (Math.max(1, this.#ended.length - 1) * INTERVAL) / 1000
    return {
      rows,
      sessions: total,
      active,
      asleep,
      callsPerSecond: calls / seconds,
      refused: this.#refused,
      uptime: performance.now() - this.#started,
      memory: process.memoryUsage.rss(),
      running: requests,
      streams: this.#streams,
      draining: false,
    }
  }

  stop(): void {
    this.#unsubscribe()
  }

  #row(id: string, handle: SessionHandle): LiveRow {
    const { client, state, awake, expiresIn, requests, streams } = handle
    return {
      id,
      client: client === undefined ? '—' : `${client.name} ${client.version}`,
      // While an instance is being built again, the calls that wait for it run already.
      state: !awake && requests === 0 ? 'asleep' : state === 'active' ? 'active' : 'idle',
      endsIn: expiresIn,
      running: requests,
      calls: this.#calls.get(id) ?? 0,
      streams,
    }
  }

  #note(event: SessionEvent): void {
    if (event.type === 'request.refused') this.#refused += 1
    if (event.type === 'stream.opened') this.#streams += 1
    if (event.type === 'stream.closed') this.#streams -= 1
    const call = event.type === 'request.ended' && !isRoutine(event.method)
    if (call) this.#ended[this.#ended.length - 1] = (this.#ended.at(-1) ?? 0) + 1
    const id = event.session
    if (id === undefined) return
    const before = this.#calls.get(id)
    this.#calls.delete(id)
    // A request may end after its session did. What was restored is shown from its first use on.
    if (event.type === 'session.closed' || (before === undefined && !BEGINNINGS.includes(event.type))) return
    this.#calls.set(id, (before ?? 0) + (call ? 1 : 0))
  }
}

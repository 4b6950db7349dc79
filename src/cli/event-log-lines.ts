/** Turns the events of sessions into lines of the log. */

import { formatDuration } from '../duration.ts'
import type { SessionEvent } from '../session/events.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Level, LogOutput } from './log-output.ts'
import { harmless } from './style.ts'
import type { ClientIdentity } from '../types.ts'

/** How long a session must stay idle to be worth a line, in milliseconds: between two calls in a row none is. */
const SETTLED = 500

/** Longest text of a field, in characters. */
const LONGEST_FIELD = 200

/** What every client sends in passing; shown only when debugging. */
const ROUTINE: readonly string[] = ['initialize', 'ping']

/** Whether a request is one of those every client sends in passing, and no call that anyone would count. */
export function isRoutine(method: string): boolean {
  return ROUTINE.includes(method)
}

/**
 * Writes a line for every event until the app ends.
 *
 * @param showIdle whether sessions that go idle get a line, with the time that is left to them
 */
export function logEvents(sessions: Sessions, output: LogOutput, showIdle: boolean): void {
  const calls = new Map<string, number>()
  const settling = new Set<string>()

  const noteIdle = (id: string, time: number): void => {
    const handle = sessions.get(id)
    settling.delete(id)
    if (handle?.expiresIn === undefined) return
    output.write({
      level: 'info',
      event: 'session.idle',
      time,
      session: id,
      text: `idle, ends in ${elapsed(handle.expiresIn)}`,
    })
  }
  const mayBeIdle = (id: string): void => {
    if (!showIdle || settling.has(id)) return
    settling.add(id)
    setTimeout(() => noteIdle(id, Date.now()), SETTLED).unref()
  }

  sessions.subscribe((event) => {
    const { type, time, session, ...fields } = event
    const id = session ?? ''
    const before = calls.get(id)
    // What was restored is counted from its first request on.
    if (event.type === 'session.opened' || (event.type === 'request.started' && before === undefined))
      calls.set(id, 0)
    // A request may end after its session did; then nobody asks for the number again.
    if (event.type === 'request.ended' && before !== undefined && !isRoutine(event.method))
      calls.set(id, before + 1)
    if (event.type === 'session.opened' || event.type === 'request.ended' || event.type === 'stream.closed')
      mayBeIdle(id)
    const level = levelOf(event)
    if (output.takes(level)) {
      output.write({
        level,
        event: type,
        time,
        session,
        text: textOf(event, calls.get(id) ?? 0),
        fields: bounded(fields),
      })
    }
    if (event.type === 'session.closed') calls.delete(id)
  })
}

function levelOf(event: SessionEvent): Level {
  switch (event.type) {
    case 'session.opened':
      return 'info'
    case 'session.closed':
      // When the server stops they all end at once, and its own lines say so.
      if (event.reason === 'shutdown') return 'debug'
      return event.reason === 'failed' ? 'warn' : 'info'
    case 'request.ended':
      return isRoutine(event.method) ? 'debug' : 'info'
    case 'request.refused':
      // A host or origin that is refused has a line of its own, which names the option.
      if (event.status === 403 && event.option !== undefined) return 'debug'
      return event.status >= 500 ? 'warn' : 'info'
    default:
      return 'debug'
  }
}

function textOf(event: SessionEvent, calls: number): string {
  switch (event.type) {
    case 'session.opened': {
      const { name, version } =
        event.client === undefined
          ? { name: 'a client without a name', version: '' }
          : harmlessClient(event.client)
      return `opened by ${name} ${version} (${event.protocolVersion})`.replace(/ {2}/, ' ')
    }
    case 'session.initialized':
      return 'initialized'
    case 'session.slept':
      return 'asleep: its instance was let go'
    case 'session.woken':
      return `woken in ${elapsed(event.durationMs)}`
    case 'session.closed': {
      const detail = event.detail === undefined ? '' : ` (${harmless(event.detail)})`
      return `ended: ${event.reason}${detail}, after ${elapsed(event.durationMs)} and ${plural(calls, 'call')}`
    }
    case 'request.started':
      return `${callName(event)} …`
    case 'request.ended': {
      const outcome = event.outcome === 'ok' ? '' : `, ${event.outcome}`
      return `${callName(event)} ${elapsed(event.durationMs)}${outcome}`
    }
    case 'stream.opened':
      return `${event.kind} stream ${event.stream} opened`
    case 'stream.closed':
      return `${event.kind} stream ${event.stream} closed after ${elapsed(event.durationMs)}`
    case 'request.refused':
      return `refused ${event.status} ${harmless(event.message, 200)}`
  }
}

function callName({ method, name }: { method: string; name: string | undefined }): string {
  return name === undefined ? harmless(method) : `${harmless(method)} ${harmless(name)}`
}

function harmlessClient({ name, version }: ClientIdentity): ClientIdentity {
  return { name: harmless(String(name)), version: harmless(String(version)) }
}

/** Fields for programs, with what clients chose cut to a length that suits a log, and times to microseconds. */
function bounded(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => {
      if (typeof value === 'string') return [key, harmless(value, LONGEST_FIELD)]
      if (typeof value === 'number') return [key, Math.round(value * 1000) / 1000]
      return [key, key === 'client' && value !== undefined ? harmlessClient(value as ClientIdentity) : value]
    }),
  )
}

/** A count with its noun. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

/** A time span as people say it: `3 ms`, `2.1 s`, `30m`, `1h 12m`. */
export function elapsed(milliseconds: number): string {
  if (milliseconds < 1000)
    return milliseconds > 0 && milliseconds < 1 ? '<1 ms' : `${Math.round(milliseconds)} ms`
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(1)} s`
  const seconds = Math.round(milliseconds / 1000)
  const unit = seconds < 3600 ? 60 : 3600
  const rest = seconds < 3600 ? seconds % 60 : (seconds % 3600) - (seconds % 60)
  const whole = seconds - (seconds % unit)
  return rest === 0
    ? formatDuration(whole * 1000)
    : `${whole / unit}${unit === 60 ? 'm' : 'h'} ${formatDuration(rest * 1000)}`
}

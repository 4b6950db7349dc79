/** The code of docs/guides/sleep.md. */

import { McpServer } from '@modelcontextprotocol/server'
import type { ServerContext } from 'sojourn'
import { httpApp } from 'sojourn'
import { z } from 'zod'

declare const refresh: () => void
declare const startImport: () => Promise<void>

// #region options
export const app = httpApp(createCounter, { sleepAfter: '10m', maxAwake: 500 })
// #endregion options

// #region before
export function createForgetfulCounter(): McpServer {
  const server = new McpServer({ name: 'counter', version: '1.0.0' })
  let count = 0 // gone with this instance
  server.registerTool('count', { inputSchema: z.object({}) }, () => {
    count += 1
    return { content: [{ type: 'text', text: String(count) }] }
  })
  return server
}
// #endregion before

// #region after
const noInput = z.object({})

export function createCounter({ session, onSleep }: ServerContext): McpServer {
  const server = new McpServer({ name: 'counter', version: '1.0.0' })
  let { count } = { count: 0, ...(session.data as { count?: number }) }
  server.registerTool('count', { inputSchema: noInput }, () => {
    count += 1
    return { content: [{ type: 'text', text: String(count) }] }
  })
  onSleep(() => {
    session.data = { count }
  })
  return server
}
// #endregion after

// #region data
export function createDataCounter({ session }: ServerContext): McpServer {
  const server = new McpServer({ name: 'counter', version: '1.0.0' })
  server.registerTool('count', { inputSchema: noInput }, () => {
    const { count } = { count: 0, ...(session.data as { count?: number }) }
    session.data = { count: count + 1 }
    return { content: [{ type: 'text', text: String(count + 1) }] }
  })
  return server
}
// #endregion data

// #region tools
export function createGrowing({ session, onSleep }: ServerContext): McpServer {
  const server = new McpServer({ name: 'growing', version: '1.0.0' })
  const names = [...((session.data as { names?: string[] }).names ?? [])]
  const add = (name: string): void => {
    server.registerTool(name, { inputSchema: noInput }, () => ({ content: [{ type: 'text', text: name }] }))
  }
  server.registerTool('add', { inputSchema: z.object({ name: z.string() }) }, ({ name }) => {
    add(name)
    names.push(name)
    return { content: [{ type: 'text', text: `added ${name}` }] }
  })
  for (const name of names) add(name)
  onSleep(() => {
    session.data = { names }
  })
  return server
}
// #endregion tools

// #region timer
export function createTicking({ instanceSignal }: ServerContext): McpServer {
  const server = new McpServer({ name: 'ticking', version: '1.0.0' })
  const timer = setInterval(refresh, 60_000)
  instanceSignal.addEventListener('abort', () => clearInterval(timer), { once: true })
  return server
}
// #endregion timer

// #region keep
export function createImporter({ session }: ServerContext): McpServer {
  const server = new McpServer({ name: 'importer', version: '1.0.0' })
  server.registerTool('start', { inputSchema: noInput }, () => {
    const awake = session.keepAwake()
    void startImport().finally(() => awake.release())
    return { content: [{ type: 'text', text: 'It runs; ask again later.' }] }
  })
  return server
}
// #endregion keep

// #region first
export function createGreeting({ session }: ServerContext): McpServer {
  const server = new McpServer({ name: 'greeting', version: '1.0.0' })
  server.server.oninitialized = () => {
    if (session.restored) return // the client was greeted in another life
    void server.server.sendLoggingMessage({ level: 'info', data: 'Welcome' })
  }
  return server
}
// #endregion first

// #region watch
export function watchSleep(): void {
  app.sessions.subscribe((event) => {
    if (event.type !== 'session.slept' && event.type !== 'session.woken') return
    const { awake, asleep } = app.sessions.counts
    console.log(event.type, { awake, asleep, heapMB: Math.round(process.memoryUsage().heapUsed / 2 ** 20) })
  })
}
// #endregion watch

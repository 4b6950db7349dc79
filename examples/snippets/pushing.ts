/** The code of docs/guides/pushing-from-outside.md. */

import { watch } from 'node:fs'

import { SojournError, httpApp } from 'sojourn'
import type { CreateServer } from 'sojourn'

declare const createServer: CreateServer

// #region announce
const app = httpApp(createServer)

app.notify.toolsChanged()
app.notify.promptsChanged()
app.notify.resourcesChanged()
app.notify.resourceUpdated('file:///notes.md') // whoever subscribed to exactly this URI
// #endregion announce

export function watchNotes(): void {
  // #region watch
  const watcher = watch('notes.md', () => app.notify.resourceUpdated('file:///notes.md'))
  process.once('SIGTERM', () => watcher.close())
  // #endregion watch
}

export function tellEverySession(principal: string): void {
  // #region one
  for (const session of app.sessions.list()) {
    if (session.principal !== principal) continue
    session.notify('notifications/message', { level: 'info', logger: 'jobs', data: 'The import is done' })
  }
  // #endregion one
}

export async function askForRoots(sessionId: string): Promise<void> {
  // #region ask
  try {
    const result = await app.sessions.get(sessionId)?.request('roots/list', undefined, { timeout: '20s' })
    console.log(result?.roots)
  } catch (error) {
    if (!(error instanceof SojournError)) throw error
    console.log(error.code) // undeliverable, timeout, session-closed, request-failed or limit-exceeded
  }
  // #endregion ask
}

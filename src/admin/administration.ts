/** Looking at sessions and ending them from another process: through the socket of a running server, or in the file of one that does not run. */

import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'

import { messageOf, SojournError } from '../errors.ts'
import { sessionKey } from '../session/session.ts'
import type { StoredSession } from '../store/session-store.ts'
import { openSqliteFile, type SqliteFile } from '../store/sqlite/sqlite-file.ts'
import { fitting, socketBeside } from './admin-socket.ts'
import { detailsOfStored, infoOfStored, type SessionDetails, type SessionInfo } from './session-info.ts'

/** Whose sessions. */
export interface Place {
  /** The administrative socket of a server. */
  readonly socket: string | undefined
  /** The file of a store. */
  readonly file: string | undefined
}

/** The sessions of one server, be it running or not. */
export interface Administration {
  /** What is asked, for people: `the server at ./sojourn.sock`. */
  readonly subject: string
  /** What was found damaged, one line each. */
  readonly warnings: readonly string[]
  list(): Promise<SessionInfo[]>
  /** @throws SojournError where there is no such session, or more than one */
  show(name: string, withData: boolean): Promise<SessionDetails>
  /** Ends it. @throws as {@link Administration.show} */
  end(name: string): Promise<SessionInfo>
  /** Ends everything of a principal, in a running server its calls as well; the sessions that it had. */
  endPrincipal(principal: string): Promise<SessionInfo[]>
  close(): void
}

/**
 * Finds whom to ask: a server that listens, else the file.
 * @throws SojournError `listen` where no server listens, `store-unavailable` where the file cannot be used
 */
export async function administer({ socket, file }: Place): Promise<Administration> {
  const path = socket ?? (file === undefined ? '' : socketBeside(file))
  if (await isServed(path)) return new RunningServer(path)
  if (file === undefined)
    throw new SojournError(
      'listen',
      `No server listens on ${path}. One does when it was started with --admin-socket ${path}; for one that is stopped, name its file: --store sqlite:FILE`,
    )
  try {
    return new StoppedServer(file, await openSqliteFile(file))
  } catch (error) {
    if (!/used by a running server/.test(messageOf(error))) throw error
    throw new SojournError(
      'store-unavailable',
      `The session store ${file} is used by a running server that does not listen on ${path}. ` +
        'Name its administrative socket with --admin-socket FILE, or stop it first.',
      { cause: error },
    )
  }
}

class RunningServer implements Administration {
  readonly subject: string
  readonly warnings: readonly string[] = []
  readonly #socket: string

  constructor(socket: string) {
    this.#socket = socket
    this.subject = `on the server at ${socket}`
  }

  async list(): Promise<SessionInfo[]> {
    const { text } = await ask(this.#socket, 'GET', '/sessions')
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as SessionInfo)
  }

  async show(name: string, withData: boolean): Promise<SessionDetails> {
    return (await this.#one('GET', name, withData ? '?data=true' : '')) as SessionDetails
  }

  async end(name: string): Promise<SessionInfo> {
    return (await this.#one('DELETE', name, '')) as SessionInfo
  }

  async endPrincipal(principal: string): Promise<SessionInfo[]> {
    const { status, text } = await ask(
      this.#socket,
      'DELETE',
      `/sessions?principal=${encodeURIComponent(principal)}`,
    )
    const body = JSON.parse(text) as SessionInfo[] | { error?: string }
    if (status === 200 && Array.isArray(body)) return body
    throw new SojournError('request-failed', `The server failed: ${(body as { error?: string }).error}`)
  }

  close(): void {}

  async #one(method: string, name: string, query: string): Promise<unknown> {
    const { status, text } = await ask(this.#socket, method, `/sessions/${encodeURIComponent(name)}${query}`)
    const body = JSON.parse(text) as { error?: string; matches?: number }
    if (status === 404 || status === 409) throw noOneSession(name, body.matches ?? 0, this.subject)
    if (status !== 200) throw new SojournError('request-failed', `The server failed: ${body.error}`)
    return body
  }
}

class StoppedServer implements Administration {
  readonly subject: string
  readonly #file: SqliteFile

  constructor(path: string, file: SqliteFile) {
    this.subject = `in ${path}, which no server uses`
    this.#file = file
  }

  get warnings(): readonly string[] {
    return this.#file.warnings
  }

  async list(): Promise<SessionInfo[]> {
    return Array.from(this.#file.sessions(), (stored) => infoOfStored(stored, this.#file.aliveAt))
  }

  async show(name: string, withData: boolean): Promise<SessionDetails> {
    return detailsOfStored(this.#find(name), this.#file.aliveAt, withData)
  }

  async end(name: string): Promise<SessionInfo> {
    const stored = this.#find(name)
    this.#file.delete(stored.key)
    return infoOfStored(stored, this.#file.aliveAt)
  }

  async endPrincipal(principal: string): Promise<SessionInfo[]> {
    const owned = [...this.#file.sessions()]
      .map((stored) => ({ key: stored.key, info: infoOfStored(stored, this.#file.aliveAt) }))
      .filter(({ info }) => info.principal === principal)
    for (const { key } of owned) this.#file.delete(key)
    return owned.map(({ info }) => info)
  }

  close(): void {
    this.#file.close()
  }

  /** By label, or by the whole id, which tells those apart that begin alike. */
  #find(name: string): StoredSession {
    const labeled = this.#file.find(name)
    const found = labeled.length > 0 ? labeled : this.#file.find(sessionKey(name))
    const [stored] = found
    if (stored === undefined || found.length > 1) throw noOneSession(name, found.length, this.subject)
    return stored
  }
}

interface Answered {
  readonly status: number
  readonly text: string
}

function ask(socket: string, method: string, path: string): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const asking = request(
      { socketPath: fitting(socket), method, path, agent: false },
      (answer: IncomingMessage) => {
        let text = ''
        answer.setEncoding('utf8').on('data', (part: string) => (text += part))
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
        answer.on('error', reject)
      },
    )
    asking.on('error', reject).end()
  })
}

/** Whether a server listens there; a refusal and a name that nobody has say no, whatever else happens is an error. */
async function isServed(socket: string): Promise<boolean> {
  try {
    const { status } = await ask(socket, 'GET', '/')
    return status === 404
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK' || code === 'ENOTDIR')
      return false
    const hint =
      code === 'EACCES' ? 'it belongs to another user. Be that user, or root.' : `${messageOf(error)}.`
    throw new SojournError('listen', `Cannot ask the server at ${socket}: ${hint}`, { cause: error })
  }
}

function noOneSession(name: string, matches: number, where: string): SojournError {
  // Whoever gave a whole id must not find it in a log.
  const shown = name.length > 8 ? `${name.slice(0, 8)}…` : name
  return new SojournError(
    'session-closed',
    matches === 0
      ? `There is no session ${shown} ${where}. \`sojourn sessions list\` shows those there are.`
      : `${matches} sessions ${where} begin with ${shown}. Give the whole id of the one you mean.`,
  )
}

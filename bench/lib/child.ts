/** The driver's side of a measured process: start it, ask it, stop it. */

import { spawn, type ChildProcess } from 'node:child_process'
import { onCore } from './cores.ts'
import type { Answer, Question } from '../shared/ipc.ts'
import type { Ready } from '../shared/types.ts'

/** A measured process, whatever it is written in. */
export interface Process {
  /** The TCP port it listens on, 0 for none. */
  readonly port: number
  /** Asks for a command to be done. */
  ask<T>(command: string, argument?: unknown): Promise<T>
  /** Ends it. */
  stop(): Promise<void>
}

/** How a process is started. */
export interface ChildOptions {
  readonly core: number | undefined
  /** The Node that it runs on. */
  readonly node: string
  readonly entry: string
  readonly nodeFlags?: readonly string[]
  readonly argument?: string
}

/** The longest that any answer may take, in ms: a hundred thousand sessions are opened in a minute. */
const ASK_TIMEOUT = 300_000

/** A process that answers questions over IPC. */
export class Child implements Process {
  readonly #process: ChildProcess
  readonly #open = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  #stderr = ''
  #nextId = 0
  #port = 0

  private constructor(child: ChildProcess) {
    this.#process = child
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-4000)
    })
    child.on('message', (message) => this.#settle(message as Answer))
    // What it last wrote says why it died, so that is read first. (No 'close' comes after disconnect() on Node 20.)
    child.on('exit', (code, signal) => {
      const fail = (): void => this.#failAll(`the process ended (${signal ?? code}) ${this.#stderr.trim()}`)
      if (child.stderr === null || child.stderr.readableEnded) fail()
      else child.stderr.once('end', fail)
    })
    child.on('error', (error) => this.#failAll(String(error)))
  }

  /** Starts a process and waits until it is ready. */
  static async start({ core, node, entry, nodeFlags = [], argument }: ChildOptions): Promise<Child> {
    const command = onCore(core, [...nodeFlags, entry, ...(argument === undefined ? [] : [argument])], node)
    const spawned = spawn(command.file, command.args, {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, NODE_ENV: 'production', NODE_OPTIONS: '' },
    })
    const child = new Child(spawned)
    const ready = await new Promise<Ready>((resolve, reject) => {
      child.#open.set(-1, { resolve, reject })
    })
    child.#port = ready.port
    return child
  }

  get port(): number {
    return this.#port
  }

  ask<T>(command: string, argument?: unknown): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!this.#process.connected) {
        reject(new Error(`the process ended ${this.#stderr.trim()}`))
        return
      }
      const id = this.#nextId
      this.#nextId += 1
      const timer = setTimeout(() => {
        this.#open.delete(id)
        reject(new Error(`no answer to ${command} in ${ASK_TIMEOUT / 1000} s`))
      }, ASK_TIMEOUT)
      this.#open.set(id, {
        resolve(value) {
          clearTimeout(timer)
          resolve(value)
        },
        reject(error) {
          clearTimeout(timer)
          reject(error)
        },
      })
      this.#process.send({ id, command, argument } satisfies Question)
    })
  }

  /** Lets it end, and makes it end after two seconds. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const ended = new Promise((resolve) => {
      this.#process.once('exit', resolve)
    })
    if (this.#process.connected) this.#process.disconnect()
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 2000)
    await ended
    clearTimeout(timer)
  }

  #settle(message: Answer | Ready): void {
    if ('port' in message) {
      this.#open.get(-1)?.resolve(message as never)
      this.#open.delete(-1)
      return
    }
    const asked = this.#open.get(message.id)
    this.#open.delete(message.id)
    if (message.error === undefined) asked?.resolve(message.value as never)
    else asked?.reject(new Error(message.error))
  }

  #failAll(why: string): void {
    for (const { reject } of this.#open.values()) reject(new Error(why))
    this.#open.clear()
  }
}

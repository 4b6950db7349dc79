/** Who means well while R25 floods a server: official and raw clients that stay, and others that come, call, and go. */

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

import { messagesOf } from '../../bench/load/http-answer.ts'
import { rpc } from '../support/mcp-wire.ts'
import { type CallerFields, encode, LightStream, Pool } from './load.ts'
import { type GoodTimes, type Origin, startGoodClients } from './processes.ts'

/** Header fields of the `n`th of them: a name, or an address. */
export type Identity = (n: number) => CallerFields

/** Told of a promise that is broken. */
export type Violate = (text: string) => void

/** Pauses, in milliseconds. */
const BETWEEN_CALLS = 100
const BETWEEN_NEWCOMERS = 150

/** Resolves after so many milliseconds. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)))
}

/** Those who mean well: some with sessions in use the whole time, and others that come, call, and go. */
export class Healthy {
  calls = 0
  newcomers = 0
  readonly #origin: Origin
  readonly #identity: Identity
  readonly #violate: Violate
  readonly #pool: Pool
  readonly #running: Promise<void>[] = []
  readonly #streams: LightStream[] = []
  readonly #leave: (() => Promise<void> | void)[] = []
  #identities = 0
  #staying = true
  #welcoming = false
  #coming: Promise<void> = Promise.resolve()
  #times: () => Promise<GoodTimes> = () => Promise.reject(new Error('nobody was started'))

  private constructor(origin: Origin, identity: Identity, violate: Violate) {
    this.#origin = origin
    this.#identity = identity
    this.#violate = violate
    this.#pool = new Pool(origin.port, 8)
  }

  static async start(origin: Origin, identity: Identity, violate: Violate): Promise<Healthy> {
    const healthy = new Healthy(origin, identity, violate)
    try {
      for (const make of [v1, v2]) await healthy.#stay(() => official(origin, make, healthy.#next()))
      await healthy.#stay(() => healthy.#raw(healthy.#next(), true))
      await healthy.#stay(() => healthy.#raw(healthy.#next(), false))
      await healthy.#measure()
      return healthy
    } catch (error) {
      await healthy.end()
      throw error
    }
  }

  /** How long calls of a session in use took since it was last asked, by clients in a process of their own. */
  async times(): Promise<GoodTimes> {
    const times = await this.#times()
    for (const failure of times.failures) this.#violate(`a client of a session in use: ${failure}`)
    return times
  }

  /** From now on others come. */
  welcome(): void {
    this.#welcoming = true
    this.#coming = this.#takeIn()
  }

  async noMore(): Promise<void> {
    this.#welcoming = false
    await this.#coming
  }

  async #takeIn(): Promise<void> {
    let n = 0
    while (this.#welcoming) {
      await this.#comeAndGo(n++)
      await pause(BETWEEN_NEWCOMERS)
    }
  }

  /** One of the kinds comes, calls, and goes; every second one says so. */
  async #comeAndGo(n: number): Promise<void> {
    const kinds = [
      (fields: CallerFields) => official(this.#origin, v1, fields),
      (fields: CallerFields) => official(this.#origin, v2, fields),
      (fields: CallerFields) => this.#raw(fields, false),
    ]
    let client: Caller | undefined
    try {
      client = await kinds[n % kinds.length]?.(this.#next())
      for (let call = 0; call < 3; call++) await this.#call(client)
      if (n % 2 === 0) await client?.terminate()
      this.newcomers += 1
    } catch (error) {
      this.#violate(`a newcomer: ${String(error)}`)
    }
    await client?.close()
  }

  /** Everybody goes, without a word; sessions and streams were there to the end. */
  async end(): Promise<void> {
    if (!this.#staying) return
    await this.noMore()
    this.#staying = false
    await Promise.all(this.#running)
    await this.times().catch((error: unknown) => this.#violate(String(error)))
    const heard = this.#streams.map((stream) => stream.until(stream.heard + 1))
    await this.#origin.broadcast()
    for (const one of await Promise.allSettled(heard))
      if (one.status === 'rejected') this.#violate(`a stream in use: ${String(one.reason)}`)
    for (const leave of this.#leave) await leave()
    this.#pool.close()
  }

  #next(): CallerFields {
    this.#identities += 1
    return this.#identity(this.#identities)
  }

  /** A session that is used until the end, and stays the same one. */
  async #stay(make: () => Promise<Caller>): Promise<void> {
    const client = await make()
    this.#leave.push(() => client.close())
    const work = async (): Promise<void> => {
      const { session } = client
      while (this.#staying) {
        await this.#call(client).catch((error: unknown) =>
          this.#violate(`a session in use: ${String(error)}`),
        )
        await pause(BETWEEN_CALLS)
      }
      if (client.session !== session) this.#violate('a client had to open another session')
    }
    this.#running.push(work())
  }

  async #call(client: Caller | undefined): Promise<void> {
    const text = `call ${(this.calls += 1)}`
    const answer = await client?.call(text)
    if (answer !== text) throw new Error(`'${text}' was answered with ${String(answer)}`)
  }

  async #raw(fields: CallerFields, stream: boolean): Promise<Caller> {
    const session = await this.#pool.open(fields)
    if (stream) {
      const opened = await LightStream.open(this.#origin.port, session, { fields })
      this.#streams.push(opened)
      this.#leave.push(() => opened.cut())
    }
    return {
      session,
      call: async (text) => {
        const answer = await this.#pool.ask(encode('POST', { session, fields }, echo(text)))
        if (answer.status !== 200) return `${answer.status} ${answer.body}`
        return textOf((messagesOf(answer).at(-1) as { result?: unknown }).result)
      },
      terminate: async () => {
        const { status } = await this.#pool.ask(encode('DELETE', { session, fields }))
        if (status !== 200) throw new Error(`DELETE was answered with ${status}`)
      },
      close: () => {},
    }
  }

  async #measure(): Promise<void> {
    const fields = this.#next()
    const session = await this.#pool.open(fields)
    const url = `http://127.0.0.1:${this.#origin.port}/mcp`
    const clients = await startGoodClients({ url, session, fields, message: echo('measured') })
    this.#times = () => clients.times()
    this.#leave.push(() => clients.stop())
  }
}

/** A client with a session, whatever it is made of. */
interface Caller {
  readonly session: string | undefined
  call(text: string): Promise<string>
  terminate(): Promise<void>
  close(): Promise<void> | void
}

const INFO = { name: 'healthy', version: '1' }
const v1 = (url: URL, headers: CallerFields): [ClientV1, TransportV1] => [
  new ClientV1(INFO),
  new TransportV1(url, { requestInit: { headers } }),
]
const v2 = (url: URL, headers: CallerFields): [Client, StreamableHTTPClientTransport] => [
  new Client(INFO),
  new StreamableHTTPClientTransport(url, { requestInit: { headers } }),
]

/** An official client, connected. */
async function official(
  { port }: Origin,
  make: typeof v1 | typeof v2,
  fields: CallerFields,
): Promise<Caller> {
  const [client, transport] = make(new URL(`http://127.0.0.1:${port}/mcp`), fields)
  await (client as Client).connect(transport)
  return {
    get session() {
      return transport.sessionId
    },
    call: async (text) => textOf(await (client as Client).callTool({ name: 'echo', arguments: { text } })),
    terminate: () => transport.terminateSession(),
    close: () => client.close(),
  }
}

const echo = (text: string): object => rpc('tools/call', { name: 'echo', arguments: { text } })

function textOf(result: unknown): string {
  const { content } = result as { content?: { text?: string }[] }
  return content?.[0]?.text ?? JSON.stringify(result)
}

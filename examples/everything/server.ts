/** The example server: one of everything an MCP server can offer, each as small as it can be. `npm start` serves it. */

import { setTimeout as delay } from 'node:timers/promises'

import {
  McpServer,
  ResourceNotFoundError,
  acceptedContent,
  completable,
  inputRequired,
  inputResponse,
} from '@modelcontextprotocol/server'
import type {
  CallToolResult,
  CreateMessageResult,
  CreateMessageResultWithTools,
} from '@modelcontextprotocol/server'
import type { JsonValue, ServerContext } from 'sojourn'
import { z } from 'zod'

// One server is built per session. What is the same for all of them stands here and not in the factory:
// a schema made per session is memory held per session.
const echoInput = z.object({ text: z.string().describe('What to say back') })
const addInput = z.object({ a: z.number(), b: z.number() })
const addOutput = z.object({ sum: z.number() })
const sleepInput = z.object({
  ms: z.number().int().min(0).max(86_400_000).describe('How long to sleep, in milliseconds; at most a day'),
})
const askInput = z.object({ question: z.string().default('Who are you?').describe('What to ask the user') })
const askForm = z.object({
  name: z.string().describe('Your name'),
  color: z.enum(['red', 'green', 'blue']).describe('Your favorite color'),
})
const sampleInput = z.object({
  prompt: z.string().describe("What to ask the client's model"),
  maxTokens: z.number().int().min(1).default(100),
})
const languages = ['Danish', 'Dutch', 'English', 'French', 'German', 'Spanish']
const greetingArgs = z.object({
  name: z.string().describe('Whom to greet'),
  language: completable(z.string().describe('In which language'), (start) =>
    languages.filter((language) => language.toLowerCase().startsWith(start.toLowerCase())),
  ),
})

const clockUri = 'clock://now'
const aboutUri = 'about://everything'
const clockInterval = 1000
const progressInterval = 100

/** Builds the server of one session. Sojourn gives the context; without one (over stdio, in a test) everything still works. */
export function createServer(context?: ServerContext): McpServer {
  const legacy = context?.era !== 'modern'
  const server = new McpServer(
    { name: 'everything', title: 'Everything', version: '1.0.0' },
    // `resources/subscribe` belongs to the protocol revisions with a handshake, and only it makes the clock tick. Without the capability a
    // `subscriptions/listen` of 2026-07-28 gets no updates of resources either: see examples/notify for a server that has both.
    legacy ? { capabilities: { resources: { subscribe: true } } } : {},
  )

  server.registerTool(
    'echo',
    { description: 'Says back what it is told', inputSchema: echoInput },
    ({ text: said }) => text(said),
  )

  server.registerTool(
    'add',
    { description: 'Adds two numbers', inputSchema: addInput, outputSchema: addOutput },
    ({ a, b }) => ({ ...text(String(a + b)), structuredContent: { sum: a + b } }),
  )

  server.registerTool(
    'sleep',
    {
      description: `Sleeps, and reports progress every ${progressInterval} ms to clients that ask for it`,
      inputSchema: sleepInput,
    },
    async ({ ms }, { mcpReq }) => {
      const progressToken = mcpReq._meta?.progressToken
      const step = progressToken === undefined ? ms : progressInterval
      const started = performance.now()
      for (let slept = 0; slept < ms;) {
        slept = Math.min(slept + step, ms)
        // Counted from the start, so that late timers do not add up. Rejects when the call is cancelled or the session ends.
        await delay(Math.max(0, started + slept - performance.now()), undefined, { signal: mcpReq.signal })
        if (progressToken !== undefined) {
          await mcpReq.notify({
            method: 'notifications/progress',
            params: { progressToken, progress: slept, total: ms },
          })
        }
      }
      return text(`Slept ${ms} ms`)
    },
  )

  // `session.data` outlives this server: it is there again when the session wakes up with a new one.
  let countWithoutSession = 0
  server.registerTool('count', { description: 'Counts the calls of this session' }, () => {
    if (context === undefined) return text(String(++countWithoutSession))
    const { session } = context
    const count = countIn(session.data) + 1
    session.data = { count }
    return text(String(count))
  })

  server.registerTool(
    'whoami',
    { description: 'Says which session this is, who owns it and which era of the protocol it speaks' },
    () =>
      text(
        JSON.stringify({
          // Only its start: whoever knows the whole id can use the session.
          session: context?.session.id?.slice(0, 8) ?? null,
          principal: context?.session.principal ?? null,
          era: context?.era ?? null,
        }),
      ),
  )

  // `inputRequired` works in both eras: with a handshake the SDK sends the request to the client and calls the handler again.
  server.registerTool(
    'ask',
    { description: 'Asks the user for a name and a color, by elicitation', inputSchema: askInput },
    ({ question }, { mcpReq }) => {
      const answer = inputResponse(mcpReq.inputResponses, 'form')
      if (answer.kind !== 'elicit') {
        return inputRequired({
          inputRequests: { form: inputRequired.elicit({ message: question, requestedSchema: askForm }) },
        })
      }
      if (answer.action === 'decline') return text('The user declined')
      if (answer.action === 'cancel') return text('The user cancelled')
      const form = acceptedContent(mcpReq.inputResponses, 'form', askForm)
      if (form === undefined) return failure('The user accepted, but the answer does not fit the form')
      return text(`The user accepted: ${form.name} likes ${form.color}`)
    },
  )

  server.registerTool(
    'sample',
    { description: "Has the client's model answer a prompt, by sampling", inputSchema: sampleInput },
    ({ prompt, maxTokens }, { mcpReq }) => {
      const answer = inputResponse(mcpReq.inputResponses, 'answer')
      if (answer.kind === 'sampling') return text(`${answer.result.model} answered: ${textOf(answer.result)}`)
      return inputRequired({
        inputRequests: {
          answer: inputRequired.createMessage({
            messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
            maxTokens,
          }),
        },
      })
    },
  )

  server.registerResource(
    'clock',
    clockUri,
    { description: 'The time; subscribers hear of every second', mimeType: 'text/plain' },
    (uri) => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text: new Date().toISOString() }] }),
  )

  server.registerResource(
    'about',
    aboutUri,
    { description: 'What this server is', mimeType: 'text/markdown' },
    (uri) => ({
      contents: [
        {
          uri: uri.href,
          mimeType: 'text/markdown',
          text: '# Everything\n\nThe example server of Sojourn.\n',
        },
      ],
    }),
  )

  server.registerPrompt(
    'greeting',
    { description: 'Asks for a greeting', argsSchema: greetingArgs },
    ({ name, language }) => ({
      messages: [
        { role: 'user', content: { type: 'text', text: `Greet ${name} in ${language}, in one sentence.` } },
      ],
    }),
  )

  if (legacy) tellSubscribers(server, context?.instanceSignal)
  return server
}

export default createServer

/** Accepts subscriptions, and lets a clock tick as long as somebody is subscribed to it. */
function tellSubscribers(server: McpServer, instanceSignal: AbortSignal | undefined): void {
  const { server: protocol } = server
  let ticking: NodeJS.Timeout | undefined

  const stop = (): void => {
    clearInterval(ticking)
    ticking = undefined
    instanceSignal?.removeEventListener('abort', stop)
  }

  protocol.setRequestHandler('resources/subscribe', ({ params: { uri } }) => {
    if (uri !== clockUri && uri !== aboutUri) throw new ResourceNotFoundError(uri)
    if (uri === clockUri && ticking === undefined && !instanceSignal?.aborted) {
      // A send that fails means that the client is gone. Without `unref` a subscription would keep the process from ending.
      ticking = setInterval(
        () => void protocol.sendResourceUpdated({ uri }).catch(stop),
        clockInterval,
      ).unref()
      instanceSignal?.addEventListener('abort', stop, { once: true })
    }
    return {}
  })

  protocol.setRequestHandler('resources/unsubscribe', ({ params: { uri } }) => {
    if (uri === clockUri) stop()
    return {}
  })
}

function text(text: string): CallToolResult {
  return { content: [{ type: 'text', text }] }
}

function failure(message: string): CallToolResult {
  return { ...text(message), isError: true }
}

function textOf({ content }: CreateMessageResult | CreateMessageResultWithTools): string {
  const blocks = Array.isArray(content) ? content : [content]
  return blocks.map((block) => (block.type === 'text' ? block.text : `[${block.type}]`)).join('\n')
}

function countIn(data: JsonValue): number {
  const count = typeof data === 'object' && data !== null && 'count' in data ? data.count : undefined
  return typeof count === 'number' ? count : 0
}

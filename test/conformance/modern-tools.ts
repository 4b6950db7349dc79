/** What the suite asks for only in revision 2026-07-28: several rounds instead of requests to the client, custom headers, announcements. */

import { randomBytes } from 'node:crypto'

import {
  acceptedContent,
  createRequestStateCodec,
  fromJsonSchema,
  inputRequired,
  inputResponse,
} from '@modelcontextprotocol/server'
import type {
  CallToolResult,
  InputRequiredResult,
  McpServer,
  ServerOptions,
} from '@modelcontextprotocol/server'
import { z } from 'zod'

import type { Announcements } from 'sojourn'

/** Signs what clients carry from round to round; every server of this process takes it. */
const state = createRequestStateCodec<string>({ key: randomBytes(32) })

/** Makes a server refuse a state that is not its own. */
export const stateOptions: Pick<ServerOptions, 'requestState'> = { requestState: { verify: state.verify } }

/** Whoever is told when a list changes. */
export type Announce = Pick<Announcements, 'toolsChanged' | 'promptsChanged'>

const nameForm = z.object({ name: z.string() })
const colorForm = z.object({ color: z.string() })
const okForm = z.object({ ok: z.boolean() })
const contextForm = z.object({ context: z.string() })

const askName = inputRequired.elicit({ message: 'What is your name?', requestedSchema: nameForm })
const askOk = inputRequired.elicit({ message: 'Please confirm', requestedSchema: okForm })

/** Adds the tools and the prompt. */
export function addModernTools(server: McpServer, announce: Announce | undefined): void {
  addRounds(server)
  addStates(server)
  addDiagnostics(server, announce)
  server.registerPrompt(
    'test_input_required_result_prompt',
    { description: 'A prompt that asks for its context' },
    ({ mcpReq }) => {
      const given = acceptedContent(mcpReq.inputResponses, 'user_context', contextForm)
      if (given !== undefined)
        return { messages: [{ role: 'user', content: { type: 'text', text: given.context } }] }
      const ask = { message: 'What context should the prompt use?', requestedSchema: contextForm }
      return inputRequired({ inputRequests: { user_context: inputRequired.elicit(ask) } })
    },
  )
}

function addRounds(server: McpServer): void {
  server.registerTool(
    'test_input_required_result_elicitation',
    { description: 'Asks for more before it answers' },
    ({ mcpReq }) => {
      const given = acceptedContent(mcpReq.inputResponses, 'user_name', nameForm)
      return given === undefined
        ? inputRequired({ inputRequests: { user_name: askName } })
        : said(`Hello, ${given.name}!`)
    },
  )
  server.registerTool(
    'test_input_required_result_sampling',
    { description: 'Asks for more before it answers' },
    ({ mcpReq }) => {
      const given = inputResponse(mcpReq.inputResponses, 'capital_question')
      return given.kind === 'sampling'
        ? said(JSON.stringify(given.result.content))
        : inputRequired({ inputRequests: { capital_question: sampling('What is the capital of France?') } })
    },
  )
  server.registerTool(
    'test_input_required_result_list_roots',
    { description: 'Asks for more before it answers' },
    ({ mcpReq }) => {
      const given = inputResponse(mcpReq.inputResponses, 'client_roots')
      return given.kind === 'roots'
        ? said(given.roots.map(({ uri }) => uri).join(', '))
        : inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } })
    },
  )
  server.registerTool(
    'test_input_required_result_capabilities',
    { description: 'Asks for more before it answers' },
    () => {
      const can = server.server.getClientCapabilities()
      return inputRequired({
        inputRequests: {
          ...(can?.sampling && { greeting: sampling('Generate a greeting') }),
          ...(can?.elicitation && { user_name: askName }),
        },
        requestState: 'nothing',
      })
    },
  )
}

function addStates(server: McpServer): void {
  for (const name of [
    'test_input_required_result_request_state',
    'test_input_required_result_tampered_state',
  ]) {
    server.registerTool(name, { description: 'Asks for more, with a signed state' }, async ({ mcpReq }) => {
      const given = acceptedContent(mcpReq.inputResponses, 'confirm', okForm)
      return given !== undefined && mcpReq.requestState<string>() === name
        ? said('state-ok')
        : inputRequired({ inputRequests: { confirm: askOk }, requestState: await state.mint(name) })
    })
  }
  server.registerTool(
    'test_input_required_result_multiple_inputs',
    { description: 'Asks for more before it answers' },
    async ({ mcpReq }) => {
      const responses = mcpReq.inputResponses
      const greeting = inputResponse(responses, 'greeting')
      const roots = inputResponse(responses, 'client_roots')
      const given = acceptedContent(responses, 'user_name', nameForm)
      if (given !== undefined && greeting.kind === 'sampling' && roots.kind === 'roots')
        return said(`${given.name}, ${roots.roots.length} roots`)
      return inputRequired({
        inputRequests: {
          user_name: askName,
          greeting: sampling('Generate a greeting'),
          client_roots: inputRequired.listRoots(),
        },
        requestState: await state.mint('inputs'),
      })
    },
  )
  server.registerTool(
    'test_input_required_result_multi_round',
    { description: 'Asks for more before it answers' },
    async ({ mcpReq }) => {
      const color = acceptedContent(mcpReq.inputResponses, 'step2', colorForm)
      if (color !== undefined) return said(`${mcpReq.requestState<string>()} likes ${color.color}`)
      const given = acceptedContent(mcpReq.inputResponses, 'step1', nameForm)
      const next: Record<string, typeof askName> =
        given === undefined
          ? {
              step1: inputRequired.elicit({
                message: 'Step 1: What is your name?',
                requestedSchema: nameForm,
              }),
            }
          : {
              step2: inputRequired.elicit({
                message: 'Step 2: What is your favorite color?',
                requestedSchema: colorForm,
              }),
            }
      return inputRequired({ inputRequests: next, requestState: await state.mint(given?.name ?? '') })
    },
  )
}

const region: object = { type: 'string', 'x-mcp-header': 'Region' }

function addDiagnostics(server: McpServer, announce: Announce | undefined): void {
  server.registerTool('test_missing_capability', { description: "Needs the client's model" }, () =>
    inputRequired({ inputRequests: { greeting: sampling('Generate a greeting') } }),
  )
  server.registerTool(
    'test_streaming_elicitation',
    { description: 'Asks the user in the middle of a stream' },
    async ({ mcpReq }): Promise<CallToolResult | InputRequiredResult> => {
      const given = acceptedContent(mcpReq.inputResponses, 'user_name', nameForm)
      if (given !== undefined) return said(given.name)
      const progressToken = mcpReq._meta?.progressToken
      if (progressToken !== undefined)
        await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress: 1 } })
      return inputRequired({ inputRequests: { user_name: askName } })
    },
  )
  server.registerTool(
    'test_logging_tool',
    { description: 'Logs for those who asked' },
    async ({ mcpReq }) => {
      await mcpReq.log('info', 'for those who asked')
      return said('logged')
    },
  )
  server.registerTool('test_trigger_tool_change', { description: 'Announces other tools' }, () => {
    announce?.toolsChanged()
    return said('announced')
  })
  server.registerTool('test_trigger_prompt_change', { description: 'Announces other prompts' }, () => {
    announce?.promptsChanged()
    return said('announced')
  })
  server.registerTool(
    'test_custom_header',
    {
      description: 'Has an argument that travels in a header as well (SEP-2243)',
      inputSchema: fromJsonSchema<{ region: string }>({
        type: 'object',
        properties: { region },
        required: ['region'],
      }),
    },
    (input) => said(input.region),
  )
}

function sampling(text: string): ReturnType<typeof inputRequired.createMessage> {
  return inputRequired.createMessage({
    messages: [{ role: 'user', content: { type: 'text', text } }],
    maxTokens: 100,
  })
}

function said(text: string): CallToolResult {
  return { content: [{ type: 'text', text }] }
}

/** The server that the official conformance suite asks for: its tools, resources and prompts, by the names it calls them. */

import { setTimeout as delay } from 'node:timers/promises'

import { McpServer, ResourceTemplate, completable, fromJsonSchema } from '@modelcontextprotocol/server'
import type { CallToolResult, ContentBlock, ElicitRequestFormParams } from '@modelcontextprotocol/server'
import { z } from 'zod'

import { type Announce, addModernTools, stateOptions } from './modern-tools.ts'

/** One red pixel. */
const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=='
/** A WAV file without samples. */
const wav = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA='

const promptInput = z.object({ prompt: z.string() })
const messageInput = z.object({ message: z.string() })
const promptArgs = z.object({
  arg1: completable(z.string().describe('First test argument'), (start) =>
    ['paris', 'park', 'party', 'test'].filter((value) => value.startsWith(start)),
  ),
  arg2: z.string().describe('Second test argument'),
})
const resourceArgs = z.object({ resourceUri: z.string().describe('URI of the resource to embed') })

const jsonSchema2020 = fromJsonSchema({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
})

type FormSchema = ElicitRequestFormParams['requestedSchema']

const userForm: FormSchema = {
  type: 'object',
  properties: {
    username: { type: 'string', description: "User's response" },
    email: { type: 'string', description: "User's email address" },
  },
  required: ['username', 'email'],
}

/** SEP-1034: a default for each primitive type. */
const defaultsForm: FormSchema = {
  type: 'object',
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  },
}

/** SEP-1330: the five shapes of an enum. */
const enumsForm: FormSchema = {
  type: 'object',
  properties: {
    untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
    titledSingle: {
      type: 'string',
      oneOf: [
        { const: 'value1', title: 'First Option' },
        { const: 'value2', title: 'Second Option' },
        { const: 'value3', title: 'Third Option' },
      ],
    },
    legacyEnum: {
      type: 'string',
      enum: ['opt1', 'opt2', 'opt3'],
      enumNames: ['Option One', 'Option Two', 'Option Three'],
    },
    untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
    titledMulti: {
      type: 'array',
      items: {
        anyOf: [
          { const: 'value1', title: 'First Choice' },
          { const: 'value2', title: 'Second Choice' },
          { const: 'value3', title: 'Third Choice' },
        ],
      },
    },
  },
}

/**
 * Builds the server of one session, or of one request.
 *
 * @param announce whoever is told when a tool is asked to change a list
 */
export function createServer(announce?: Announce): McpServer {
  const server = new McpServer(
    { name: 'conformance-fixture', version: '1.0.0' },
    { capabilities: { logging: {}, resources: { subscribe: true } }, ...stateOptions },
  )
  addContentTools(server)
  addConversingTools(server)
  addResources(server)
  addPrompts(server)
  addModernTools(server, announce)
  return server
}

function addContentTools(server: McpServer): void {
  server.registerTool('test_simple_text', { description: 'Returns text' }, () =>
    result(text('This is a simple text response for testing.')),
  )
  server.registerTool('test_image_content', { description: 'Returns an image' }, () =>
    result({ type: 'image', data: png, mimeType: 'image/png' }),
  )
  server.registerTool('test_audio_content', { description: 'Returns audio' }, () =>
    result({ type: 'audio', data: wav, mimeType: 'audio/wav' }),
  )
  server.registerTool('test_embedded_resource', { description: 'Returns an embedded resource' }, () =>
    result({
      type: 'resource',
      resource: {
        uri: 'test://embedded-resource',
        mimeType: 'text/plain',
        text: 'This is an embedded resource content.',
      },
    }),
  )
  server.registerTool(
    'test_multiple_content_types',
    { description: 'Returns text, an image and a resource' },
    () =>
      result(
        text('Multiple content types test:'),
        { type: 'image', data: png, mimeType: 'image/png' },
        {
          type: 'resource',
          resource: {
            uri: 'test://mixed-content-resource',
            mimeType: 'application/json',
            text: JSON.stringify({ test: 'data', value: 123 }),
          },
        },
      ),
  )
  server.registerTool('test_error_handling', { description: 'Always fails' }, () => {
    throw new Error('This tool intentionally returns an error for testing')
  })
  server.registerTool(
    'json_schema_2020_12_tool',
    { description: 'Tool with JSON Schema 2020-12 features', inputSchema: jsonSchema2020 },
    (input) => result(text(JSON.stringify(input))),
  )
}

/**
 * Tools that say something before they answer. Those that ask the client name the request they handle: SDK v2 does not by itself,
 * and then the official transport sends the question on the GET stream and loses it when that is not open yet (23 of 60 runs).
 */
function addConversingTools(server: McpServer): void {
  server.registerTool('test_tool_with_logging', { description: 'Logs three times' }, async ({ mcpReq }) => {
    await mcpReq.log('info', 'Tool execution started')
    await delay(50)
    await mcpReq.log('info', 'Tool processing data')
    await delay(50)
    await mcpReq.log('info', 'Tool execution completed')
    return result(text('Tool with logging executed successfully'))
  })

  server.registerTool(
    'test_tool_with_progress',
    { description: 'Reports progress three times' },
    async ({ mcpReq }) => {
      const progressToken = mcpReq._meta?.progressToken
      for (const progress of [0, 50, 100]) {
        if (progress > 0) await delay(50)
        if (progressToken === undefined) continue
        await mcpReq.notify({
          method: 'notifications/progress',
          params: { progressToken, progress, total: 100, message: `Completed ${progress} of 100` },
        })
      }
      return result(text(`Progress reported to ${String(progressToken)}`))
    },
  )

  server.registerTool(
    'test_sampling',
    { description: "Asks the client's model", inputSchema: promptInput },
    async ({ prompt }, { mcpReq }) => {
      const answer = await mcpReq.requestSampling(
        { messages: [{ role: 'user', content: text(prompt) }], maxTokens: 100 },
        { relatedRequestId: mcpReq.id },
      )
      const blocks = Array.isArray(answer.content) ? answer.content : [answer.content]
      const said = blocks.map((block) => (block.type === 'text' ? block.text : `[${block.type}]`)).join('\n')
      return result(text(`LLM response: ${said}`))
    },
  )

  server.registerTool(
    'test_elicitation',
    { description: 'Asks the user for a name and an address', inputSchema: messageInput },
    async ({ message }, { mcpReq }) => {
      const answer = await mcpReq.elicitInput(
        { mode: 'form', message, requestedSchema: userForm },
        { relatedRequestId: mcpReq.id },
      )
      return result(text(`User response: ${JSON.stringify(answer)}`))
    },
  )

  for (const [name, requestedSchema] of [
    ['test_elicitation_sep1034_defaults', defaultsForm],
    ['test_elicitation_sep1330_enums', enumsForm],
  ] as const) {
    server.registerTool(name, { description: 'Asks the user with a given form' }, async ({ mcpReq }) => {
      const { action, content } = await mcpReq.elicitInput(
        { mode: 'form', message: 'Please fill in', requestedSchema },
        { relatedRequestId: mcpReq.id },
      )
      return result(text(`Elicitation completed: action=${action}, content=${JSON.stringify(content ?? {})}`))
    })
  }

  server.registerTool(
    'test_reconnection',
    { description: 'Closes its SSE connection before it answers, so that the client polls (SEP-1699)' },
    async ({ http }) => {
      await delay(100)
      http?.closeSSE?.()
      await delay(100)
      return result(text('Reconnection test completed successfully'))
    },
  )
}

function addResources(server: McpServer): void {
  server.registerResource(
    'static-text',
    'test://static-text',
    { description: 'Text that never changes', mimeType: 'text/plain' },
    ({ href }) => ({
      contents: [
        { uri: href, mimeType: 'text/plain', text: 'This is the content of the static text resource.' },
      ],
    }),
  )
  server.registerResource(
    'static-binary',
    'test://static-binary',
    { description: 'An image that never changes', mimeType: 'image/png' },
    ({ href }) => ({ contents: [{ uri: href, mimeType: 'image/png', blob: png }] }),
  )
  server.registerResource(
    'watched-resource',
    'test://watched-resource',
    { description: 'A resource to subscribe to', mimeType: 'text/plain' },
    ({ href }) => ({ contents: [{ uri: href, mimeType: 'text/plain', text: 'Watched resource content.' }] }),
  )
  server.registerResource(
    'template',
    new ResourceTemplate('test://template/{id}/data', { list: undefined }),
    { description: 'A resource with a parameter', mimeType: 'application/json' },
    ({ href }, { id }) => ({
      contents: [
        {
          uri: href,
          mimeType: 'application/json',
          text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${String(id)}` }),
        },
      ],
    }),
  )

  // The suite looks at the empty answers only: nothing here ever changes.
  server.server.setRequestHandler('resources/subscribe', () => ({}))
  server.server.setRequestHandler('resources/unsubscribe', () => ({}))
}

function addPrompts(server: McpServer): void {
  server.registerPrompt('test_simple_prompt', { description: 'A prompt without arguments' }, () => ({
    messages: [{ role: 'user', content: text('This is a simple prompt for testing.') }],
  }))
  server.registerPrompt(
    'test_prompt_with_arguments',
    { description: 'A prompt with arguments', argsSchema: promptArgs },
    ({ arg1, arg2 }) => ({
      messages: [{ role: 'user', content: text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`) }],
    }),
  )
  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    { description: 'A prompt with an embedded resource', argsSchema: resourceArgs },
    ({ resourceUri }) => ({
      messages: [
        {
          role: 'user',
          content: {
            type: 'resource',
            resource: {
              uri: resourceUri,
              mimeType: 'text/plain',
              text: 'Embedded resource content for testing.',
            },
          },
        },
        { role: 'user', content: text('Please process the embedded resource above.') },
      ],
    }),
  )
  server.registerPrompt('test_prompt_with_image', { description: 'A prompt with an image' }, () => ({
    messages: [
      { role: 'user', content: { type: 'image', data: png, mimeType: 'image/png' } },
      { role: 'user', content: text('Please analyze the image above.') },
    ],
  }))
}

function text(text: string): { type: 'text'; text: string } {
  return { type: 'text', text }
}

function result(...content: ContentBlock[]): CallToolResult {
  return { content }
}

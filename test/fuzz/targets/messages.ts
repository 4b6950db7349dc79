/** Bodies: from bytes to JSON-RPC messages of an era, as both official SDKs recognize them. */

import * as v1 from '@modelcontextprotocol/sdk/types.js'
import * as v2 from '@modelcontextprotocol/server'

import { decodeJson } from '../../../src/http/body.ts'
import { decideEra } from '../../../src/http/era.ts'
import { errorBody } from '../../../src/jsonrpc/errors.ts'
import { isRequestId, parseMessages } from '../../../src/jsonrpc/message.ts'
import { must, utf8, type Target } from '../target.ts'

const META = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'c', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}

/** Before the first empty line, header fields that decide the era; behind it the body. */
export const messages: Target = {
  name: 'messages',
  about: 'bodies: UTF-8, JSON, JSON-RPC, and the era they belong to',
  seeds: [
    '\n\n{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":"t"}}}',
    '\n\n{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9007199254740991}}',
    '\n\n[{"jsonrpc":"2.0","id":"a","result":{}},{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"no","data":[1]}}]',
    `mcp-protocol-version: 2026-07-28\nmcp-method: tools/list\n\n${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta: META } })}`,
    `mcp-protocol-version: 2025-11-25\nmcp-method: tools/call\nmcp-name: x\n\n${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'x', _meta: META } })}`,
    '\n\n{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}}',
  ],
  words: ['"jsonrpc":"2.0"', '"id":', '"method":', '"params":', '"result":', '"error":', '"code":', '"message":', '"_meta":', '"progressToken":', '"initialize"', '"ping"', ...Object.keys(META).map((key) => `"${key}":`), 'mcp-protocol-version: ', 'mcp-method: ', 'mcp-name: ', '2026-07-28', '2025-11-25', '[', ']', '{', '}', ','], // prettier-ignore
  longest: 8192,
  deadline: 1000,
  open: () => ({
    run(input) {
      const end = Buffer.from(input).indexOf('\n\n')
      const head = utf8(input.subarray(0, Math.max(0, end)))
      const fields = new Map(
        head.split('\n').map((line) => {
          const colon = line.indexOf(': ')
          return [line.slice(0, colon), line.slice(colon + 2)] as const
        }),
      )
      const bytes = input.subarray(end < 0 ? 0 : end + 2)
      const decoded = decodeJson(bytes)
      if (!decoded.ok) return
      const read = parseMessages(decoded.value)
      if (!read.ok) {
        must(read.id === null || isRequestId(read.id), 'a refusal has an id that is none')
        const body = JSON.parse(errorBody(-32600, read.message, read.id)) as { id: unknown }
        must(body.id === read.id, 'an id changes on its way into a refusal')
        return
      }
      for (const { kind, message } of read.messages) {
        must(kindOf(v1, message) === kind, `SDK v1 takes a ${kind} for ${kindOf(v1, message) ?? 'nothing'}`)
        must(kindOf(v2, message) === kind, `SDK v2 takes a ${kind} for ${kindOf(v2, message) ?? 'nothing'}`)
        const again = parseMessages(JSON.parse(JSON.stringify(message)))
        must(again.ok && again.messages[0]?.kind === kind, 'a message is read differently when written again')
      }
      const era = decideEra(decoded.value, read.messages, { header: (name) => fields.get(name) })
      if (era.kind === 'rejected') {
        const { status, code, id } = era.refusal
        must(status >= 400 && status < 500, `the era is refused with ${status}`)
        must(Number.isSafeInteger(code) && code < 0, `the era is refused with the code ${code}`)
        must(id === null || isRequestId(id), 'a refused era has an id that is none')
        JSON.stringify(era.refusal.data)
      }
      if (era.kind === 'modern') must(!Array.isArray(decoded.value), 'a batch is of the era without batches')
    },
  }),
}

/** What an SDK recognizes a message as. */
function kindOf(sdk: typeof v1 | typeof v2, message: unknown): string | undefined {
  if (sdk.isJSONRPCRequest(message)) return 'request'
  if (sdk.isJSONRPCNotification(message)) return 'notification'
  return sdk.isJSONRPCResultResponse(message) || sdk.isJSONRPCErrorResponse(message) ? 'response' : undefined
}

/** The official client logs its user in: a browser is sent to the authorization server, and comes back here with a code. */

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import {
  Client,
  type OAuthClientProvider,
  type OAuthDiscoveryState,
  type OAuthTokens,
  StreamableHTTPClientTransport,
  UnauthorizedError,
} from '@modelcontextprotocol/client'

const url = new URL(process.argv[2] ?? 'http://127.0.0.1:3000/mcp')

// Where the browser comes back to.
const http = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', redirectUrl)
  response.end('You can close this page.')
  if (pathname === '/callback') http.emit('login', searchParams)
})
await once(http.listen(0, '127.0.0.1'), 'listening')
const redirectUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}/callback`

/** What the client keeps for its user. A real one keeps it longer than its process lives. */
class Login implements OAuthClientProvider {
  readonly redirectUrl = redirectUrl
  // For issuers that do not know this client: it registers itself there, where `clientInformation` gives nothing.
  readonly clientMetadata = { redirect_uris: [redirectUrl] }
  #tokens: OAuthTokens | undefined
  #verifier = ''
  #discovered: OAuthDiscoveryState | undefined

  clientInformation(): { client_id: string } {
    return { client_id: 'login-example' }
  }

  tokens(): OAuthTokens | undefined {
    return this.#tokens
  }

  saveTokens(tokens: OAuthTokens): void {
    this.#tokens = tokens
  }

  codeVerifier(): string {
    return this.#verifier
  }

  saveCodeVerifier(verifier: string): void {
    this.#verifier = verifier
  }

  discoveryState(): OAuthDiscoveryState | undefined {
    return this.#discovered
  }

  saveDiscoveryState(discovered: OAuthDiscoveryState): void {
    this.#discovered = discovered
  }

  redirectToAuthorization(to: URL): void {
    console.log(`Open in your browser: ${to.href}`)
  }
}

const authProvider = new Login()
const newTransport = (): StreamableHTTPClientTransport =>
  new StreamableHTTPClientTransport(url, { authProvider })
let transport = newTransport()

/** Does something. Where that needs a login, or a scope that nobody agreed to yet, waits for the browser and does it again. */
async function withLogin<T>(task: () => Promise<T>): Promise<T> {
  const back = once(http, 'login') as Promise<[URLSearchParams]>
  try {
    return await task()
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error
    const [answer] = await back
    const code = answer.get('code')
    if (code === null)
      throw new Error(`the login failed: ${answer.get('error_description')}`, { cause: error })
    // `iss` says who answered (RFC 9207): the client compares it with whom it asked.
    await transport.finishAuth(code, answer.get('iss') ?? undefined)
    return task()
  }
}

const client = new Client({ name: 'login-example', version: '1.0.0' })
const say = async (name: string, args = {}): Promise<void> =>
  console.log(JSON.stringify((await client.callTool({ name, arguments: args })).content))

await withLogin(() => client.connect((transport = newTransport()))) // 401: log in
await say('read_notes')
await withLogin(() => say('add_note', { text: 'buy milk' })) // 403: agree to notes:write
await say('read_notes')

await client.close()
http.close()
http.closeAllConnections()

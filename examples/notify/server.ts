/** Notifications from outside a handler: a tool starts a build and returns; what happens later is told to who wants to know. */

import { McpServer } from '@modelcontextprotocol/server'
import { runHttp, type ServerContext } from 'sojourn'

const latestBuild = 'build://latest'
let builds = 0

/** Stands for what happens elsewhere: a queue, a webhook, another process. */
function build(done: (text: string) => void): void {
  setTimeout(() => {
    builds += 1
    done(`Build ${builds} is done`)
  }, 200)
}

function createServer({ session }: ServerContext): McpServer {
  const server = new McpServer(
    { name: 'notify-example', version: '1.0.0' },
    { capabilities: { logging: {}, resources: { subscribe: true } } },
  )
  // Sojourn keeps the subscriptions; to accept them is up to the server.
  server.server.setRequestHandler('resources/subscribe', () => ({}))
  server.server.setRequestHandler('resources/unsubscribe', () => ({}))
  server.registerResource('latest build', latestBuild, {}, (uri) => ({
    contents: [{ uri: uri.href, text: `${builds} builds so far` }],
  }))
  server.registerTool('build', { description: 'Starts a build, and does not wait for it' }, () => {
    const { id } = session
    build((text) => {
      // To the client that started it, if its session is still there. Without a GET stream, it waits for the next one.
      if (id !== undefined) {
        app.sessions.get(id)?.notify('notifications/message', { level: 'info', data: text })
      }
      // To everyone who subscribed, in every session and both eras.
      app.notify.resourceUpdated(latestBuild)
    })
    return { content: [{ type: 'text', text: 'The build has started' }] }
  })
  return server
}

const { app, url } = await runHttp(createServer, { sessionIdleTimeout: '30m' })
console.log(url)

/** A folder as resources: `server.ts FOLDER` serves its files, and announces what changes there. Without an argument, a new one. */

import { mkdtempSync, rmSync, watch } from 'node:fs'
import { readFile, readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

import { McpServer, ResourceNotFoundError, ResourceTemplate } from '@modelcontextprotocol/server'
import { runHttp } from 'sojourn'

const given = process.argv[2]
const folder = given === undefined ? mkdtempSync(join(tmpdir(), 'sojourn-')) : resolve(given)
const uriOf = (name: string): string => `folder:///${encodeURIComponent(name)}`

/** The names of the files; neither folders nor links, which may lead out of here. */
async function files(): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name)
}

const template = new ResourceTemplate('folder:///{name}', {
  list: async () => ({ resources: (await files()).map((name) => ({ name, uri: uriOf(name) })) }),
})

function createServer(): McpServer {
  const server = new McpServer(
    { name: 'file-watcher-example', version: '1.0.0' },
    { capabilities: { resources: { subscribe: true, listChanged: true } } },
  )
  // Sojourn keeps the subscriptions; to accept them is up to the server.
  server.server.setRequestHandler('resources/subscribe', () => ({}))
  server.server.setRequestHandler('resources/unsubscribe', () => ({}))
  server.registerResource('file', template, { description: 'A file' }, async (uri) => {
    const name = decodeURIComponent(uri.pathname.slice(1))
    if (!(await files()).includes(name)) throw new ResourceNotFoundError(uri.href)
    return { contents: [{ uri: uri.href, text: await readFile(join(folder, name), 'utf8') }] }
  })
  return server
}

const { app, url, finished } = await runHttp(createServer, { sessionIdleTimeout: '30m' })
// One watcher for all sessions, not one in each server. A `rename` is a file that came, went or was replaced.
const watcher = watch(folder, (event, name) => {
  if (event === 'rename') app.notify.resourcesChanged()
  if (name !== null) app.notify.resourceUpdated(uriOf(name))
})
void finished.then(() => {
  watcher.close()
  if (given === undefined) rmSync(folder, { recursive: true, force: true })
})
console.error(`watching ${folder}`)
console.log(url)

/**
 * `npm start`: serves examples/everything, built first where dist/ is missing or older than src/.
 * The command line runs in this very process, so that signals and the exit code need no passing on.
 */
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { ensureBuilt, ensureInstalled } from './ensure.mjs'

ensureInstalled()
ensureBuilt()

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const main = join(root, 'dist/cli/main.js')
const server = join(root, 'examples/everything/server.ts')

process.argv = [process.execPath, main, 'serve', server, ...process.argv.slice(2)]
await import(pathToFileURL(main).href)

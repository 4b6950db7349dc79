/**
 * `npm start`: serves examples/everything, built first where dist/ is missing or older than src/.
 * The command line runs in this very process, and package.json starts it with the shell's `exec`: the process that npm sends signals
 * to is then the server, and npm waits for it to drain. (A shell in between dies of the signal and leaves the server behind.)
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

/**
 * What a user of the published package sees.
 * `node scripts/check-tarball.mjs pack DIR`: packs, and installs the tarball into an empty project in DIR.
 * `node scripts/check-tarball.mjs smoke DIR`: there, on the Node that runs this script: import, require, types, the command line.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const [command, folder] = process.argv.slice(2)
if (folder === undefined || (command !== 'pack' && command !== 'smoke')) {
  console.error('usage: node scripts/check-tarball.mjs pack|smoke DIR')
  process.exit(2)
}
const project = resolve(folder)
const exec = (file, args, cwd = project) =>
  execFileSync(file, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

if (command === 'pack') {
  rmSync(project, { recursive: true, force: true })
  mkdirSync(project, { recursive: true })
  const [{ filename, files, size }] = JSON.parse(
    exec('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project], root),
  )
  const names = files.map(({ path }) => path)
  console.log(`${filename}: ${names.length} files, ${size} bytes`)
  const strange = names.filter((name) => !/^(dist|docs)\/|^(package\.json|README\.md|LICENSE)$/.test(name))
  const missing = ['LICENSE', 'README.md', 'dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js'].filter(
    (name) => !names.includes(name),
  )
  if (strange.length + missing.length > 0) {
    console.error(
      `the tarball has ${strange.join(', ') || 'nothing'} too much and lacks ${missing.join(', ') || 'nothing'}`,
    )
    process.exit(1)
  }
  const telling = names.flatMap((name) => whatTellsOfThisMachine(name))
  if (telling.length > 0) {
    console.error(`the tarball tells of the machine that made it: ${telling.join(', ')}`)
    process.exit(1)
  }
  writeFileSync(join(project, 'package.json'), '{ "name": "a-user", "private": true, "type": "module" }\n')
  exec('npm', ['install', '--no-audit', '--no-fund', join(project, filename)])
  process.exit(0)
}

// Written as files, so that both module systems resolve the package as a user's own module would.
writeFileSync(
  join(project, 'imports.mjs'),
  `import * as sojourn from 'sojourn'\nconsole.log(Object.keys(sojourn).sort().join(' '))\n`,
)
writeFileSync(
  join(project, 'requires.cjs'),
  `console.log(Object.keys(require('sojourn')).filter((name) => name !== '__esModule').sort().join(' '))\n`,
)
writeFileSync(
  join(project, 'uses.ts'),
  `import * as sojourn from 'sojourn'\nexport const { httpApp, runHttp, StreamableHTTPSessionManager } = sojourn\n`,
)
writeFileSync(
  join(project, 'tsconfig.json'),
  JSON.stringify({
    compilerOptions: {
      module: 'nodenext',
      target: 'es2023',
      lib: ['es2023'],
      strict: true,
      noEmit: true,
      typeRoots: [join(root, 'node_modules/@types')],
      types: ['node'],
    },
    files: ['uses.ts'],
  }),
)
writeFileSync(
  join(project, 'server.mjs'),
  `import { McpServer } from '@modelcontextprotocol/server'
export default () => new McpServer({ name: 'tarball', version: '1.0.0' })
`,
)

const node = process.execPath
const imported = exec(node, ['imports.mjs']).trim()
const required = exec(node, ['requires.cjs']).trim()
console.log(`Node ${process.version}: import has ${imported}`)
if (imported === '') throw new Error('import found no exports')
if (imported !== required) throw new Error(`require has ${required}`)
execFileSync(node, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.json'], {
  cwd: project,
  stdio: ['ignore', 'inherit', 'inherit'],
})
console.log('the types resolve, those of the dependencies included')
checkSubpaths()

// The README's ten lines as they stand, on a free port, as a module of either kind.
const readme = readFileSync(join(root, 'README.md'), 'utf8')
const [, tenLines] = /```js\n\/\/ server\.js\n(.*?)```/s.exec(readme) ?? []
if (tenLines === undefined) throw new Error('the README has no ten lines any more')
const asked = tenLines
  .replace('await runHttp(', 'const handle = await runHttp(')
  .replace('port: 3000', 'port: 0')
const asModule = `${asked}\nconsole.log(handle.url)\n`
const asCommonJs = `${asModule
  .replace(/^import (\{.*\}) from ('.*')$/gm, 'const $1 = require($2)')
  .replace('const handle = await', 'void (async () => {\nconst handle = await')}})()\n`
for (const [name, code] of [
  ['ten-lines.mjs', asModule],
  ['ten-lines.cjs', asCommonJs],
]) {
  writeFileSync(join(project, name), code)
  await servesAndStops(name, [name])
}

const bin = join(project, 'node_modules/.bin/sojourn')
const first = readFileSync(bin, 'utf8').split('\n', 1)[0]
if (first !== '#!/usr/bin/env node') throw new Error(`the binary begins with ${first}`)
exec(node, [bin, '--help'])

await servesAndStops('sojourn serve', [bin, 'serve', 'server.mjs', '--port', '0'])

/** A packed file that holds a path of this machine, or a source map that leads out of the package. */
function whatTellsOfThisMachine(name) {
  const text = readFileSync(join(root, name), 'utf8')
  const folders = [resolve(root), homedir()].filter((folder) => folder.length > 1)
  const found = folders.filter((folder) => text.includes(folder)).map((folder) => `${name} (${folder})`)
  if (!name.endsWith('.map')) return found
  const { sources, sourceRoot } = JSON.parse(text)
  const strange = sources.filter((source) => !/^(\.\.\/)+src\/[\w./-]+$/.test(source))
  if (sourceRoot) strange.push(sourceRoot)
  return [...found, ...strange.map((source) => `${name} (${source})`)]
}

/** Starts a server that prints its URL, opens a session on it, and sends SIGTERM. */
async function servesAndStops(name, args) {
  const server = spawn(node, args, {
    cwd: project,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const timer = setTimeout(() => server.kill('SIGKILL'), 30_000)
  const exited = once(server, 'exit')
  const [url] = await Promise.race([
    once(createInterface({ input: server.stdout }), 'line'),
    exited.then(() => [undefined]),
  ])
  if (url === undefined) throw new Error(`${name} ended before it was ready`)
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'initialize',
      params: {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'tarball', version: '1' },
      },
    }),
  })
  const body = await answer.text()
  if (answer.status !== 200 || !body.includes('"serverInfo"'))
    throw new Error(`${name}: initialize: ${answer.status} ${body}`)
  server.kill('SIGTERM')
  const [code, signal] = await exited
  clearTimeout(timer)
  if (code !== 0) throw new Error(`${name} ended with ${code ?? signal} after SIGTERM`)
  console.log(`${name} opens a session and stops cleanly`)
}

/** Every subpath, as a user with the frameworks installed imports it, has types under both kinds of module resolution. */
function checkSubpaths() {
  const modules = join(project, 'node_modules')
  const packages = ['express', 'fastify', 'hono', '@types/express', '@types/node'].filter(
    (name) => !existsSync(join(modules, name)),
  )
  const { exports } = JSON.parse(readFileSync(join(modules, 'sojourn/package.json'), 'utf8'))
  const subpaths = Object.keys(exports).filter((subpath) => subpath !== './package.json')
  const namespaces = subpaths.map((subpath, n) => [
    `import * as all${n} from '${subpath.replace('.', 'sojourn')}'`,
    // Types that are `any` have every key, and types of nothing have none.
    `export const wrong${n}: 'no such export' extends keyof typeof all${n} ? never : keyof typeof all${n} extends never ? never : true = true`,
  ])
  writeFileSync(join(project, 'subpaths.ts'), `${namespaces.flat().join('\n')}\n`)
  for (const name of packages) {
    mkdirSync(dirname(join(modules, name)), { recursive: true })
    symlinkSync(join(root, 'node_modules', name), join(modules, name))
  }
  try {
    for (const [module, moduleResolution] of [
      ['node16', 'node16'],
      ['esnext', 'bundler'],
    ]) {
      const options = ['--module', module, '--moduleResolution', moduleResolution, '--target', 'es2023']
      const strict = ['--strict', '--noEmit', '--types', 'node', '--skipLibCheck', 'subpaths.ts']
      execFileSync(node, [join(root, 'node_modules/typescript/bin/tsc'), ...options, ...strict], {
        cwd: project,
        stdio: ['ignore', 'inherit', 'inherit'],
      })
      console.log(`types under ${moduleResolution}: ${subpaths.join(' ')}`)
    }
  } finally {
    for (const name of packages) unlinkSync(join(modules, name))
  }
}

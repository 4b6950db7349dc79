/** Turns what runs in the measured processes into plain JavaScript, so that no loader takes part in a measurement. */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import ts from 'typescript'

/** The folder of the benchmark. */
export const BENCH_DIR: string = fileURLToPath(new URL('..', import.meta.url))

const ROOT = join(BENCH_DIR, '..')
const DIST = join(ROOT, 'dist')

/** The folder of our built package as a URL that ends in a slash, for `import()`. */
export const DIST_URL: string = `${pathToFileURL(DIST).href}/`

/** What runs in measured processes: by its folder in the project. */
const MEASURED = ['bench/servers', 'bench/load', 'bench/shared', 'bench/scale', 'src']

/** Where the built entry points of the processes are. */
export interface BuiltEntries {
  readonly server: string
  readonly load: string
  readonly scale: string
}

/** Builds what is measured into a folder below `.build/` that goes with this process; types are taken away, nothing else is changed. */
export function buildBench(): BuiltEntries {
  // Of this run alone: another may be under way.
  const out = join(BENCH_DIR, '.build', String(process.pid))
  process.once('exit', () => rmSync(out, { recursive: true, force: true }))
  transpile(MEASURED, out)
  const entry = (name: string): string => join(out, 'bench', name, 'main.js')
  return { server: entry('servers'), load: entry('load'), scale: entry('scale') }
}

/** Writes every TypeScript file of these folders of the project to `out` as JavaScript, in the same folders. */
export function transpile(folders: readonly string[], out: string): void {
  for (const folder of folders) {
    const from = join(ROOT, folder)
    for (const name of readdirSync(from, { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.ts')) continue
      const { outputText } = ts.transpileModule(readFileSync(join(from, name), 'utf8'), {
        fileName: name,
        compilerOptions: {
          target: ts.ScriptTarget.ES2023,
          module: ts.ModuleKind.ESNext,
          verbatimModuleSyntax: true,
          rewriteRelativeImportExtensions: true,
        },
      })
      const to = join(out, folder, name.replace(/\.ts$/, '.js'))
      mkdirSync(dirname(to), { recursive: true })
      writeFileSync(to, outputText)
    }
  }
}

/** Whether our own package is built; `stale` when a source file is newer than that. */
export function builtState(): 'built' | 'stale' | 'missing' {
  if (!existsSync(join(DIST, 'index.js'))) return 'missing'
  const built = statSync(join(DIST, 'index.js')).mtimeMs
  const source = join(ROOT, 'src')
  const newer = readdirSync(source, { recursive: true, encoding: 'utf8' }).some(
    (name) => name.endsWith('.ts') && statSync(join(source, name)).mtimeMs > built,
  )
  return newer ? 'stale' : 'built'
}

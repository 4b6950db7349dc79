/** Turns what runs in the measured processes into plain JavaScript, so that no loader takes part in a measurement. */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import ts from 'typescript'

/** The folder of the benchmark. */
export const BENCH_DIR: string = fileURLToPath(new URL('..', import.meta.url))

/** Our built entry point. */
export const DIST_FILE: string = join(BENCH_DIR, '..', 'dist', 'index.js')

/** The same as a URL, for `import()`. */
export const DIST_URL: string = pathToFileURL(DIST_FILE).href

const MEASURED = ['servers', 'load', 'shared']

/** Where the built entry points of the processes are. */
export interface BuiltEntries {
  readonly server: string
  readonly load: string
}

/** Builds `servers/`, `load/` and `shared/` into `.build/`; types are taken away, nothing else is changed. */
export function buildBench(): BuiltEntries {
  const out = join(BENCH_DIR, '.build')
  rmSync(out, { recursive: true, force: true })
  for (const folder of MEASURED) {
    mkdirSync(join(out, folder), { recursive: true })
    for (const name of readdirSync(join(BENCH_DIR, folder)).filter((file) => file.endsWith('.ts'))) {
      const { outputText } = ts.transpileModule(readFileSync(join(BENCH_DIR, folder, name), 'utf8'), {
        fileName: name,
        compilerOptions: {
          target: ts.ScriptTarget.ES2023,
          module: ts.ModuleKind.ESNext,
          verbatimModuleSyntax: true,
          rewriteRelativeImportExtensions: true,
        },
      })
      writeFileSync(join(out, folder, name.replace(/\.ts$/, '.js')), outputText)
    }
  }
  return { server: join(out, 'servers', 'main.js'), load: join(out, 'load', 'main.js') }
}

/** Whether our own package is built; `stale` when a source file is newer than that. */
export function builtState(): 'built' | 'stale' | 'missing' {
  if (!existsSync(DIST_FILE)) return 'missing'
  const built = statSync(DIST_FILE).mtimeMs
  const source = join(BENCH_DIR, '..', 'src')
  const newer = readdirSync(source, { recursive: true, encoding: 'utf8' }).some(
    (name) => name.endsWith('.ts') && statSync(join(source, name)).mtimeMs > built,
  )
  return newer ? 'stale' : 'built'
}

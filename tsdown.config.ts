/** How dist/ is made: ESM for Node 20 with types for the library, and the command line beside it. */
import { defineConfig } from 'tsdown'

/** What users import: each has types. */
const library = {
  index: 'src/index.ts',
  express: 'src/adapters/express.ts',
  fastify: 'src/adapters/fastify.ts',
  hono: 'src/adapters/hono.ts',
  auth: 'src/auth/index.ts',
  testing: 'src/testing.ts',
}

export default defineConfig({
  // The thread of a SQLite store is a file of its own, found beside the others.
  entry: { ...library, 'cli/main': 'src/cli/main.ts', 'sqlite-worker': 'src/store/sqlite/worker.ts' },
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  fixedExtension: false,
  sourcemap: true,
  minify: false,
  clean: true,
  dts: { entry: Object.values(library), oxc: true },
})

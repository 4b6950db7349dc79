/** How dist/ is made: ESM for Node 20 with types for the library, and the command line beside it. */
import { defineConfig } from 'tsdown'

export default defineConfig({
  entry: { index: 'src/index.ts', 'cli/main': 'src/cli/main.ts' },
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  fixedExtension: false,
  sourcemap: true,
  minify: false,
  clean: true,
  dts: { entry: 'src/index.ts', oxc: true },
})

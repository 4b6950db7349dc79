/**
 * How the tests run: every *.test.ts under test/, against src/, in parallel processes; the command line as it is built. The suites of clients, of the wire and of the per-request leg
 * run over each face: all of them over node:http, and over the others a core, or with `--mode faces` (`npm run test:faces`) everything.
 */
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const FACES = ['fetch', 'express', 'fastify', 'hono']
const CORE = [
  'test/clients/calls.test.ts',
  'test/wire/{order-of-checks,using,answers,resume}.test.ts',
  'test/per-request/*.test.ts',
]
const WHOLE = ['test/{clients,wire,per-request}/**/*.test.ts']

export default defineConfig(({ mode }) => ({
  // The examples import the package by its name; the tests run them against the source.
  resolve: { alias: { sojourn: fileURLToPath(new URL('src/index.ts', import.meta.url)) } },
  test: {
    globalSetup: 'test/support/built.ts',
    pool: 'forks',
    // Most of a test is waiting: for children, for sockets, for real time.
    maxWorkers: '100%',
    // On Bun the test runner does not find `z` in an external zod.
    server: { deps: { inline: 'bun' in process.versions ? ['zod'] : [] } },
    testTimeout: 20_000,
    hookTimeout: 20_000,
    retry: 0,
    // A rejection that nobody handled is a failed run: the server must never cause one.
    dangerouslyIgnoreUnhandledErrors: false,
    projects: [
      { extends: true, test: { name: 'node', include: mode === 'faces' ? WHOLE : ['test/**/*.test.ts'] } },
      ...FACES.map((face) => ({
        extends: true as const,
        test: { name: face, env: { SOJOURN_FACE: face }, include: mode === 'faces' ? WHOLE : CORE },
      })),
    ],
  },
}))

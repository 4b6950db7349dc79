/** How the tests run: every *.test.ts under test/, against src/, in parallel processes. */
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // The examples import the package by its name; the tests run them against the source.
  resolve: { alias: { sojourn: fileURLToPath(new URL('src/index.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 20_000,
    hookTimeout: 20_000,
    retry: 0,
    // A rejection that nobody handled is a failed run: the server must never cause one.
    dangerouslyIgnoreUnhandledErrors: false,
  },
})

/** How the tests run: every *.test.ts under test/, against src/, in parallel processes. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
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

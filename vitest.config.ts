import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['packages/*/src/**/*.test.ts', 'examples/**/*.test.ts', 'tests/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // One less is the default: half of a machine with two.
    maxWorkers: '100%',
    // Measured where it is asked for (`npm run coverage`), and of the protocol only: its every branch has a test that
    // says what it is for. Below that the run fails.
    coverage: {
      provider: 'v8',
      include: ['packages/core/src/cut/**/*.ts'],
      exclude: ['**/*.test.ts', '**/testing/**'],
      reporter: ['text'],
      thresholds: { branches: 100, functions: 100, lines: 100, statements: 100 },
    },
  },
})

import { defineConfig } from 'vitest/config'
import { Tally } from './scripts/tally.ts'

export default defineConfig({
  test: {
    allowOnly: false,
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 60_000,
    reporters: process.env['GMSA_TALLY'] ? ['default', new Tally(process.env['GMSA_TALLY'])] : ['default'],
    // A worktree inside the checkout has tests of its own: only the folder `test` at the root is ours.
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/integration/**'] } },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          // Real servers on two busy cores: a domain controller may take twenty seconds to come up.
          testTimeout: 60_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
})

import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // The package by its own name, so that the README's example runs as it stands.
  resolve: { alias: { personascope: fileURLToPath(new URL('lib/index.ts', import.meta.url)) } },
  test: { include: ['test/**/*.test.ts'], testTimeout: 60_000, pool: 'forks' },
})

// What a worker runs: a bundle of its own.

import { attach } from 'interprocessor/worker'

// Exported, and not only imported: no bundler takes an export of an entry point for unused.
export * from './tasks.ts'

await attach()

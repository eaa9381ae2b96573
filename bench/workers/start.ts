/** A process that starts threads once, tells what they cost, and ends. */

import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type * as library from '../../src/index.ts'

/** What the threads of this process cost together. */
export interface Started {
  readonly startNs: number
  readonly residentBytes: number
}

/** How long new threads get to finish what they do at first. */
const SETTLE_MS = 150

const [kind, threads = '1'] = process.argv.slice(2)
const entry = new URL(kind === 'loaded' ? './loaded.js' : './ready.js', import.meta.url)

// The package as it is published: programs do not load the rooms one by one.
const published = new URL('../../../dist/index.js', import.meta.url)
const { boot } = (await import(published.href)) as typeof library

// Both kinds have loaded the library here: what is measured is the threads.
const before = process.memoryUsage.rss()
const start = performance.now()
if (kind === 'ours') await boot({ cpus: Number(threads) + 1, entry })
else await Promise.all(Array.from({ length: Number(threads) }, startBare))
const startNs = (performance.now() - start) * 1e6
await sleep(SETTLE_MS)
process.send!(
  { startNs, residentBytes: process.memoryUsage.rss() - before } satisfies Started,
  () => process.exit(0),
)

async function startBare(): Promise<void> {
  await once(new Worker(entry), 'message')
}

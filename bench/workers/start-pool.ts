/** A process that opens one pool, tells what it costs, and ends. */

import { setTimeout as sleep } from 'node:timers/promises'
import { POOLS } from '../support/pools.ts'

/** What a pool costs before it does anything, and while it does nothing. */
export interface PoolCosts {
  readonly startNs: number
  readonly residentBytes: number
  /** Processor time of the whole process in a second without tasks, in nanoseconds. */
  readonly idleNs: number
}

/** How long new threads get to finish what they do at first. */
const SETTLE_MS = 200
const IDLE_MS = 1000

const [name = '', threads = '1'] = process.argv.slice(2)
const before = process.memoryUsage.rss()
const start = performance.now()
await POOLS[name]!(Number(threads))
const startNs = (performance.now() - start) * 1e6
await sleep(SETTLE_MS)
const residentBytes = process.memoryUsage.rss() - before
const cpu = process.cpuUsage()
await sleep(IDLE_MS)
const { user, system } = process.cpuUsage(cpu)
const idleNs = (user + system) * 1000
process.send!({ startNs, residentBytes, idleNs } satisfies PoolCosts, () => process.exit(0))

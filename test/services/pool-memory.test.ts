/** What a pool keeps of the tasks that have ended: nothing. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Pool } from '../../src/index.ts'
import { withPool } from '../support/pool-harness.ts'
import { collectedHeap, echo, fails, heapUsed } from '../support/pool-tasks.ts'

const IN_FLIGHT = 1000
const WARM_UP = 100_000
const TASKS = 1_000_000
/** Of all threads together: a byte and a half for each task would be seen. */
const GROWTH_MAX = 1.5 * TASKS

test('memory is flat over a million tasks', { timeout: 280_000 }, (t) =>
  withPool(2, async (pool) => {
    await runMany(pool, WARM_UP)
    const before = await heaps(pool)
    await runMany(pool, TASKS)
    const grown = (await heaps(pool)) - before
    t.diagnostic(`${TASKS} tasks, ${grown} bytes more`)
    assert.ok(grown < GROWTH_MAX, `${grown} bytes more after ${TASKS} tasks`)
  }),
)

/** Runs tasks, so many at a time; one in a thousand fails, and one has a value that goes by port. */
async function runMany(pool: Pool, count: number): Promise<void> {
  const large = 'x'.repeat(1000)
  for (let done = 0; done < count; done += IN_FLIGHT) {
    const running: Promise<unknown>[] = []
    for (let i = 0; i < IN_FLIGHT - 2; i++) running.push(pool.run(echo, i))
    running.push(pool.run(echo, large))
    running.push(pool.run(fails, 'as intended').catch(() => undefined))
    await Promise.all(running)
  }
}

/** What the heaps of all threads hold together, in bytes. */
async function heaps(pool: Pool): Promise<number> {
  const others = [...(await pool.runOnAll(heapUsed)).values()]
  return others.reduce((sum, each) => sum + each, collectedHeap())
}

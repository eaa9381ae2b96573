/** What one wants of a pool that is busy: everybody's attention, an urgent task, an end. */

import { setTimeout as sleep } from 'node:timers/promises'
import { closed, comparePools, compareWithBest, rowName, unlessItHangs } from './pools.ts'
import { plan, type Group, type Pace } from './support/group.ts'
import { compare, oneByOne, type Contender, type Row } from './support/measure.ts'
import { POOLS, type Pool } from './support/pools.ts'
import { Scratch, WORD } from './support/scratch.ts'

/** How long a task computes that an urgent one comes into. */
const BUSY_MS = 200
/** How many there are always of them for each thread. */
const BUSY_EACH = 2
/** How long to wait for a task to begin, or a pool to answer again. */
const WAIT_MS_MAX = 20_000

export const broadcast: Group = {
  about:
    'Every thread has something to do, and all have answered. No other library has it: as many tasks ' +
    'as there are idle threads. Ours is runOnAll.',
  measure: async (pace) => {
    const rows: Row[] = []
    for (const threads of [1, 2, 4, 8]) {
      const what = `everybody, ${threads} ${threads === 1 ? 'thread' : 'threads'}`
      const how = plan(pace, 60, 1, 500)
      rows.push(
        ...(await comparePools(what, threads, 'ns', how, (pool) =>
          oneByOne(
            () => pool.everyone!(),
            () => sleep(1),
          ),
        )),
      )
    }
    return rows
  },
}

export const urgent: Group = {
  about:
    `An urgent number while both threads always have tasks of ${BUSY_MS} ms; ours have a safepoint ` +
    'every 20 µs. Each library as urgent as it can: queues of the user, priorities, last in first out.',
  measure: async (pace) => {
    const what = 'urgent task'
    const names = Object.keys(POOLS).filter((name) => name !== 'bare' && name !== 'dropIn')
    const rows: Row[] = []
    for (const name of names) rows.push(...(await urgentTimes(rowName(what, name), name, pace)))
    return compareWithBest(rows, what)
  },
}

/** One after the other: two busy pools at once would fight for the processors. */
async function urgentTimes(row: string, name: string, pace: Pace): Promise<Row[]> {
  const threads = 2
  const pool = await POOLS[name]!(threads, true)
  const { buffer } = new Scratch()
  let isOver = false
  const lane = async (): Promise<void> => {
    while (!isOver) await pool.compute!({ buffer, ms: BUSY_MS })
  }
  const lanes = Array.from({ length: threads * BUSY_EACH }, lane)
  // So that it comes at any moment of a task.
  const pause = (): Promise<unknown> => sleep(10 + Math.random() * BUSY_MS)
  try {
    const take = oneByOne(() => pool.urgent!(1), pause)
    return await compare([unlessItHangs(row, take)], plan(pace, 30, 1, 3))
  } finally {
    isOver = true
    // It is only closed when nothing runs in it any more, if that can be had.
    await Promise.race([Promise.all(lanes), sleep(BUSY_MS * 10)])
    await closed(pool)
  }
}

export const abort: Group = {
  about:
    'From the abort of a task that never ends until the same pool, of one thread, has answered another.',
  measure: async (pace) => {
    const what = 'abort'
    const rows: Row[] = []
    for (const name of Object.keys(POOLS)) {
      const pool = await POOLS[name]!(1)
      if (pool.runAway !== undefined) {
        rows.push(...(await compare([aborts(rowName(what, name), pool)], plan(pace, 30, 1, 3))))
      }
      await closed(pool)
    }
    return compareWithBest(rows, what)
  },
}

function aborts(name: string, pool: Pool): Contender {
  const scratch = new Scratch()
  const take = async (count: number): Promise<number[]> => {
    const times: number[] = []
    for (let i = 0; i < count; i++) {
      Atomics.store(scratch.words, WORD.arrived, 0)
      const abortIt = pool.runAway!({ buffer: scratch.buffer, ms: 0 })
      await begun(scratch)
      // Everything that the start has still to do on this side.
      await sleep(5)
      const start = performance.now()
      abortIt()
      await pool.increment(1)
      times.push((performance.now() - start) * 1e6)
    }
    return times
  }
  return { name, take }
}

/** Resolves when a task has said that it runs. */
async function begun({ words }: Scratch): Promise<void> {
  const until = performance.now() + WAIT_MS_MAX
  while (Atomics.load(words, WORD.arrived) === 0) {
    if (performance.now() > until) throw new Error('a task did not begin')
    await sleep(1)
  }
}

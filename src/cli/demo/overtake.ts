/** What rescheduling is for: an urgent task overtakes what every CPU runs. The pool, and its times. */

import { createPool } from '../../index.ts'
import { verify } from '../failure.ts'
import { formatMicroseconds } from '../print.ts'
import { arrive, occupy } from './cpu.ts'
import { median, type Step } from './stage.ts'

/** How long each CPU is kept busy, in milliseconds. */
const BUSY_MS = 200
/** How many urgent tasks come meanwhile. */
const URGENT = 10

export const overtakeStep: Step = {
  title: 'An urgent task overtakes',
  about: `Every CPU computes for ${BUSY_MS} ms; ${URGENT} tasks come meanwhile. µs: median until they run.`,

  async run({ machine, out, others }) {
    const pool = createPool(machine)
    await pool.ready
    // Once before it counts: what runs for the first time is compiled.
    await pool.runOnAll(arrive)
    const normal = await overtake(pool, [...others].length, 'normal')
    const urgent = await overtake(pool, [...others].length, 'realtime')
    out.verified(`normal: they waited ${formatMicroseconds(normal)} µs, until somebody had time`)
    out.verified(
      `realtime: they ran after ${formatMicroseconds(urgent)} µs, on top of what computes`,
    )
    verify(urgent < normal, 'the urgent tasks came no sooner than the others')
    await pool.close()
  },
}

/** Keeps every CPU busy, submits tasks of a priority; gives how long they took to run. */
async function overtake(
  pool: ReturnType<typeof createPool>,
  cpus: number,
  priority: 'normal' | 'realtime',
): Promise<number> {
  const busy = Array.from({ length: cpus }, () => pool.run(occupy, BUSY_MS))
  // By then all of them compute: each sits behind nothing else.
  await new Promise((resolve) => setTimeout(resolve, BUSY_MS / 10))
  const times: number[] = []
  for (let i = 0; i < URGENT; i++) {
    const start = process.hrtime.bigint()
    const ran = await pool.run(arrive, undefined, { priority })
    times.push(Number(BigInt(ran) - start) / 1000)
  }
  await Promise.all(busy)
  return median(times.slice(0, priority === 'normal' ? 1 : URGENT))
}

/** What a pool costs before it does anything: time to start, memory, and the processor while it is idle. */

import { fork } from 'node:child_process'
import { compareWithBest, rowName } from './pools.ts'
import { plan, type Group } from './support/group.ts'
import { summarize, takeTurns, type Row, type Unit } from './support/measure.ts'
import { packageEnvironment, POOLS } from './support/pools.ts'
import type { PoolCosts } from './workers/start-pool.ts'

const THREADS = 2

export const costs: Group = {
  about:
    `Pools of ${THREADS} threads in fresh processes. Start: with the library, until all threads have had ` +
    'a task. Memory: growth of the resident set by thread. Idle: processor time in a second of no tasks.',
  measure: async (pace) => {
    const names = Object.keys(POOLS)
    const costs = new Map(names.map((name): [string, PoolCosts[]] => [name, []]))
    const contenders = names.map((name) => ({
      name,
      take: async (count: number) => {
        for (let i = 0; i < count; i++) costs.get(name)!.push(await start(name))
        return []
      },
    }))
    await takeTurns(contenders, { ...plan(pace, 6, 1, 0), budgetMs: 80_000 })
    const rows = (what: string, unit: Unit, of: (one: PoolCosts) => number): Row[] =>
      compareWithBest(
        names.map((name) => {
          const series = costs.get(name)!.map((one) => [of(one)])
          return summarize(rowName(what, name), unit, series)
        }),
        what,
      )
    return [
      ...rows('start', 'ns', ({ startNs }) => startNs),
      ...rows('memory by thread', 'bytes', ({ residentBytes }) => residentBytes / THREADS),
      ...rows('idle for a second', 'ns', ({ idleNs }) => idleNs),
    ]
  },
}

/** Opens a pool in a new process; gives what it costs. */
function start(name: string): Promise<PoolCosts> {
  return new Promise((resolve, reject) => {
    const script = new URL('./workers/start-pool.js', import.meta.url)
    const child = fork(script, [name, String(THREADS)], { env: packageEnvironment() })
    child.once('message', (message) => resolve(message as PoolCosts))
    child.once('exit', (code) => reject(new Error(`a start of ${name} ended with ${code}`)))
  })
}

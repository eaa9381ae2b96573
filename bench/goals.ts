/** The goals of design.md, section 8, that this part of the library can be held to. */

import { availableParallelism } from 'node:os'
import type { Row } from './support/measure.ts'

/** One goal: a row of the result, and how it must compare. */
export interface Goal {
  readonly what: string
  readonly than: string
  /** The row's name, and what of it counts. */
  readonly row: string
  readonly value: 'ratio' | 'median' | 'count'
  readonly limit: number
  /** Set: more is better, and the limit is the least. */
  readonly least?: true
}

/** Whether a goal was reached. */
export interface Verdict extends Goal {
  readonly measured: number
  readonly met: boolean
}

const node = Number(process.versions.node.split('.')[0])
const bare = 'the best bare way'
const THE_BEST_POOL = 'the best other pool'

/** The goals. Of times they are upper limits: ten times sooner is a tenth of the time. */
export const GOALS: readonly Goal[] = [
  {
    what: 'cache hit (string keys, Zipf 0.99)',
    than: 'Map.get',
    row: 'cache.get',
    value: 'ratio',
    limit: 2,
  },
  {
    what: 'a flush that three others have acknowledged',
    than: 'BroadcastChannel with acknowledgements',
    row: 'flush(key, dropped), 3 idle',
    value: 'ratio',
    limit: 0.2,
  },
  {
    what: 'interrupt there and back, target polling',
    than: 'bare ping-pong',
    row: 'interrupt there and back, the sender in cpuRelax()',
    value: 'ratio',
    limit: 2.5,
  },
  {
    what: 'the same, sender in a handler',
    than: 'bare ping-pong',
    row: 'interrupt there and back, both sent by handlers',
    value: 'ratio',
    limit: 2.5,
  },
  {
    what: 'smpCallFunctionSync, one target polling',
    than: 'bare ping-pong',
    row: 'smpCallFunctionSync(fn)',
    value: 'ratio',
    limit: 6,
  },
  {
    what: 'smpCallFunctionSingleSync, target polling',
    than: 'bare ping-pong',
    row: 'smpCallFunctionSingleSync(1, fn)',
    value: 'ratio',
    limit: 6,
  },
  {
    what: 'interrupt into a sleeping event loop',
    than: 'Atomics.waitAsync and notify',
    row: 'interrupt into a sleeping loop',
    value: 'ratio',
    limit: 1.3,
  },
  {
    what: 'interrupt into a turning event loop',
    than: 'postMessage on a MessagePort',
    row: 'interrupt into a turning loop',
    value: 'ratio',
    limit: node === 22 ? 1.1 : 0.5,
  },
  {
    what: 'forced entry into a busy loop',
    than: 'bare inspector message',
    row: 'NMI into a busy loop',
    value: 'ratio',
    limit: 1.3,
  },
  {
    what: 'safepoint with nothing pending',
    than: 'the same loop without it',
    row: 'cpu.poll() with nothing pending',
    value: 'median',
    limit: 1,
  },
  ...[1, 2, 4, 8].map((count) => ({
    what: `awaited call to ${count} sleeping`,
    than: bare,
    row: `await smpCallFunction(fn), ${count} asleep`,
    value: 'ratio' as const,
    limit: 1.2,
  })),
  ...[1, 2, 4, 8]
    .filter((count) => count < availableParallelism())
    .map((count) => ({
      what: `awaited call to ${count} polling`,
      than: bare,
      row: `await smpCallFunction(fn), ${count} polling`,
      value: 'ratio' as const,
      limit: 0.1,
    })),
  ...['one alone', '4 at once'].flatMap((many) =>
    ['start', 'memory'].map((cost) => ({
      what: `${cost} of a CPU, ${many}`,
      than: 'a bare Worker',
      row: `${cost} of a CPU, ${many}`,
      value: 'ratio' as const,
      limit: 1.15,
    })),
  ),
  ...['1', '1,000', '10,000'].map((rate) => ({
    what: `stale reads at ${rate} flushes/s`,
    than: 'nothing',
    row: `stale reads at ${rate} flushes/s, createCache`,
    value: 'count' as const,
    limit: 0,
  })),
  {
    what: 'values that come back after a flush',
    than: 'nothing',
    row: 'came back after flushes, createCache',
    value: 'count',
    limit: 0,
  },
  ...pools('round trip of a pool', 'round trip: createPool', 0.1),
  ...pools('urgent task in a busy pool', 'urgent task: createPool', 1 / 500),
  ...pools('abort until the pool answers', 'abort: createPool', 0.01),
  ...['1 thread', '2 threads'].flatMap((threads) => {
    const what = `1,000 under way, ${threads}`
    const row = `throughput, ${threads}: createPool`
    return [
      { what, than: THE_BEST_POOL, row, value: 'ratio' as const, limit: 10, least: true as const },
      {
        what,
        than: 'hand-written postMessage',
        row: `${row}, by what is written by hand`,
        value: 'ratio' as const,
        limit: 5,
        least: true as const,
      },
    ]
  }),
]

function pools(what: string, row: string, limit: number): Goal[] {
  return [{ what, than: THE_BEST_POOL, row, value: 'ratio', limit }]
}

/** Holds the rows against the goals; goals whose row was not measured are left out. */
export function judge(rows: readonly Row[]): Verdict[] {
  return GOALS.flatMap((goal) => {
    const row = rows.find(({ name }) => name === goal.row)
    const measured = goal.value === 'ratio' ? row?.ratio : row?.median
    return measured === undefined
      ? []
      : [{ ...goal, measured, met: goal.least ? measured >= goal.limit : measured <= goal.limit }]
  })
}

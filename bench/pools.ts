/** Our pool against those that people use, and against what they write by hand: the same tasks, in turns. */

import { setTimeout as sleep } from 'node:timers/promises'
import { plan, type Group, type Pace } from './support/group.ts'
import {
  against,
  compare,
  oneByOne,
  type Contender,
  type Row,
  type Unit,
} from './support/measure.ts'
import { pinThread } from './support/pin.ts'
import { NAMES, PEERS, POOLS, type Pool } from './support/pools.ts'

/** Calls under way at once, and calls per sample of throughput. */
const IN_FLIGHT = 1000
const CALLS = 5_000
/** How long a pool may take for its samples of one round. */
const ANSWER_MS_MAX = 15_000

/** The values that make the way there and back. */
const PAYLOADS: Readonly<Record<string, unknown>> = {
  'a string of 1 KiB': 'x'.repeat(1024),
  '64 KiB of bytes': new Uint8Array(65_536).fill(1),
  'a small object': { id: 1, name: 'some name', tags: ['a', 'b'] },
}

export const rates: Group = {
  about:
    'A number there and a number back: one after the other, and a thousand under way. Ratios are ' +
    'with the best of the other libraries.',
  measure: async (pace) => [
    ...(await roundTrips('round trip', pace, (pool) => pool.increment(1))),
    ...(await throughputs(1, pace)),
    ...(await throughputs(2, pace)),
  ],
}

export const payloads: Group = {
  about: 'Values that make the way there and back, one after the other, by one thread.',
  measure: async (pace) => {
    const rows: Row[] = []
    for (const [what, value] of Object.entries(PAYLOADS)) {
      rows.push(...(await roundTrips(what, pace, (pool) => pool.echo(value))))
    }
    return rows
  },
}

function roundTrips(
  what: string,
  pace: Pace,
  once: (pool: Pool) => Promise<unknown>,
): Promise<Row[]> {
  return comparePools(what, 1, 'ns', plan(pace, 40, 50, 2000), (pool) => oneByOne(() => once(pool)))
}

function throughputs(threads: number, pace: Pace): Promise<Row[]> {
  const what = `throughput, ${threads} ${threads === 1 ? 'thread' : 'threads'}`
  return comparePools(what, threads, 'calls/s', plan(pace, 20, 1, 2), (pool) => flow(pool))
}

/** Opens every pool, lets them take turns, and compares each with the best of the other libraries. */
export async function comparePools(
  what: string,
  threads: number,
  unit: Unit,
  how: ReturnType<typeof plan>,
  take: (pool: Pool) => (count: number) => Promise<number[]>,
): Promise<Row[]> {
  pinThread(0)
  const names = Object.keys(POOLS)
  const pools: Pool[] = []
  for (const name of names) pools.push(await POOLS[name]!(threads))
  try {
    const rows = await compare(
      names.map((name, i) => unlessItHangs(rowName(what, name), take(pools[i]!))),
      how,
      unit,
    )
    return compareWithBest(rows, what)
  } finally {
    // The last first: the drop-in stands on the machine of our pool.
    for (const pool of pools.reverse()) await closed(pool)
  }
}

/** A pool that hangs is left out from there on: some lose a thread now and then. */
export function unlessItHangs(name: string, take: (count: number) => Promise<number[]>): Contender {
  let hangs = false
  return {
    name,
    take: async (count) => {
      if (hangs) return []
      const times = await inTime(take(count))
      if (times !== undefined) return times
      hangs = true
      console.error(`bench: left out from here on, no answer in ${ANSWER_MS_MAX / 1000} s: ${name}`)
      return []
    },
  }
}

/** Closes a pool, if it can be closed. */
export async function closed(pool: Pool): Promise<void> {
  await inTime(pool.close())
}

/** What a promise gives, or undefined if that takes too long. */
async function inTime<T>(promise: Promise<T>): Promise<T | undefined> {
  const timer = new AbortController()
  const late = sleep(ANSWER_MS_MAX, undefined, { signal: timer.signal }).catch(() => undefined)
  const first = await Promise.race([promise, late])
  timer.abort()
  return first
}

/** The name of a pool's row. */
export function rowName(what: string, pool: string): string {
  return `${what}: ${NAMES[pool] ?? pool}`
}

/** Each row's ratio is with the best of the other libraries; ours also with what is written by hand. */
export function compareWithBest(rows: readonly Row[], what: string): Row[] {
  const peers = rows.filter(({ name }) =>
    Object.keys(PEERS).some((peer) => name === rowName(what, peer)),
  )
  const best = peers.filter(({ count }) => count > 0).reduce((a, b) => (isBetter(b, a) ? b : a))
  const bare = rows.find(({ name }) => name === rowName(what, 'bare'))
  const mine = rows.find(({ name }) => name === rowName(what, 'ours'))
  const byHand =
    bare === undefined || mine === undefined
      ? []
      : [{ ...against(mine, bare), name: `${mine.name}, by what is written by hand` }]
  return [...rows.map((row) => against(row, best)), ...byHand]
}

function isBetter(a: Row, b: Row): boolean {
  return a.unit === 'calls/s' ? a.median > b.median : a.median < b.median
}

/** Keeps IN_FLIGHT calls under way; gives calls per second. */
function flow(pool: Pool) {
  return async (count: number): Promise<number[]> => {
    const rates: number[] = []
    for (let i = 0; i < count; i++) {
      let left = CALLS
      const lane = async (): Promise<void> => {
        while (left-- > 0) await pool.increment(1)
      }
      const start = performance.now()
      await Promise.all(Array.from({ length: IN_FLIGHT }, lane))
      rates.push(CALLS / ((performance.now() - start) / 1000))
    }
    return rates
  }
}

/** What a hit in a coherent cache costs, and how long a flush takes. */

import { LRUCache } from 'lru-cache'
import { createCache, type FlushOptions } from '../src/index.ts'
import { plan, type Group } from './support/group.ts'
import { withMachine, type Bench } from './support/machine.ts'
import {
  compare,
  oneByOne,
  takeTurns,
  summarize,
  against,
  type Contender,
  type Row,
} from './support/measure.ts'
import {
  benchCache,
  CHANNEL,
  closeBenchCache,
  HOT,
  lookUp,
  openBenchCache,
} from './workers/cache.ts'

/** Keys, and how their chances fall: as in YCSB, which caches are measured with. */
const KEYS = 10_000
const ZIPF = 0.99
/** Look-ups of a trace, and of a sample: short, so that a busy machine leaves most of them alone. */
const TRACE = 1 << 15
const LOOKUPS = 1 << 12

/** A trace of keys by a Zipf distribution. */
function trace(keys: readonly string[]): string[] {
  const sums: number[] = []
  let sum = 0
  for (let rank = 1; rank <= keys.length; rank++) sums.push((sum += rank ** -ZIPF))
  let state = 12345
  const draw = (): string => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    const wanted = (state / 2 ** 32) * sum
    let low = 0
    let high = sums.length - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (sums[middle]! < wanted) low = middle + 1
      else high = middle
    }
    // The most wanted are not neighbours in memory.
    return keys[(low * 7919) % keys.length]!
  }
  return Array.from({ length: TRACE }, draw)
}

interface Found {
  readonly id: number
}

export const hits: Group = {
  about: `A hit among ${KEYS} string keys, by a Zipf distribution of ${ZIPF}: nanoseconds for one.`,
  measure: (pace) =>
    withMachine({ cpus: 1 }, async ({ machine }): Promise<Row[]> => {
      const keys = Array.from(
        { length: KEYS },
        (_, i) => `user:${((i * 7919) % 1000003).toString(36)}`,
      )
      const all = trace(keys)
      const parts = Array.from({ length: TRACE / LOOKUPS }, (_, i) =>
        all.slice(i * LOOKUPS, (i + 1) * LOOKUPS),
      )
      let wanted = all
      const map = new Map<string, Found>(keys.map((key, id) => [key, { id }]))
      const lru = new LRUCache<string, Found>({ max: KEYS })
      for (const [key, value] of map) lru.set(key, value)
      const walk = (key: string): Found | undefined => map.get(key)
      const cache = createCache<string, Found>(machine, { name: 'hits', walk, max: KEYS })
      const timed = createCache<string, Found>(machine, {
        name: 'timed',
        walk,
        max: KEYS,
        ttl: 1e9,
      })
      await cache.fetchMany(keys)
      await timed.fetchMany(keys)
      const word = new Int32Array(new SharedArrayBuffer(4))
      let sum = 0
      /** Each in a loop of its own, as in a program: a shared one would know no contender's shape. */
      const loops: readonly (readonly [string, () => void])[] = [
        [
          'Map.get',
          () => {
            for (const key of wanted) sum += map.get(key)!.id
          },
        ],
        [
          'Map.get after a plain read of a shared word',
          () => {
            for (const key of wanted) if (word[0] === 0) sum += map.get(key)!.id
          },
        ],
        [
          'Map.get after an atomic load of it',
          () => {
            for (const key of wanted) if (Atomics.load(word, 0) === 0) sum += map.get(key)!.id
          },
        ],
        [
          'cache.get',
          () => {
            for (const key of wanted) sum += cache.get(key)!.id
          },
        ],
        [
          'cache.get, with a ttl',
          () => {
            for (const key of wanted) sum += timed.get(key)!.id
          },
        ],
        [
          'lru-cache: get',
          () => {
            for (const key of wanted) sum += lru.get(key)!.id
          },
        ],
      ]
      const contenders = loops.map(([name, loop]): Contender => ({
        name,
        take: (count) =>
          Array.from({ length: count }, (_, i) => {
            wanted = parts[i % parts.length]!
            const start = performance.now()
            loop()
            return ((performance.now() - start) * 1e6) / LOOKUPS
          }),
      }))
      const rows = await compare(contenders, plan(pace, 120, 16, 200))
      if (sum === 0) throw new Error('nothing was looked up')
      return rows
    }),
}

/** Resolves when so many threads have acknowledged by the channel. */
function broadcast(channel: InstanceType<typeof BroadcastChannel>, others: number): Promise<void> {
  return new Promise((resolve) => {
    let left = others
    channel.onmessage = ({ data }: { data: unknown }) => {
      if ((data as { readonly ack?: number }).ack !== undefined && --left === 0) resolve()
    }
    channel.postMessage({ key: HOT })
  })
}

const flushes = (options: FlushOptions) => async (): Promise<unknown> =>
  benchCache().flush(HOT, options)

async function measureFlushes(
  { machine }: Bench,
  others: number,
  pace: 'quick' | 'full',
): Promise<Row[]> {
  await machine.onEachCpu(openBenchCache)
  const channel = new BroadcastChannel(CHANNEL)
  const idle = `${others} idle`
  const bare = {
    name: `BroadcastChannel, all acknowledge, ${idle}`,
    take: oneByOne(() => broadcast(channel, others)),
  }
  const contenders: Contender[] = [
    bare,
    { name: `flush(key, visible), ${idle}`, take: oneByOne(flushes({ until: 'visible' })) },
    { name: `flush(key, dropped), ${idle}`, take: oneByOne(flushes({ until: 'dropped' })) },
    { name: `flush(key, dropped, wakeLazy), ${idle}`, take: oneByOne(flushes({ wakeLazy: true })) },
  ]
  const series = await takeTurns(contenders, plan(pace, 40, 20, 200))
  const base = summarize(bare.name, 'ns', series[0]!)
  const rows = [
    base,
    ...series
      .slice(1)
      .map((each, i) => against(summarize(contenders[i + 1]!.name, 'ns', each), base)),
  ]
  channel.close()
  const buffer = new SharedArrayBuffer(8)
  const words = new Int32Array(buffer)
  await machine.smpCallFunction(lookUp, buffer)
  while (Atomics.load(words, 1) < others) await new Promise(setImmediate)
  const busy = `${others} looking up`
  const active: Contender[] = [
    { name: `flush(key, visible), ${busy}`, take: oneByOne(flushes({ until: 'visible' })) },
    { name: `flush(key, dropped), ${busy}`, take: oneByOne(flushes({ until: 'dropped' })) },
  ]
  for (const [i, each] of (await takeTurns(active, plan(pace, 40, 20, 200))).entries()) {
    rows.push(against(summarize(active[i]!.name, 'ns', each), base))
  }
  Atomics.store(words, 0, 1)
  while (Atomics.load(words, 1) > 0) await new Promise(setImmediate)
  await machine.onEachCpu(closeBenchCache)
  return rows
}

export const flush: Group = {
  about: `Making every thread forget a key, until it is known: by flush, and by BroadcastChannel with an
acknowledgement of each. A thread that looks up in a loop answers no message until it ends.`,
  measure: async (pace) => {
    const rows: Row[] = []
    for (const others of [1, 3, 7]) {
      rows.push(
        ...(await withMachine({ cpus: others + 1 }, (bench) =>
          measureFlushes(bench, others, pace),
        )),
      )
    }
    return rows
  },
}

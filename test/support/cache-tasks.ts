/**
 * What the CPUs of the cache tests do. The authority is a table in shared memory: for each key a version
 * that a writer raises, and a floor, the version whose flush has resolved. A read that began when the floor
 * stood at f and gives less than f is stale.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  createCache,
  sharedFunction,
  thisMachine,
  type Cache,
  type CacheOptions,
} from '../../src/index.ts'
import { Dice } from './random.ts'

/** Keys of the table. */
export const KEYS = 64

/** Words of the table, from where. */
const VERSION = 0
const FLOOR = KEYS
const STOP = 2 * KEYS
export const WORD = {
  stale: STOP + 1,
  resurrected: STOP + 2,
  reads: STOP + 3,
  hits: STOP + 4,
  flushes: STOP + 5,
  ready: STOP + 6,
  gate: STOP + 7,
  stop: STOP,
} as const
export const TABLE_WORDS = STOP + 16

let table: Int32Array | undefined
let cache: Cache<string, Row> | undefined

/** What the authority gives. */
export interface Row {
  readonly key: string
  readonly version: number
}

/** The key of a number. */
export const keyOf = (index: number): string => `user:${index}`
const indexOf = (key: string): number => Number(key.slice(5))

/** How the cache of a test differs. */
export interface CacheShape {
  readonly buffer: SharedArrayBuffer
  readonly options?: Partial<Omit<CacheOptions<string, Row>, 'walk' | 'store' | 'tags'>>
  /** Turns of the event loop that a walk takes after it has read, at most. */
  readonly turns?: number
  /** Walks end when the gate is open. */
  readonly gated?: boolean
  readonly name?: string
}

/** This thread's cache. */
export const theCache = (): Cache<string, Row> => cache!
export const theTable = (): Int32Array => table!

/** Reads now, and gives what was read some turns of the event loop later. */
export function openCache({
  buffer,
  options = {},
  turns = 0,
  name = 'users',
  gated = false,
}: CacheShape): void {
  table = new Int32Array(buffer)
  const dice = new Dice(thisMachine().cpu.id + 1)
  const read = (key: string): Row => ({
    key,
    version: Atomics.load(table!, VERSION + indexOf(key)),
  })
  cache = createCache<string, Row>(thisMachine(), {
    name,
    tags: (_, key) => [`mod${indexOf(key) % 4}`],
    ...options,
    walk: async (key) => {
      const row = read(key)
      for (let rest = dice.below(turns + 1); rest > 0; rest--) await nextTurn()
      while (gated && Atomics.load(table!, WORD.gate) === 0) await nextTurn()
      return row
    },
  })
}

export const openCacheHere = sharedFunction('cache.open', openCache)

/** What this thread holds of some keys, without walking. */
export const held = sharedFunction('cache.held', (keys: readonly string[]) =>
  keys.map((key) => theCache().peek(key)?.version),
)

/** How often this thread has asked for what it did not have, and how often it has walked. */
export const counts = sharedFunction('cache.counts', () => {
  const { misses, walks } = theCache().stats
  return { misses, walks }
})

/** Begins to fetch keys. */
export const startFetch = sharedFunction('cache.fetch', (keys: readonly string[]) => {
  setImmediate(() => {
    void theCache()
      .fetchMany(keys)
      .then(() => Atomics.add(table!, WORD.ready, 1))
  })
})

/** Begins to read as fast as it can until told to stop, by get and by fetch. */
export const startReading = sharedFunction('cache.read', ({ batch }: { batch: number }) => {
  const words = theTable()
  const dice = new Dice(1000 + thisMachine().cpu.id)
  const check = (floor: number, row: Row | undefined): void => {
    if (row !== undefined && row.version < floor) Atomics.add(words, WORD.stale, 1)
  }
  const run = async (): Promise<void> => {
    Atomics.add(words, WORD.ready, 1)
    while (Atomics.load(words, WORD.stop) === 0) {
      let hits = 0
      for (let i = 0; i < batch; i++) {
        const index = dice.below(KEYS)
        const key = keyOf(index)
        const floor = Atomics.load(words, FLOOR + index)
        const row = theCache().get(key)
        if (row !== undefined) hits++
        check(floor, row)
      }
      Atomics.add(words, WORD.reads, batch)
      Atomics.add(words, WORD.hits, hits)
      const index = dice.below(KEYS)
      const floor = Atomics.load(words, FLOOR + index)
      check(floor, await theCache().fetch(keyOf(index)))
      await nextTurn()
    }
    Atomics.add(words, WORD.ready, -1)
  }
  setImmediate(() => void run())
})

/** How a writer flushes. */
export type Flushing = 'visible' | 'dropped' | 'quiesced' | 'tag' | 'all' | 'mutate' | 'keys'

/** Changes a key and flushes it; after that the floor is what it has written. */
export async function write(index: number, how: Flushing): Promise<void> {
  const words = theTable()
  const key = keyOf(index)
  let version = 0
  const change = (): void => void (version = Atomics.add(words, VERSION + index, 1) + 1)
  if (how === 'mutate') await theCache().mutate(key, change)
  else {
    change()
    if (how === 'tag') await theCache().flush({ tag: `mod${index % 4}` }, { until: 'visible' })
    else if (how === 'all') await theCache().flushAll({ until: 'visible' })
    else if (how === 'keys') await theCache().flush([key, keyOf((index + 1) % KEYS)])
    else await theCache().flush(key, { until: how })
  }
  raise(FLOOR + index, version)
  Atomics.add(words, WORD.flushes, 1)
}

function raise(at: number, value: number): void {
  const words = theTable()
  for (;;) {
    const found = Atomics.load(words, at)
    if (found >= value || Atomics.compareExchange(words, at, found, value) === found) return
  }
}

/** Begins to write until told to stop. */
export const startWriting = sharedFunction(
  'cache.write',
  ({ how }: { how: readonly Flushing[] }) => {
    const words = theTable()
    const dice = new Dice(2000 + thisMachine().cpu.id)
    const run = async (): Promise<void> => {
      Atomics.add(words, WORD.ready, 1)
      for (let i = 0; Atomics.load(words, WORD.stop) === 0; i++) {
        await write(dice.below(KEYS), how[i % how.length]!)
        if (i % 8 === 0) await nextTurn()
      }
      Atomics.add(words, WORD.ready, -1)
    }
    setImmediate(() => void run())
  },
)

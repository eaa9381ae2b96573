/**
 * What the CPUs of the tests of lru-cache and bentocache do. As in cache-tasks.ts the authority is a table
 * in shared memory: for each key a version that a writer raises, and a floor, the version whose delete
 * has returned.
 */

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { LRUCache } from 'lru-cache'
import { threadBus } from '../../src/bentocache.ts'
import { sharedFunction, thisMachine } from '../../src/index.ts'
import { coherent, type Coherent } from '../../src/lru-cache.ts'
import { Dice } from './random.ts'

/** Keys of the table, and its words. */
export const KEYS = 32
export const WORD = {
  stop: 2 * KEYS,
  busy: 2 * KEYS + 1,
  stale: 2 * KEYS + 2,
  reads: 2 * KEYS + 3,
  loads: 2 * KEYS + 4,
}
export const TABLE_WORDS = 2 * KEYS + 16

/** How a thread reads through its cache. */
export type Reading = 'fetch' | 'get, load, set' | 'memo' | 'bentocache'

let table: Int32Array
let lru: LRUCache<string, number> & Coherent<string>
let bento: {
  get: (key: string) => Promise<number | undefined>
  delete: (key: string) => Promise<unknown>
}

/** This thread's bentocache with a memory of its own: only the bus keeps it coherent. */
export const thePlain = (): BentoCache<{ plain: ReturnType<typeof bentostore> }> => plain

let plain: BentoCache<{ plain: ReturnType<typeof bentostore> }>
const plainLru = new LRUCache<string, string>({ max: KEYS })

/** This thread's caches. */
export const theLru = (): typeof lru => lru
export const theBento = (): typeof bento => bento

/** How long a load takes at most, which is what the caches are told, and when one is late. */
const LOAD_MS = 200
const LATE_MS = LOAD_MS / 2

/** Reads the table at once, and gives that some turns later. */
async function load(key: string): Promise<number> {
  Atomics.add(table, WORD.loads, 1)
  const version = Atomics.load(table, Number(key))
  for (let turns = dice.below(4); turns > 0; turns--) await nextTurn()
  return version
}

/** The same for loads that must not be late: undefined if it was, on a busy machine. */
async function loadInTime(key: string): Promise<number | undefined> {
  const start = performance.now()
  const version = await load(key)
  return performance.now() - start < LATE_MS ? version : undefined
}

let dice: Dice

/** Opens this thread's caches. */
export const open = sharedFunction('lru.open', (buffer: SharedArrayBuffer): void => {
  const machine = thisMachine()
  table = new Int32Array(buffer)
  dice = new Dice(machine.cpu.id + 1)
  lru = coherent(
    new LRUCache<string, number>({
      max: KEYS,
      fetchMethod: load,
      memoMethod: (key) => {
        Atomics.add(table, WORD.loads, 1)
        return Atomics.load(table, Number(key))
      },
    }),
    machine,
    { name: 'lru', loadMs: LOAD_MS },
  )
  const plainMemory = memoryDriver({ cacheInstance: plainLru } as object)
  const plainStore = bentostore().useL1Layer(plainMemory).useBus(threadBus(machine))
  plain = new BentoCache({ default: 'plain', stores: { plain: plainStore } })
  const cacheInstance = coherent(new LRUCache<string, string>({ max: KEYS }), machine, {
    name: 'bento',
    loadMs: LOAD_MS,
  })
  const memory = memoryDriver({ cacheInstance } as Parameters<typeof memoryDriver>[0])
  const store = bentostore().useL1Layer(memory).useBus(threadBus(machine))
  const cache = new BentoCache({ default: 'table', stores: { table: store } })
  bento = {
    get: (key) =>
      cache.getOrSet({
        key,
        ttl: '1h',
        factory: async (context) => {
          context.setOptions({ skipBusNotify: true })
          return (await loadInTime(key)) ?? context.skip()
        },
      }),
    delete: (key) => cache.delete({ key }),
  }
  closing.push(
    () => cache.disconnectAll(),
    () => plain.disconnectAll(),
  )
})

const closing: (() => unknown)[] = []

/** Lets the thread end. */
export const close = sharedFunction('lru.close', () => {
  for (const act of closing.splice(0)) act()
})

/** Deletes keys on this thread. */
export const deleteHere = sharedFunction('lru.delete', (keys: readonly string[]): boolean[] =>
  keys.map((key) => lru.delete(key)),
)

/** What this thread holds of keys. */
export const held = sharedFunction('lru.held', (keys: readonly string[]) =>
  keys.map((key) => lru.peek(key)),
)

/** Puts values into this thread's cache. */
export const setHere = sharedFunction(
  'lru.set',
  (entries: readonly (readonly [string, number])[]) => {
    for (const [key, value] of entries) lru.set(key, value)
  },
)

/** Empties this thread's cache, and so all. */
export const clearHere = sharedFunction('lru.clear', (): void => lru.clear())

/** Begins to fill this thread's plain bentocache, and tells nobody. */
export const fillPlain = sharedFunction('lru.fillPlain', (key: string): void => {
  const factory: Parameters<typeof plain.getOrSet<number>>[0]['factory'] = (context) => {
    context.setOptions({ skipBusNotify: true })
    return 1
  }
  void plain.getOrSet({ key, factory })
})

/** Has this thread fail when it is told something. */
export const failToHear = sharedFunction('lru.failToHear', (): void => {
  const bus = threadBus(thisMachine()).factory()
  closing.push(() => bus.disconnect())
  void bus.subscribe('failing', () => {
    throw new RangeError('no')
  })
})

/** Whether this thread's plain bentocache has a value that is not expired. */
export const heldPlain = sharedFunction('lru.heldPlain', (key: string): boolean => {
  const entry = plainLru.get(`bentocache:${key}`)
  return entry !== undefined && JSON.parse(entry).logicalExpiration > Date.now()
})

/** Begins to read and judge until told to stop. */
export const startReading = sharedFunction('lru.read', (how: Reading): void => {
  Atomics.add(table, WORD.busy, 1)
  const run = async (): Promise<void> => {
    const readers = Array.from({ length: 4 }, async () => {
      while (Atomics.load(table, WORD.stop) === 0) {
        await readAndJudge(how, dice.below(KEYS))
        await nextTurn()
      }
    })
    await Promise.all(readers)
  }
  void run().finally(() => Atomics.sub(table, WORD.busy, 1))
})

async function readAndJudge(how: Reading, key: number): Promise<void> {
  const floor = Atomics.load(table, KEYS + key)
  const version = await read(how, String(key))
  Atomics.add(table, WORD.reads, 1)
  if (version !== undefined && version < floor) Atomics.add(table, WORD.stale, 1)
}

async function read(how: Reading, key: string): Promise<number | undefined> {
  if (how === 'fetch') return lru.forceFetch(key)
  if (how === 'memo') return lru.memo(key)
  if (how === 'bentocache') return bento.get(key)
  let version = lru.get(key)
  if (version === undefined) {
    version = await loadInTime(key)
    if (version !== undefined) lru.set(key, version)
  }
  return version
}

/** Changes keys until the readers have read enough. On this thread. */
export async function changeAll(how: Reading): Promise<void> {
  for (let i = 0; i < 100 || Atomics.load(table, WORD.reads) < 1000; i++) {
    const key = i % KEYS
    await change(how, key)
    // Everybody begins to load it anew, and then it is changed again.
    await nextTurn()
    await change(how, key)
    await sleep(5)
  }
}

/** Ends the reading; gives what was counted, and counts anew. */
export async function endReading(): Promise<Record<'reads' | 'loads' | 'stale', number>> {
  Atomics.store(table, WORD.stop, 1)
  while (Atomics.load(table, WORD.busy) > 0) await sleep(1)
  Atomics.store(table, WORD.stop, 0)
  const take = (word: number): number => Atomics.exchange(table, word, 0)
  return { reads: take(WORD.reads), loads: take(WORD.loads), stale: take(WORD.stale) }
}

/** Changes a key, on this thread: the authority, then the delete, then the floor. */
async function change(how: Reading, key: number): Promise<void> {
  const version = Atomics.add(table, key, 1) + 1
  if (how === 'bentocache') await bento.delete(String(key))
  else lru.delete(String(key))
  Atomics.store(table, KEYS + key, version)
}

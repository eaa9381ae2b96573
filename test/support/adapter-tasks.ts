/** What the CPUs of the adapter tests do: a bentocache and an lru-cache each. */

import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { LRUCache } from 'lru-cache'
import { machineBus } from '../../src/bentocache.ts'
import { sharedFunction, thisMachine } from '../../src/index.ts'
import { coherent, type CoherentLru } from '../../src/lru-cache.ts'

/** One word of the authority: a version. Reads of it take until the gate is opened, if it is shut. */
let table: Int32Array | undefined
export const WORD = {
  version: 0,
  gate: 1,
  ready: 2,
  stale: 3,
  stop: 4,
  floor: 5,
  reads: 6,
} as const

function makeBento() {
  return new BentoCache({
    default: 'threads',
    stores: {
      threads: bentostore()
        .useL1Layer(memoryDriver({ maxItems: 100 }))
        .useBus(machineBus(thisMachine())),
    },
  })
}
let bento: ReturnType<typeof makeBento> | undefined
let lru: CoherentLru<string, { readonly version: number }> | undefined

export const theBento = (): ReturnType<typeof makeBento> => bento!
export const theLru = (): CoherentLru<string, { readonly version: number }> => lru!
const version = (): number => Atomics.load(table!, WORD.version)

export const openAdapters = sharedFunction('adapters.open', (buffer: SharedArrayBuffer) => {
  table = new Int32Array(buffer)
  bento = makeBento()
  const cache = new LRUCache<string, { readonly version: number }>({
    max: 100,
    fetchMethod: async () => {
      const read = { version: version() }
      await new Promise(setImmediate)
      return read
    },
  })
  lru = coherent<string, { readonly version: number }>(cache, thisMachine(), { name: 'rows' })
})

/** Reads through the bentocache. */
export const readBento = sharedFunction('adapters.bento', () => {
  void theBento()
    .getOrSet({ key: 'a', ttl: '1h', factory: () => version() })
    .then((value) => {
      table![WORD.stale] = value
      Atomics.add(table!, WORD.ready, 1)
    })
})

/** Reads through the lru-cache until told to stop, and counts what is too old. */
export const readLru = sharedFunction('adapters.lru', () => {
  const words = table!
  const run = async (): Promise<void> => {
    Atomics.add(words, WORD.ready, 1)
    while (Atomics.load(words, WORD.stop) === 0) {
      for (let i = 0; i < 500; i++) {
        const floor = Atomics.load(words, WORD.floor)
        const row = theLru().get('a')
        if (row !== undefined && row.version < floor) Atomics.add(words, WORD.stale, 1)
      }
      Atomics.add(words, WORD.reads, 1)
      const floor = Atomics.load(words, WORD.floor)
      const row = await theLru().fetch('a')
      if (row!.version < floor) Atomics.add(words, WORD.stale, 1)
      await new Promise(setImmediate)
    }
    Atomics.add(words, WORD.ready, -1)
  }
  setImmediate(() => void run())
})

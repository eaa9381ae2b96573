/** What the CPUs of the cache benchmarks do: hold copies, look them up, acknowledge the bare way. */

import { createCache, sharedFunction, thisMachine, type Cache } from '../../src/index.ts'

/** The key that is flushed. */
export const HOT = 'user:hot'
/** The channel of the bare way. */
export const CHANNEL = 'interprocessor.bench.cache'

let cache: Cache<string, number> | undefined
const bare = new Map<string, number>([[HOT, 1]])
let channel: InstanceType<typeof BroadcastChannel> | undefined

/** This thread's cache. */
export function benchCache(): Cache<string, number> {
  cache ??= createCache<string, number>(thisMachine(), { name: 'bench', walk: () => 1 })
  return cache
}

/** Opens the cache with a copy in it, and the bare way beside it. */
export const openBenchCache = sharedFunction('bench.openCache', () => {
  void benchCache().fetch(HOT)
  channel ??= new BroadcastChannel(CHANNEL)
  channel.onmessage = ({ data }: { data: unknown }) => {
    const { key } = data as { readonly key?: string }
    if (key === undefined) return
    bare.delete(key)
    channel!.postMessage({ ack: thisMachine().cpu.id })
  }
})

/** Closes both: of another machine there will be others, and with an open channel no thread ends. */
export const closeBenchCache = sharedFunction('bench.closeCache', () => {
  channel?.close()
  channel = undefined
  cache?.close()
  cache = undefined
})

/** Looks the key up in a loop that never returns to its event loop, until the word is not 0. */
export const lookUp = sharedFunction('bench.lookUp', (buffer: SharedArrayBuffer) => {
  const words = new Int32Array(buffer)
  setImmediate(() => {
    const held = benchCache()
    Atomics.add(words, 1, 1)
    while (Atomics.load(words, 0) === 0) if (held.get(HOT) === undefined) void held.fetch(HOT)
    Atomics.add(words, 1, -1)
  })
})

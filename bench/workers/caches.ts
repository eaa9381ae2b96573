/** Caches of one thread that are told of changes in other threads, each in its usual way. */

import { BroadcastChannel } from 'node:worker_threads'
import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import type { BusDriver, CreateBusDriverResult } from 'bentocache/types'
import { LRUCache } from 'lru-cache'
import { threadBus } from '../../src/bentocache.ts'
import { createCache, type Machine } from '../../src/index.ts'
import { coherent } from '../../src/lru-cache.ts'
import { KEYS } from '../support/versions.ts'

/** How long a walk takes at most, on a busy machine too, in milliseconds. */
const LOAD_MS = 1000

/** Reads the version of a key from the authority. */
type Walk = (key: number) => Promise<number>

/** One thread's part of a cache. */
export interface ThreadCache {
  /** A version of `key`, from this thread's copy or from the authority. */
  read(key: number): Promise<number>
  /** The authority has changed; what one awaits before one says so. */
  changed(key: number): unknown
  /** Ends what would keep the thread alive. */
  close(): unknown
}

/** How the ways are called, and how a thread opens them. */
export const CACHES = {
  createCache: (walk, machine): ThreadCache => {
    const cache = createCache<number, { version: number }>(machine, {
      name: 'bench',
      max: KEYS,
      walk: async (key) => ({ version: await walk(key) }),
    })
    return {
      read: async (key) => (await cache.fetch(key))!.version,
      changed: (key) => cache.flush(key),
      close: () => cache.close(),
    }
  },

  bentocache: (walk): ThreadCache => {
    const memory = memoryDriver({ maxItems: KEYS, serialize: false })
    return bento(walk, bentostore().useL1Layer(memory).useBus(channelBus()))
  },

  'bentocache, coherent': (walk, machine): ThreadCache => {
    const lru = new LRUCache<string, string>({ max: KEYS })
    const cacheInstance = coherent(lru, machine, { name: 'bench.bento', loadMs: LOAD_MS })
    const memory = memoryDriver({ serialize: false, cacheInstance } as object)
    return bento(walk, bentostore().useL1Layer(memory).useBus(threadBus(machine)))
  },

  'Map and BroadcastChannel': (walk): ThreadCache => {
    const entries = new Map<number, { version: number }>()
    const channel = new BroadcastChannel('bench.map')
    channel.onmessage = (event) => entries.delete((event as { data: number }).data)
    channel.unref()
    return {
      read: async (key) => {
        let entry = entries.get(key)
        if (entry === undefined) {
          entry = { version: await walk(key) }
          entries.set(key, entry)
        }
        return entry.version
      },
      changed: (key) => {
        entries.delete(key)
        channel.postMessage(key)
      },
      close: () => channel.close(),
    }
  },
} as const satisfies Record<string, (walk: Walk, machine: Machine) => ThreadCache>

/** The name of a way. */
export type CacheName = keyof typeof CACHES

function bento(walk: Walk, store: ReturnType<typeof bentostore>): ThreadCache {
  const cache = new BentoCache({ default: 'bench', stores: { bench: store } })
  return {
    read: async (number) => {
      const factory = async (context: FactoryContext): Promise<{ version: number }> => {
        // Or else each fill would throw out the copies of all other threads.
        context.setOptions({ skipBusNotify: true })
        return { version: await walk(number) }
      }
      const key = String(number)
      return (await cache.getOrSet({ key, ttl: '1h', factory })).version
    },
    changed: (key) => cache.delete({ key: String(key) }),
    close: () => cache.disconnectAll(),
  }
}

interface FactoryContext {
  setOptions(options: { skipBusNotify: boolean }): void
}

/** A bus for bentocache between threads; it comes with buses between processes only. */
function channelBus(): CreateBusDriverResult {
  const channel = new BroadcastChannel('bench.bento')
  const handlers = new Map<string, (message: never) => unknown>()
  channel.onmessage = (event) => {
    const { data } = event as { data: { topic: string; message: unknown } }
    handlers.get(data.topic)?.(data.message as never)
  }
  channel.unref()
  const bus: BusDriver = {
    setId: () => bus,
    onReconnect: () => undefined,
    publish: async (topic, message) => channel.postMessage({ topic, message }),
    subscribe: async (topic, handler) => void handlers.set(topic, handler),
    unsubscribe: async (topic) => void handlers.delete(topic),
    disconnect: async () => channel.close(),
  }
  return { options: {}, factory: () => bus }
}

// Three ways for a thread to read accounts: from the database each time, through the usual Map with the
// usual BroadcastChannel between the threads, and through a coherent cache.

import { BroadcastChannel } from 'node:worker_threads'
import { createCache, thisMachine } from 'interprocessor'

/** By the first part of a path. Each gets `load`, which asks the database and gives a promise. */
export const ways = {
  none: (load) => ({
    read: load,
    changed() {},
  }),

  broadcast(load) {
    const accounts = new Map()
    const channel = new BroadcastChannel('accounts')
    channel.onmessage = ({ data: id }) => accounts.delete(id)
    channel.unref()
    return {
      async read(id) {
        if (!accounts.has(id)) accounts.set(id, await load(id))
        return accounts.get(id)
      },
      changed(id) {
        accounts.delete(id)
        channel.postMessage(id)
      },
    }
  },

  coherent(load) {
    const accounts = createCache(thisMachine(), { name: 'accounts', max: 1000, walk: load })
    return {
      read: (id) => accounts.fetch(id),
      changed: (id) => accounts.flush(id),
    }
  },
}

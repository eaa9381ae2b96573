import { createCache, sharedFunction, thisMachine } from 'interprocessor'

/** The authority: a table that all threads see. A database would do as well. */
let table

let cache
/** This thread's part of the cache. */
export const prices = () => cache

export const open = sharedFunction('open', (memory) => {
  table = new Int32Array(memory)
  cache = createCache(thisMachine(), {
    name: 'prices',
    walk: async (article) => ({ article, cents: Atomics.load(table, article) }),
  })
})

export const warm = sharedFunction('warm', (article) => {
  void cache.fetch(article)
})

export const look = sharedFunction('look', (article) => cache.get(article)?.cents)

/** A loop that never returns to its event loop, and must not sell at the old price. */
export const sell = sharedFunction('sell', (order) => {
  setImmediate(() => void sellOn(order))
})

async function sellOn({ article, from }) {
  await cache.fetch(article)
  let sold = 0
  // get is the look: no message could come in here.
  while (cache.get(article)?.cents === from) sold++
  console.log(`CPU 1 sold at ${from}, and then no more`)
}

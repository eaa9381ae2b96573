/** `interprocessor/lru-cache`: makes an lru-cache that a program has coherent across its threads. */

import { createCache, type Machine } from './index.ts'
import {
  coherentBy,
  type Coherent,
  type CoherentOptions,
  type LruCacheLike,
} from './services/lru-cache.ts'

export type { Coherent, CoherentOptions, LruCacheLike } from './services/lru-cache.ts'

/**
 * Makes an lru-cache of this thread part of a coherent one: call it in every thread, with the same name.
 * Gives the same object, with some of its methods replaced and `flush` and `flushAll` added; what it holds is
 * cleared, because nobody knows how old it is. Change the authority, then `delete`: when that has returned
 * no thread can give the old value by any method, and no `fetch` under way brings it back. `clear` does the
 * same for all keys, `set` keeps a value in this thread. Throws `IPI_INVALID_ARGUMENT`, also for keys other
 * than strings and numbers, and as `createCache` does.
 */
export function coherent<L extends LruCacheLike>(
  lru: L,
  machine: Machine,
  options: CoherentOptions,
): L & Coherent<Parameters<L['get']>[0]> {
  return coherentBy(createCache, lru, machine, options)
}

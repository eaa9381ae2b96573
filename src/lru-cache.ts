/** Coherence across the threads of a machine for an lru-cache that is there already. */

export {
  coherent,
  type CoherentLru,
  type CoherentOptions,
  type LruLike,
} from './services/adapters/lru.ts'

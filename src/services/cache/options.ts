/** How a cache is made and used: options, defaults, what is wrong with bad ones, and what it tells. */

import { IpiError } from '../../base/errors.ts'
import type { FlushLevel } from '../../kernel/shootdown.ts'
import type { AbortSignalLike } from '../../kernel/suspended-wait.ts'
import type { Key } from '../../hardware/tlb.ts'

/** What a walk is told. */
export interface WalkContext {
  /** Aborted when nobody wants the result any more, or when what is being read was flushed. */
  readonly signal: AbortSignal
}

/**
 * Reads from the authority what a key stands for now: a database, a file. Undefined: there is nothing,
 * which is kept like a value. It must not read from a copy that is behind the last commit.
 */
export type Walk<K extends Key, V> = (
  key: K,
  context: WalkContext,
) => V | undefined | Promise<V | undefined>

/** An authority that can also be written through the cache. */
export interface Store<K extends Key, V> {
  get(key: K, context: WalkContext): V | undefined | Promise<V | undefined>
  /** Resolves when it is committed: whoever reads the store from then on reads it. */
  set(key: K, value: V): unknown
}

/** How copies behave when a key is written. */
export type CacheType =
  /** Each read walks; nothing is kept. */
  | 'uncacheable'
  /** A write goes to the store, all other copies go, and the writer keeps its own. */
  | 'write-through'
  /** A write goes to the store, and all copies go. */
  | 'write-protected'

/** What to do with a value that was flushed while it was being read. */
export type OnFenced =
  /** Walk again, up to three times in all; then give the value, and do not keep it. */
  | 'retry'
  /** Give it to those who asked before the flush, and do not keep it. */
  | 'return'
  /** Reject with `IPI_FLUSHED`. */
  | 'reject'

/** What `createCache` takes. */
export interface CacheOptions<K extends Key, V> {
  /** The same on every thread: caches of one name are one cache. */
  readonly name: string
  /** How many entries each thread keeps. Default 10,000. */
  readonly max?: number
  /** How long an entry is used, in milliseconds: a net below the flushes. Default Infinity. */
  readonly ttl?: number
  /** Reads the authority. Either this or `store`. */
  readonly walk?: Walk<K, V>
  /** Reads and writes the authority. */
  readonly store?: Store<K, V>
  /** Default `write-protected`. */
  readonly type?: CacheType
  /** Labels of an entry, by which it can be flushed with others. */
  readonly tags?: (value: V | undefined, key: K) => readonly string[]
  /**
   * How long `fetch` gives an entry that its `ttl` has ended, while it walks anew, in milliseconds. Never
   * one that was flushed: that is gone. Default 0.
   */
  readonly staleWhileRevalidate?: number
  /** Default `retry`. */
  readonly onFenced?: OnFenced
  /**
   * Who shares one walk for a key: those of a thread, or those of all threads, which then take the value from
   * the one that walks, by structured clone. Default `thread`.
   */
  readonly stampede?: 'thread' | 'process'
  /**
   * Freezes what is kept, all the way down, because callers share it. Default: unless NODE_ENV is
   * `production`.
   */
  readonly freeze?: boolean
}

/** How to flush. */
export interface FlushOptions {
  /** What must be so when the promise resolves. Default `dropped`. */
  readonly until?: FlushLevel
  /** How long to wait for other threads, in milliseconds. Default: that of the machine. */
  readonly timeoutMs?: number
  /** Ends the waiting. The flush itself has happened. */
  readonly signal?: AbortSignalLike
  /** Has lazy threads drop their copies, too, before it resolves. Default false. */
  readonly wakeLazy?: boolean
}

/** What to flush: keys, the numbers from the first up to, not including, the second, or a tag. */
export type FlushWhat<K extends Key> =
  K | readonly K[] | { readonly range: readonly [number, number] } | { readonly tag: string }

/** What a flush has done. */
export interface FlushResult {
  /** The threads that were waited for. */
  readonly waitedFor: readonly number[]
  /** How long it took, in milliseconds. */
  readonly waitedMs: number
}

/** What a cache has done on this thread. */
export interface CacheStats {
  /** Entries held now. */
  readonly size: number
  readonly hits: number
  readonly misses: number
  /** Walks that were made. */
  readonly walks: number
  /** Walks whose result was flushed while they ran. */
  readonly fenced: number
  /** How often everything was dropped, because this thread was too far behind. */
  readonly fullFlushes: number
}

/** The options with nothing left open. */
export interface CheckedOptions<K extends Key, V> {
  readonly name: string
  readonly max: number
  readonly ttl: number
  readonly walk: Walk<K, V>
  readonly store: Store<K, V> | undefined
  readonly type: CacheType
  readonly tags: CacheOptions<K, V>['tags']
  readonly staleMs: number
  readonly onFenced: OnFenced
  readonly stampede: 'thread' | 'process'
  readonly freeze: boolean
}

const MAX_DEFAULT = 10_000
const MAX_LIMIT = 1 << 24
const TYPES: readonly string[] = ['uncacheable', 'write-through', 'write-protected']

/** Throws `IPI_INVALID_ARGUMENT` for the first option that is wrong. */
export function checkOptions<K extends Key, V>(options: CacheOptions<K, V>): CheckedOptions<K, V> {
  const { name, max = MAX_DEFAULT, ttl = Infinity, staleWhileRevalidate: staleMs = 0 } = options
  const { walk, store, type = 'write-protected', tags, onFenced = 'retry' } = options
  const { stampede = 'thread', freeze = process.env['NODE_ENV'] !== 'production' } = options
  check(typeof name === 'string' && name !== '', 'name is a non-empty string', name)
  check(Number.isInteger(max) && max >= 1 && max <= MAX_LIMIT, 'max is an integer from 1 on', max)
  check(typeof ttl === 'number' && ttl > 0, 'ttl is milliseconds > 0', ttl)
  check(
    typeof staleMs === 'number' && staleMs >= 0,
    'staleWhileRevalidate is milliseconds',
    staleMs,
  )
  check(
    (walk === undefined) !== (store === undefined),
    'either walk or store is given',
    'both or none',
  )
  check(walk === undefined || typeof walk === 'function', 'walk is a function', walk)
  check(
    store === undefined || (typeof store.get === 'function' && typeof store.set === 'function'),
    'store has the methods get and set',
    store,
  )
  check(TYPES.includes(type), `type is ${TYPES.join(', ')}`, type)
  check(tags === undefined || typeof tags === 'function', 'tags is a function', tags)
  check(
    ['retry', 'return', 'reject'].includes(onFenced),
    'onFenced is retry, return or reject',
    onFenced,
  )
  check(['thread', 'process'].includes(stampede), 'stampede is thread or process', stampede)
  return {
    name,
    max,
    ttl,
    walk: walk ?? ((key, context) => store!.get(key, context)),
    store,
    type,
    tags,
    staleMs,
    onFenced,
    stampede,
    freeze,
  }
}

/** Throws `IPI_INVALID_ARGUMENT` for what is no key. */
export function checkKey(key: unknown): void {
  check(
    typeof key === 'string' || (typeof key === 'number' && key === key),
    'a key is a string or a number',
    key,
  )
}

/** Throws `IPI_INVALID_ARGUMENT` unless something holds. */
export function check(holds: boolean, rule: string, got: unknown): asserts holds {
  if (!holds) throw new IpiError('IPI_INVALID_ARGUMENT', `createCache: ${rule}; got ${print(got)}`)
}

function print(value: unknown): string {
  try {
    return String(value)
  } catch {
    return 'something that cannot be printed'
  }
}

/**
 * Makes an existing lru-cache coherent: `delete` in one thread is a delete in all. Its entries stay where
 * they are; beside them stands a mark for each that may be used, in a translation buffer, which the kernel
 * keeps coherent. An entry without a mark is gone.
 */

import type { Key } from '../hardware/tlb.ts'
import { Fill } from '../kernel/fills.ts'
import { FLUSH_ALL_RECORD } from '../kernel/flush-log.ts'
import type { Machine } from '../kernel/machine.ts'
import type { GenerationTlb } from '../kernel/tlb-generations.ts'
import type { Translations } from '../kernel/translations.ts'
import type { Cache, createCache } from './cache.ts'
import { flushOf } from './cache/flushes.ts'
import { check, checkKey, type FlushOptions, type FlushResult } from './cache/options.ts'
import { isHearing } from './hearing.ts'
import { Looks } from './lru/looks.ts'
import {
  LOOKS,
  LOOKS_AT_ALL,
  methodsOf,
  type LruCacheLike,
  type Method,
  type Methods,
} from './lru/methods.ts'

export type { LruCacheLike } from './lru/methods.ts'

/** How a cache is made coherent. */
export interface CoherentOptions {
  /** The same on every thread: caches of one name are one cache. */
  readonly name: string
  /**
   * How long a load takes at most, in milliseconds, between a `get` that missed and its `set`. If the key is
   * flushed in between, no `set` of it is kept until then. `fetch` needs no such limit. Default 5,000.
   */
  readonly loadMs?: number
}

/** What a coherent cache has besides its own methods. */
export interface Coherent<K> {
  /** `delete` in all threads, as `Cache.flush`: it can be awaited until copies are dropped. */
  flush(key: K | readonly K[], options?: FlushOptions): Promise<FlushResult>
  /** `clear` in all threads. */
  flushAll(options?: FlushOptions): Promise<FlushResult>
}

const LOAD_MS = 5000
/** Marks for a cache that has no bound in entries. */
const MARKS_MAX = 1 << 20
/** Loads for one `fetch`, before a value is given that is not kept. */
const FETCHES_MAX = 3

/** `coherent` of src/lru-cache.ts, which says what it does. */
export function coherentBy<L extends LruCacheLike>(
  open: typeof createCache,
  lru: L,
  machine: Machine,
  { name, loadMs = LOAD_MS }: CoherentOptions,
): L & Coherent<Parameters<L['get']>[0]> {
  check(typeof loadMs === 'number' && loadMs > 0, 'loadMs is milliseconds > 0', loadMs)
  const own = methodsOf(lru)
  // Twice: the lru-cache forgets by another rule than the marks, and is not to lose any by that.
  const max = lru.max > 0 ? 2 * lru.max : MARKS_MAX
  const cache = open<Key, true>(machine, { name, max, walk: () => true })
  const coherence = new Coherence(machine, lru, own, cache, loadMs)
  for (const [key, method] of coherence.replacements()) {
    Object.defineProperty(lru, key, { value: method, configurable: true, writable: true })
  }
  return lru as L & Coherent<Parameters<L['get']>[0]>
}

/** The coherence of one lru-cache. */
class Coherence {
  readonly #lru: object
  readonly #own: Methods
  /** Its flushes are ours; nothing is fetched through it. */
  readonly #cache: Cache<Key, true>
  readonly #tlb: GenerationTlb
  readonly #mm: number
  readonly #space: Translations
  readonly #looks: Looks
  /** Loads by `fetch` that are under way. */
  readonly #fetches = new Map<Key, Fill>()

  constructor(
    machine: Machine,
    lru: object,
    own: Methods,
    cache: Cache<Key, true>,
    loadMs: number,
  ) {
    const { tlb, cpu } = machine.kernel
    this.#lru = lru
    this.#own = own
    this.#cache = cache
    // Or else there would be no cache.
    this.#tlb = tlb as GenerationTlb
    this.#mm = this.#tlb.findMm(`cache ${cache.name}`)
    this.#space = this.#tlb.space(this.#mm)
    this.#looks = new Looks(this.#space, loadMs, () => cpu.platform.now())
    this.#own.clear()
  }

  /** What stands in the place of its own methods, or is new. */
  replacements(): ReadonlyMap<string | symbol, (...args: never[]) => unknown> {
    const own = this.#own
    const methods = new Map<string | symbol, (...args: never[]) => unknown>()
    for (const name of LOOKS) {
      methods.set(name, (key: Key, ...rest: unknown[]) => this.#look(key, own[name], rest))
    }
    for (const name of LOOKS_AT_ALL) {
      methods.set(name, (...args: unknown[]) => this.#lookAtAll(own[name], args))
    }
    methods.set(Symbol.iterator, () => this.#lookAtAll(own.entries, []))
    methods.set('set', (key: Key, ...rest: unknown[]) => this.#set(key, rest))
    methods.set('memo', (key: Key, ...rest: unknown[]) => this.#memo(key, rest))
    methods.set('fetch', (key: Key, ...rest: unknown[]) => this.#fetch(key, rest))
    methods.set('forceFetch', (key: Key, ...rest: unknown[]) => this.#forceFetch(key, rest))
    methods.set('delete', (key: Key) => this.#delete(key))
    methods.set('clear', () => this.#clear())
    methods.set('flush', (what: Key | readonly Key[], options?: FlushOptions) =>
      this.#flush(what, options),
    )
    methods.set('flushAll', (options?: FlushOptions) => this.#flushAll(options))
    return methods
  }

  /**
   * Whether what the lru-cache has for `key` may be used: it was marked and not flushed since, or is being
   * fetched and was not flushed since that began.
   */
  #isGood(key: Key): boolean {
    return this.#space.find(key) !== undefined || this.#fetches.get(key)?.fenced === false
  }

  /** Gives whether it was good. */
  #dropUnlessGood(key: Key): boolean {
    const good = this.#isGood(key)
    if (!good) this.#own.delete(key)
    return good
  }

  #look(key: Key, look: Method, rest: readonly unknown[]): unknown {
    const good = this.#dropUnlessGood(key)
    const found = look(key, ...rest)
    if (!good || found === undefined || found === false) this.#looks.missed(key)
    return found
  }

  #lookAtAll(look: Method, args: readonly unknown[]): unknown {
    for (const key of this.#own.keys() as Iterable<Key>) this.#dropUnlessGood(key)
    return look(...args)
  }

  #set(key: Key, rest: readonly unknown[]): unknown {
    checkKey(key)
    const fill = new Fill(key)
    // Before the question: a flush that comes after it finds the fill.
    const begun = this.#space.begin(fill)
    const mayKeep = this.#looks.mayKeep(key)
    if (!mayKeep) this.#space.abandon(fill)
    if (begun && mayKeep && this.#space.end(fill, true)) return this.#own.set(key, ...rest)
    this.#own.delete(key)
    return this.#lru
  }

  #memo(key: Key, rest: readonly unknown[]): unknown {
    checkKey(key)
    const fill = new Fill(key)
    const mayKeep = this.#space.begin(fill)
    // After the begin, as in #fillOf.
    this.#dropUnlessGood(key)
    try {
      const value = this.#own.memo(key, ...rest)
      if (!mayKeep || !this.#space.end(fill, true)) this.#own.delete(key)
      return value
    } finally {
      this.#space.abandon(fill)
    }
  }

  async #fetch(key: Key, rest: readonly unknown[]): Promise<unknown> {
    checkKey(key)
    for (let fetches = 1; ; fetches++) {
      const fill = this.#fillOf(key)
      try {
        const value = await this.#own.fetch(key, ...rest)
        this.#fetched(fill)
        if (value === undefined) this.#looks.missed(key)
        if (!fill.fenced || fetches === FETCHES_MAX) return value
      } catch (error) {
        this.#fetched(fill)
        // It may have been thrown out by somebody who asked after the flush.
        if (!fill.fenced || fetches === FETCHES_MAX) throw error
      }
    }
  }

  /** The fetch under way that may be joined, or a new one. */
  #fillOf(key: Key): Fill {
    this.#space.poll()
    const underWay = this.#fetches.get(key)
    if (underWay?.fenced === false) return underWay
    const fill = new Fill(key)
    // Where nothing may be kept, nobody may join it either.
    if (!this.#space.begin(fill)) fill.fenced = true
    // After the begin: a flush in between would find neither mark nor fill, and what is there be marked anew.
    if (this.#space.find(key) === undefined) this.#own.delete(key)
    this.#fetches.set(key, fill)
    return fill
  }

  /** Of those who wait for one fetch, the first that hears of it. */
  #fetched(fill: Fill): void {
    const { key } = fill
    if (this.#fetches.get(key) !== fill) return
    this.#fetches.delete(key)
    if (!this.#space.end(fill, true)) this.#own.delete(key)
  }

  async #forceFetch(key: Key, rest: readonly unknown[]): Promise<unknown> {
    const value = await this.#fetch(key, rest)
    // As it says itself.
    if (value === undefined) throw new Error('fetch() returned undefined')
    return value
  }

  #delete(key: Key): boolean {
    const flush = flushOf(key)
    const good = this.#isGood(key)
    const held = this.#own.delete(key)
    if (isHearing()) this.#space.evict(key)
    else this.#tlb.shootDown(this.#mm, [flush], { level: 'visible' })
    return good && held === true
  }

  #clear(): void {
    this.#own.clear()
    // Others are told even by one who is being told: it is rare, and harmless.
    this.#tlb.shootDown(this.#mm, [FLUSH_ALL_RECORD], { level: 'visible' })
  }

  #flush(what: Key | readonly Key[], options?: FlushOptions): Promise<FlushResult> {
    return this.#cache.flush(what, options)
  }

  #flushAll(options?: FlushOptions): Promise<FlushResult> {
    return this.#cache.flushAll(options)
  }
}

/**
 * A coherent cache: each thread has its own copies, decoded, and after a flush no thread can give the old
 * value. What keeps the copies coherent is kernel/translations.ts; here is what people hold.
 */

import { IpiError } from '../base/errors.ts'
import { hashKey, type Filling, type Key, type Translation } from '../hardware/tlb.ts'
import { Fill } from '../kernel/fills.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { KeyRange } from '../kernel/key-range.ts'
import type { Machine } from '../kernel/machine.ts'
import { FLUSH_ALL_RECORD, type Flush } from '../kernel/flush-log.ts'
import type { AbortSignalLike } from '../kernel/suspended-wait.ts'
import { GenerationTlb } from '../kernel/tlb-generations.ts'
import type { Translations } from '../kernel/translations.ts'
import { checkLevel, flushedError, flushesOf, flushOf } from './cache/flushes.ts'
import { freezeDeep } from './cache/freeze.ts'
import { Loading } from './cache/loading.ts'
import { Stampede } from './cache/stampede.ts'
import { CacheTypes } from './cache/types.ts'
import {
  check,
  checkKey,
  checkOptions,
  type CacheOptions,
  type CacheStats,
  type CacheType,
  type CheckedOptions,
  type FlushOptions,
  type FlushResult,
  type FlushWhat,
  type Store,
} from './cache/options.ts'

/** Walks for one `fetch`, the first included, before a value is given that is not kept. */
const WALKS_MAX = 3
/** Look-ups between two looks at the clock in one turn of the event loop. */
const LOOKUPS_PER_CLOCK = 64
/** How long to wait before a place among the broken keys is looked for again, in milliseconds. */
const BROKEN_AGAIN_MS = 1

/**
 * Makes this thread's part of a cache: call it with the same name in every thread that uses it. Throws
 * `IPI_INVALID_ARGUMENT`, also if this thread has a cache of that name, and `IPI_NOT_SUPPORTED` on a
 * machine with `tlbDriver: 'tlbstate'`.
 */
export function createCache<K extends Key, V>(
  machine: Machine,
  options: CacheOptions<K, V>,
): Cache<K, V> {
  return new Cache(machine, checkOptions(options))
}

/** A coherent cache, as one thread holds it. Not in handlers, but where a method says so. */
export class Cache<K extends Key, V> {
  /** The same on every thread. */
  readonly name: string
  readonly #kernel: Kernel
  readonly #options: CheckedOptions<K, V>
  readonly #tlb: GenerationTlb
  readonly #mm: number
  readonly #space: Translations
  readonly #stampede: Stampede | undefined
  readonly #types: CacheTypes
  #hits = 0
  #misses = 0
  #walks = 0
  /** The clock as it was in this turn. */
  #now = 0
  #nowTurn = -1
  #nowCredit = 0

  /** @internal */
  constructor(machine: Machine, options: CheckedOptions<K, V>) {
    const { kernel } = machine
    const { tlb } = kernel
    if (!(tlb instanceof GenerationTlb)) {
      throw new IpiError(
        'IPI_NOT_SUPPORTED',
        "a cache needs generations: boot without the option tlbDriver: 'tlbstate'",
      )
    }
    const space = `cache ${options.name}`
    const mm = tlb.findMm(space)
    check(!tlb.uses(mm), `this thread has a cache "${options.name}" already`, 'another')
    this.name = options.name
    this.#kernel = kernel
    this.#options = options
    this.#tlb = tlb
    this.#mm = mm
    const drop = (): void => this.#space.flushLocal()
    this.#types = new CacheTypes(machine, mm, space, options.type, drop)
    this.#space = tlb.space(mm, options.max)
    if (options.stampede === 'process') {
      this.#stampede = new Stampede(kernel, mm, (asked) => {
        const held = this.#held(asked as K)
        return held === undefined ? undefined : { value: held.value }
      })
    }
  }

  /** The value of `key` if this thread has a copy, or else undefined. Any context. */
  get(key: K): V | undefined {
    const held = this.#space.find(key)
    if (held === undefined || (held.expiresAt !== 0 && held.expiresAt <= this.#clock())) {
      return this.#miss(held)
    }
    this.#hits++
    return held.value as V | undefined
  }

  #miss(held: Translation | undefined): undefined {
    this.#misses++
    if (held !== undefined && this.#options.staleMs === 0) this.#space.drop(held.key)
    return undefined
  }

  /** As `get`, and it does not count as a use. Any context. */
  peek(key: K): V | undefined {
    return this.#held(key)?.value as V | undefined
  }

  /** Whether this thread has a value for `key`; not, if it knows that there is none. Any context. */
  has(key: K): boolean {
    return this.peek(key) !== undefined
  }

  #held(key: K): Translation | undefined {
    this.#space.poll()
    const held = this.#space.buffer.peek(key)
    if (held === undefined || held.expiresAt === 0) return held
    return held.expiresAt > this.#clock() ? held : undefined
  }

  /** A look at the clock costs as much as two look-ups, so one serves a turn, or some dozens of them. */
  #clock(): number {
    if (this.#space.turn !== this.#nowTurn || --this.#nowCredit < 0) {
      this.#now = this.#kernel.cpu.platform.now()
      this.#nowTurn = this.#space.turn
      this.#nowCredit = LOOKUPS_PER_CLOCK
    }
    return this.#now
  }

  /**
   * The value of `key`: this thread's copy, or what the walk reads now, which is then kept. Those who ask
   * while a walk is under way share it, but nobody who asks after a flush gets what was read before it.
   * Rejects with what the walk threw, the signal's reason, `IPI_FLUSHED`, `IPI_MACHINE_CLOSED`.
   */
  async fetch(
    key: K,
    { signal }: { readonly signal?: AbortSignalLike } = {},
  ): Promise<V | undefined> {
    const held = this.#space.find(key)
    if (held !== undefined) {
      const late = held.expiresAt === 0 ? -1 : this.#clock() - held.expiresAt
      if (late < this.#options.staleMs) {
        this.#hits++
        if (late >= 0 && this.#space.findFill(key) === undefined) void this.#load(key, 1)
        return held.value as V | undefined
      }
    }
    checkKey(key)
    this.#misses++
    return this.#load(key, 1).wait(signal)
  }

  /** `fetch` of several keys. Rejects with the first failure. */
  async fetchMany(
    keys: Iterable<K>,
    options?: { readonly signal?: AbortSignalLike },
  ): Promise<Map<K, V | undefined>> {
    const fetch = async (key: K): Promise<readonly [K, V | undefined]> => [
      key,
      await this.fetch(key, options),
    ]
    return new Map(await Promise.all(Array.from(keys, fetch)))
  }

  /** A walk for `key`: one under way that may be joined, or a new one. */
  #load(key: K, walk: number): Loading<V> {
    const found = this.#space.findFill(key)
    if (found instanceof Loading) return found as Loading<V>
    this.#kernel.waits.checkOpen()
    const loading = new Loading<V>(key, this.#onLonely)
    if (this.#options.onFenced === 'retry') {
      // In interrupt context: listeners of a signal are the application's.
      loading.onFenced = () => queueMicrotask(() => loading.abort(flushedError(key)))
    }
    const mayKeep = this.#types.mayKeep(key) && this.#space.begin(loading)
    loading.promise = this.#walk(key, loading, mayKeep, walk)
    // Whoever waits is told; perhaps nobody does any more.
    loading.promise.catch(() => undefined)
    return loading
  }

  readonly #onLonely = (loading: Loading<V>): void => this.#space.abandon(loading)

  #walk(key: K, loading: Loading<V>, mayKeep: boolean, walk: number): Promise<V | undefined> {
    const settle = (value: V | undefined): Promise<V | undefined> =>
      this.#settle(key, loading, mayKeep, walk, value)
    const walkHere = async (): Promise<V | undefined> => {
      const { platform } = this.#kernel.cpu
      const startedAt = platform.now()
      let value: V | undefined
      try {
        // It may have been fenced, or given up, while another thread walked.
        loading.signal.throwIfAborted()
        this.#walks++
        value = await this.#options.walk(key, { signal: loading.signal })
      } catch (error) {
        this.#space.abandon(loading)
        if (!this.#mayRetry(loading, walk)) throw error
        return this.#load(key, walk + 1).wait(undefined)
      }
      this.#space.noteWalk((platform.now() - startedAt) * 1000)
      return settle(value)
    }
    return this.#stampede === undefined || !mayKeep
      ? walkHere()
      : this.#stampede.walk(loading, walkHere, settle)
  }

  #mayRetry(loading: Loading<V>, walk: number): boolean {
    return loading.fenced && this.#options.onFenced === 'retry' && walk < WALKS_MAX
  }

  /** A walk has given something: it is kept, or the policy says what happens. */
  async #settle(
    key: K,
    loading: Loading<V>,
    mayKeep: boolean,
    walk: number,
    value: V | undefined,
  ): Promise<V | undefined> {
    if (this.#options.freeze) freezeDeep(value)
    if (!mayKeep) return value
    const filling = this.#filling(key, value, this.#kernel.cpu.platform.now())
    if (this.#space.end(loading, value, filling)) return value
    if (this.#options.onFenced === 'reject') throw flushedError(key)
    return this.#mayRetry(loading, walk) ? this.#load(key, walk + 1).wait(undefined) : value
  }

  #filling(key: K, value: V | undefined, now: number): Filling {
    const { ttl, tags } = this.#options
    return {
      expiresAt: ttl === Infinity ? 0 : Math.ceil(now + ttl),
      // An arrow: what map adds to the tag is no part of it.
      tags: tags?.(value, key).map((tag) => hashKey(tag)),
    }
  }

  /** Drops this thread's copy, and no other: see `flush`. Gives whether there was one. Any context. */
  evict(key: K): boolean {
    return this.#space.evict(key)
  }

  /**
   * Makes every thread forget. Change the authority first: once this resolves no `get` and no `fetch` that
   * begins then gives what stood there before, on any thread, and no walk under way can bring it back.
   * That is so with `until: 'visible'`, which waits for nobody; `dropped` waits until no active thread has
   * a copy any more, `quiesced` until nothing runs that has read one. Rejects with `IPI_TIMEOUT`, naming
   * who is late, and the signal's reason: it is visible all the same.
   */
  async flush(what: FlushWhat<K>, options: FlushOptions = {}): Promise<FlushResult> {
    return this.#flush(flushesOf(what), options)
  }

  /** `flush` of everything. */
  async flushAll(options: FlushOptions = {}): Promise<FlushResult> {
    return this.#flush([FLUSH_ALL_RECORD], options)
  }

  async #flush(
    flushes: readonly Flush[],
    { until: level = 'dropped', wakeLazy = false, timeoutMs, signal }: FlushOptions,
  ): Promise<FlushResult> {
    const { waits, flushes: waiting, cpu } = this.#kernel
    checkLevel(level)
    if (level !== 'visible') waits.checkMayWait('flush', false)
    const startedAt = cpu.platform.now()
    const request = this.#tlb.shootDown(this.#mm, flushes, { level, wakeLazy })
    const waitedFor = request?.late() ?? []
    if (request !== undefined) await waiting.until(request, timeoutMs, signal)
    return { waitedFor, waitedMs: cpu.platform.now() - startedAt }
  }

  /**
   * Changes what `key` stands for, so that all threads see it at one moment: while `change` runs no thread
   * has a copy or keeps one, and each reads the authority. If that is linearizable, so are the reads of the
   * cache. Gives what `change` gave. Rejects with what it threw, and `IPI_CPU_BUSY` if too many keys are
   * being changed for too long.
   */
  async mutate<R>(
    key: K,
    change: () => R | Promise<R>,
    { timeoutMs = this.#kernel.flushes.timeoutMs }: { readonly timeoutMs?: number } = {},
  ): Promise<R> {
    checkKey(key)
    this.#kernel.waits.checkMayWait('mutate', false)
    const hash = hashKey(key)
    const place = await this.#breakKey(hash, timeoutMs)
    try {
      return await change()
    } finally {
      this.#tlb.makeKey(this.#space, hash, place)
    }
  }

  async #breakKey(hash: number, timeoutMs: number): Promise<number> {
    const { platform } = this.#kernel.cpu
    const deadline = platform.now() + timeoutMs
    for (;;) {
      const place = this.#tlb.breakKey(this.#space, hash)
      if (place >= 0) return place
      if (platform.now() >= deadline) {
        throw new IpiError(
          'IPI_CPU_BUSY',
          `cache "${this.name}": too many keys are being changed for more than ${timeoutMs} ms`,
        )
      }
      await new Promise<void>((resolve) => setTimeout(resolve, BROKEN_AGAIN_MS))
    }
  }

  /**
   * Writes through the cache to its `store`, and makes other threads forget, as its `type` says; of a
   * write-through cache until `visible`, if the options do not say otherwise. Rejects
   * with what the store threw, `IPI_NOT_SUPPORTED` without one, and as `flush` does.
   */
  async set(key: K, value: V, options: FlushOptions = {}): Promise<void> {
    checkKey(key)
    const { store, name } = this.#options
    if (store === undefined) {
      throw new IpiError(
        'IPI_NOT_SUPPORTED',
        `cache "${name}" has a walk and no store: write where the walk reads, then flush(key)`,
      )
    }
    // From here to its end it is a write under the type of now.
    await this.#types.writing(this.#write(key, value, store, options))
  }

  async #write(key: K, value: V, store: Store<K, V>, options: FlushOptions): Promise<void> {
    const type = this.#types.of(key)
    if (type === 'uncacheable') return void (await store.set(key, value))
    // Before the store is written: who writes or flushes the key meanwhile fences it.
    const fill = new Fill(key)
    const mayKeep = type === 'write-through' && this.#space.begin(fill)
    try {
      await store.set(key, value)
    } catch (error) {
      this.#space.abandon(fill)
      // It may be committed all the same.
      void this.flush(key, { until: 'visible' })
      throw error
    }
    await this.#afterWrite(fill, mayKeep, value, options)
  }

  async #afterWrite(fill: Fill, mayKeep: boolean, value: V, options: FlushOptions): Promise<void> {
    const key = fill.key as K
    if (!mayKeep) return void (await this.flush(key, options))
    const { until: level = 'visible', wakeLazy = false, timeoutMs, signal } = options
    checkLevel(level)
    if (this.#options.freeze) freezeDeep(value)
    const filling = this.#filling(key, value, this.#kernel.cpu.platform.now())
    const generation = this.#space.publishAndKeep(fill, flushOf(key), value, filling)
    const request = this.#tlb.flushTlbOthers(this.#mm, generation, { level, wakeLazy })
    await this.#kernel.flushes.until(request, timeoutMs, signal)
  }

  /**
   * Gives keys another type on all threads at once, or with undefined the one they had before: in a
   * rendezvous, after which no thread has a copy of them. Rejects as `machine.mtrr.setType` does.
   */
  setType(range: KeyRange, type: CacheType | undefined): Promise<void> {
    return this.#types.set(range, type)
  }

  /** What this thread's part has done so far. */
  get stats(): CacheStats {
    const { full, fenced } = this.#space.counts
    return {
      size: this.#space.buffer.size,
      hits: this.#hits,
      misses: this.#misses,
      walks: this.#walks,
      fenced,
      fullFlushes: full,
    }
  }

  /** This thread uses the cache no more: it drops its copies, and nobody waits for it. */
  close(): void {
    this.#stampede?.close()
    this.#types.close()
    this.#tlb.leave(this.#mm)
  }
}

/**
 * Coherence for an lru-cache that is there already: what it holds of a key counts only as long as this
 * thread's translations have the key, and those are flushed with everybody's.
 */

import { IpiError } from '../../base/errors.ts'
import type { Key } from '../../hardware/tlb.ts'
import { Fill } from '../../kernel/fills.ts'
import { FLUSH_ALL_RECORD, type Flush } from '../../kernel/flush-log.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import type { Machine } from '../../kernel/machine.ts'
import { GenerationTlb } from '../../kernel/tlb-generations.ts'
import type { Translations } from '../../kernel/translations.ts'
import { flushesOf } from '../cache/flushes.ts'
import type { FlushOptions, FlushWhat } from '../cache/options.ts'

/** What is used of an lru-cache. */
export interface LruLike<K, V> {
  readonly max: number
  get(key: K): V | undefined
  peek(key: K): V | undefined
  set(key: K, value: V): unknown
  delete(key: K): boolean
  fetch?(key: K, options?: object): Promise<V | undefined>
}

/** How it is made coherent. */
export interface CoherentOptions {
  /** The same on every thread. */
  readonly name: string
}

/** Leases of misses that nobody has come back to, at most. */
const LEASES_MAX = 1024
/** Places of the buffer if the lru-cache has no limit of its own. */
const PLACES = 1 << 20

/**
 * Makes an lru-cache of this thread one with those of the same name in other threads. From then on use what
 * this gives, and not the lru-cache itself. Throws `IPI_INVALID_ARGUMENT`, `IPI_NOT_SUPPORTED`.
 */
export function coherent<K extends Key, V>(
  cache: LruLike<K, V>,
  machine: Machine,
  { name }: CoherentOptions,
): CoherentLru<K, V> {
  return new CoherentLru(cache, machine.kernel, name)
}

/** An lru-cache, coherent with those of other threads. */
export class CoherentLru<K extends Key, V> {
  readonly #cache: LruLike<K, V>
  readonly #kernel: Kernel
  readonly #tlb: GenerationTlb
  readonly #space: Translations
  /**
   * Keys that were asked for in vain: whoever sets one of them has read it after that. A flush in between
   * voids the lease, as memcached has it, and what is set is not kept.
   */
  readonly #leases = new Map<K, Fill>()

  /** @internal */
  constructor(cache: LruLike<K, V>, kernel: Kernel, name: string) {
    const { tlb } = kernel
    if (typeof name !== 'string' || name === '') {
      throw new IpiError('IPI_INVALID_ARGUMENT', 'coherent(cache, machine, { name }) takes a name')
    }
    if (!(tlb instanceof GenerationTlb)) {
      throw new IpiError('IPI_NOT_SUPPORTED', "boot without the option tlbDriver: 'tlbstate'")
    }
    const mm = tlb.findMm(`lru ${name}`)
    if (tlb.uses(mm)) {
      throw new IpiError('IPI_INVALID_ARGUMENT', `this thread has an lru-cache "${name}" already`)
    }
    this.#cache = cache
    this.#kernel = kernel
    this.#tlb = tlb
    this.#space = tlb.space(mm, cache.max > 0 ? cache.max : PLACES)
  }

  /** The value of `key`, if it is held and was not flushed. A miss takes a lease for `set`. Any context. */
  get(key: K): V | undefined {
    if (this.#space.find(key) !== undefined) {
      const value = this.#cache.get(key)
      if (value !== undefined) return value
    } else this.#cache.delete(key)
    this.#lease(key)
    return undefined
  }

  /** As `get`, without lease or use. */
  peek(key: K): V | undefined {
    this.#space.poll()
    return this.#space.buffer.has(key) ? this.#cache.peek(key) : undefined
  }

  /** Whether a value is held that was not flushed. */
  has(key: K): boolean {
    return this.peek(key) !== undefined
  }

  #lease(key: K): void {
    if (this.#leases.has(key)) return
    const fill = new Fill(key)
    if (!this.#space.begin(fill)) return
    this.#leases.set(key, fill)
    if (this.#leases.size <= LEASES_MAX) return
    const [oldest, abandoned] = this.#leases.entries().next().value!
    this.#leases.delete(oldest)
    this.#space.abandon(abandoned)
  }

  /**
   * Keeps a value in this thread; gives whether it was kept: not, if the key was flushed since a `get` of it
   * missed. Without such a `get` the value counts as read now.
   */
  set(key: K, value: V): boolean {
    if (!this.#leases.has(key)) this.#lease(key)
    const fill = this.#leases.get(key)
    this.#leases.delete(key)
    if (fill === undefined || !this.#space.end(fill, true)) {
      this.#cache.delete(key)
      return false
    }
    this.#cache.set(key, value)
    return true
  }

  /**
   * `fetch` of the lru-cache, fenced: what was flushed while it was fetched is fetched again, once. Rejects
   * with what its `fetchMethod` threw, and `IPI_NOT_SUPPORTED` without one.
   */
  async fetch(key: K, options?: object): Promise<V | undefined> {
    const found = this.get(key)
    if (found !== undefined) return found
    for (let again = false; ; again = true) {
      if (this.#cache.fetch === undefined) {
        throw new IpiError('IPI_NOT_SUPPORTED', 'this lru-cache has no fetch')
      }
      const fill = this.#leases.get(key)
      const joined = fill !== undefined && this.#space.findFill(key) === fill
      if (!joined) {
        // What is under way was flushed: it ends, and whoever waits for it asks again.
        this.#leases.delete(key)
        this.#cache.delete(key)
        this.#lease(key)
      }
      const lease = this.#leases.get(key)
      const value = await this.#cache.fetch(key, options).catch((error: unknown) => {
        if (lease?.fenced === true && !again) return undefined
        throw error
      })
      if (lease === undefined) {
        this.#cache.delete(key)
        return value
      }
      if (this.#leases.get(key) === lease) {
        this.#leases.delete(key)
        if (this.#space.end(lease, true)) return value
      } else if (!lease.fenced) return value
      if (again) return value
    }
  }

  /** Drops this thread's copy only. Gives whether there was one. */
  evict(key: K): boolean {
    this.#space.evict(key)
    return this.#cache.delete(key)
  }

  /** Makes every thread forget: see `Cache.flush`. Keys, a range of numbers. */
  async flush(
    what: Exclude<FlushWhat<K>, { readonly tag: string }>,
    options: FlushOptions = {},
  ): Promise<void> {
    await this.#flush(flushesOf<K>(what), options)
  }

  /** `flush` of everything. */
  async flushAll(options: FlushOptions = {}): Promise<void> {
    await this.#flush([FLUSH_ALL_RECORD], options)
  }

  async #flush(
    flushes: readonly Flush[],
    { until: level = 'dropped', wakeLazy = false, timeoutMs, signal }: FlushOptions,
  ): Promise<void> {
    const { waits, flushes: waiting } = this.#kernel
    if (level !== 'visible') waits.checkMayWait('flush', false)
    const request = this.#tlb.shootDown(this.#space.mm, flushes, { level, wakeLazy })
    await waiting.until(request, timeoutMs, signal)
  }

  /** This thread's lru-cache is one of its own again. */
  close(): void {
    this.#tlb.leave(this.#space.mm)
  }
}

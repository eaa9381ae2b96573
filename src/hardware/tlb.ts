/**
 * A translation lookaside buffer: one thread's private copies of translations, decoded. Intel SDM
 * vol. 3, chapter "Paging", "Caching Translation Information". Hardware has one buffer and tags each
 * translation with its address space (PCID); here each space has a buffer of its own, so that a
 * look-up hashes the key and nothing else, and a small space is not pushed out by a large one.
 *
 * When it is full it evicts by SIEVE (Zhang et al., NSDI 2024): a hit sets a bit and moves nothing, which
 * LRU cannot do; a hand goes from the oldest to the newest, spares what was used since it last came by,
 * and evicts the first that was not. On skewed traces it misses less than LRU.
 *
 *      newest                                    oldest
 *      head -> [ ] -> [used] -> [used] -> [ ] -> tail
 *                         <--- hand
 */

import { fnv1a, FNV_OFFSET } from '../base/fnv.ts'

/** What a translation is known by: the number of a page, or any string. */
export type Key = number | string

/** One translation. A thread that holds one across its turns holds an old one. */
export interface Translation {
  readonly key: Key
  /** What flushes know the key by: see hashKey. */
  readonly hash: number
  readonly value: unknown
  /** It survives a change of address space: only the protocol of 2.6.11 has such. */
  readonly global: boolean
  /** Labels under which it is flushed with others, hashed. */
  readonly tags: readonly number[] | undefined
  /**
   * When it is too old, on the clock of whoever filled it; 0 never. A whole number: a field that may have a
   * fraction is a box of its own, and one more miss of the processor's cache for each hit.
   */
  readonly expiresAt: number
}

/** How a translation is filled. */
export interface Filling {
  readonly global?: boolean
  readonly tags?: readonly number[] | undefined
  readonly expiresAt?: number
}

/** A translation in its place. */
class Place implements Translation {
  readonly key: Key
  readonly hash: number
  value: unknown
  global: boolean
  tags: readonly number[] | undefined
  expiresAt: number
  /** Used since the hand last came by. */
  used = false
  newer: Place | undefined
  older: Place | undefined
  /** The next of the same hash. */
  sameHash: Place | undefined

  constructor(key: Key, hash: number, value: unknown, filling: Filling) {
    this.key = key
    this.hash = hash
    this.value = value
    this.global = filling.global === true
    this.tags = filling.tags
    this.expiresAt = filling.expiresAt ?? 0
  }
}

/**
 * One thread's buffer of one address space. Touched only with interrupts off, so that a flush never
 * finds it half changed; `lookup` alone may be interrupted, it changes nothing that a flush looks at.
 */
export class TranslationBuffer {
  readonly #capacity: number
  readonly #places = new Map<Key, Place>()
  readonly #byHash = new Map<number, Place>()
  readonly #byTag = new Map<number, Set<Place>>()
  #newest: Place | undefined
  #oldest: Place | undefined
  #hand: Place | undefined
  #globals = 0

  /** `capacity`: how many translations it holds at most. */
  constructor(capacity = 4096) {
    this.#capacity = capacity
  }

  /** How many translations it holds. */
  get size(): number {
    return this.#places.size
  }

  /** How many it holds at most. */
  get capacity(): number {
    return this.#capacity
  }

  /** Whether a translation of `key` is held. */
  has(key: Key): boolean {
    return this.#places.has(key)
  }

  /** The translation of `key`, or undefined. What is found counts as used. */
  find(key: Key): Translation | undefined {
    const place = this.#places.get(key)
    // A write only where it is needed: the line stays clean in the processor's cache.
    if (place !== undefined && !place.used) place.used = true
    return place
  }

  /** The same, and it does not count as used. */
  peek(key: Key): Translation | undefined {
    return this.#places.get(key)
  }

  /** The value that `key` translates to, or undefined. */
  lookup(key: Key): unknown {
    return this.find(key)?.value
  }

  /** Keeps a translation; gives the one that it took the place of, if the buffer was full. */
  fill(key: Key, value: unknown, filling: Filling = {}): Translation | undefined {
    const old = this.#places.get(key)
    if (old !== undefined) this.#remove(old)
    const evicted = this.#places.size >= this.#capacity ? this.#evict() : undefined
    this.#insert(new Place(key, hashKey(key), value, filling))
    return evicted
  }

  /** INVLPG: forgets one translation, global or not. Gives whether it was held. */
  invalidatePage(key: Key): boolean {
    const place = this.#places.get(key)
    if (place !== undefined) this.#remove(place)
    return place !== undefined
  }

  /** Forgets whatever has this hash: the key that was meant, and seldom another. */
  invalidateHash(hash: number): void {
    for (let place = this.#byHash.get(hash); place !== undefined;) {
      const next = place.sameHash
      this.#remove(place)
      place = next
    }
  }

  /** Forgets the pages from `start` up to, not including, `end`. */
  invalidateRange(start: number, end: number): void {
    if (end - start <= this.#places.size) {
      for (let page = start; page < end; page++) this.invalidatePage(page)
      return
    }
    for (const place of this.#places.values()) {
      const { key } = place
      if (typeof key === 'number' && key >= start && key < end) this.#remove(place)
    }
  }

  /** Forgets whatever bears the tag of this hash. */
  invalidateTag(tag: number): void {
    for (const place of this.#byTag.get(tag) ?? []) this.#remove(place)
  }

  /** Loading CR3: forgets every translation that is not global. */
  reload(): void {
    if (this.#globals === 0) return this.flushAll()
    for (const place of this.#places.values()) if (!place.global) this.#remove(place)
  }

  /** Toggling CR4.PGE: forgets everything. */
  flushAll(): void {
    this.#places.clear()
    this.#byHash.clear()
    this.#byTag.clear()
    this.#newest = this.#oldest = this.#hand = undefined
    this.#globals = 0
  }

  #evict(): Place {
    let place = this.#hand ?? this.#oldest!
    while (place.used) {
      place.used = false
      place = place.newer ?? this.#oldest!
    }
    this.#hand = place
    // Moves the hand on.
    this.#remove(place)
    return place
  }

  #insert(place: Place): void {
    place.older = this.#newest
    if (this.#newest === undefined) this.#oldest = place
    else this.#newest.newer = place
    this.#newest = place
    this.#places.set(place.key, place)
    place.sameHash = this.#byHash.get(place.hash)
    this.#byHash.set(place.hash, place)
    if (place.global) this.#globals++
    for (const tag of place.tags ?? []) {
      const tagged = this.#byTag.get(tag)
      if (tagged === undefined) this.#byTag.set(tag, new Set([place]))
      else tagged.add(place)
    }
  }

  #remove(place: Place): void {
    const { key, hash, newer, older } = place
    this.#places.delete(key)
    if (newer === undefined) this.#newest = older
    else newer.older = older
    if (older === undefined) this.#oldest = newer
    else older.newer = newer
    if (this.#hand === place) this.#hand = newer
    const first = this.#byHash.get(hash)!
    if (first !== place) {
      let before = first
      while (before.sameHash !== place) before = before.sameHash!
      before.sameHash = place.sameHash
    } else if (place.sameHash === undefined) this.#byHash.delete(hash)
    else this.#byHash.set(hash, place.sameHash)
    if (place.global) this.#globals--
    for (const tag of place.tags ?? []) {
      const tagged = this.#byTag.get(tag)!
      tagged.delete(place)
      if (tagged.size === 0) this.#byTag.delete(tag)
    }
  }
}

/**
 * What flushes know a key by, on every thread: a page by its number, a string by 32 bits of FNV-1a. Two
 * keys that meet are forgotten together, which costs a walk and nothing else.
 */
export function hashKey(key: Key): number {
  if (typeof key === 'number' && (key >>> 0 === key || (key | 0) === key)) return key | 0
  const text = String(key)
  let hash = FNV_OFFSET
  for (let i = 0; i < text.length; i++) hash = fnv1a(hash, text.charCodeAt(i))
  // FNV leaves the last characters in the low bits.
  return hash ^ (hash >>> 15)
}

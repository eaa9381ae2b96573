/**
 * Fills under way: walks that have begun and whose result is not in the buffer yet. A flush that comes
 * meanwhile fences them, because what they have read may be what was flushed. A fenced fill keeps
 * nothing, and nobody joins it: whoever asks after the flush must not get what was read before.
 */

import { hashKey, type Key } from '../hardware/tlb.ts'

/** One walk under way. Made by whoever walks; `Translations.begin` enters it. */
export class Fill {
  readonly key: Key
  /** What flushes know the key by. */
  readonly hash: number
  /** A flush came after it had begun: what it gives is not kept. */
  fenced = false
  /** Tags that were flushed since it began: what bears one of them is not kept. */
  flushedTags: number[] | undefined
  /** Called when it is fenced, in interrupt context, interrupts off. */
  onFenced: () => void = () => undefined
  /** The next of the same hash. */
  sameHash: Fill | undefined

  constructor(key: Key) {
    this.key = key
    this.hash = hashKey(key)
  }
}

/** The fills of one thread in one address space. Touched only with interrupts off. */
export class Fills {
  readonly #byHash = new Map<number, Fill>()
  #count = 0
  #fencedCount = 0

  /** How many are under way and not fenced. */
  get count(): number {
    return this.#count
  }

  /** How many were fenced so far. */
  get fencedCount(): number {
    return this.#fencedCount
  }

  /** One that somebody who asks for `key` now may join. */
  find(key: Key): Fill | undefined {
    let fill = this.#byHash.get(hashKey(key))
    while (fill !== undefined && fill.key !== key) fill = fill.sameHash
    return fill
  }

  add(fill: Fill): void {
    fill.sameHash = this.#byHash.get(fill.hash)
    this.#byHash.set(fill.hash, fill)
    this.#count++
  }

  /** Takes one out that has ended; gives whether it was in, which a fenced one is not. */
  delete(fill: Fill): boolean {
    const first = this.#byHash.get(fill.hash)
    let before: Fill | undefined
    for (let each = first; each !== fill; each = each.sameHash) {
      if (each === undefined) return false
      before = each
    }
    if (before !== undefined) before.sameHash = fill.sameHash
    else if (fill.sameHash === undefined) this.#byHash.delete(fill.hash)
    else this.#byHash.set(fill.hash, fill.sameHash)
    this.#count--
    return true
  }

  /** Fences those of a hash. */
  fence(hash: number): void {
    const first = this.#byHash.get(hash)
    if (first === undefined) return
    this.#byHash.delete(hash)
    for (let fill: Fill | undefined = first; fill !== undefined; fill = fill.sameHash) {
      this.#count--
      this.#fencedCount++
      fill.fenced = true
      fill.onFenced()
    }
  }

  /** Fences those of the pages from `start` up to, not including, `end`. */
  fenceRange(start: number, end: number): void {
    for (const { key, hash } of this.#all()) {
      if (typeof key === 'number' && key >= start && key < end) this.fence(hash)
    }
  }

  /** What bears the tag is known only when the walk is over. */
  noteTag(tag: number): void {
    for (const fill of this.#all()) (fill.flushedTags ??= []).push(tag)
  }

  /** Fences all. */
  fenceAll(): void {
    for (const hash of this.#byHash.keys()) this.fence(hash)
  }

  #all(): Fill[] {
    const fills: Fill[] = []
    for (const first of this.#byHash.values()) {
      for (let fill: Fill | undefined = first; fill !== undefined; fill = fill.sameHash) {
        fills.push(fill)
      }
    }
    return fills
  }
}

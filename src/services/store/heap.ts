/**
 * The blocks of a shared store: a buddy allocator (Knuth, The Art of Computer Programming, 2.5), whose
 * holder may die at any word. The order of every block below `top` is valid at each moment, so that
 * whoever comes next can walk the heap and find what is nobody's. All of it belongs to the holder of the
 * store's lock.
 */

import { load, store, type SharedWords } from '../../hardware/memory.ts'
import { BLOCK, FREE, ORDER_MAX, ORDER_MIN, STORE, type StoreMap } from './layout.ts'

/** The heap of one store. */
export class StoreHeap {
  readonly #words: SharedWords
  readonly #base: number
  readonly #end: number
  /** The oldest sequence at which somebody began to read who still reads. */
  readonly #oldestReader: () => number

  constructor(map: StoreMap, oldestReader: () => number) {
    this.#words = map.words
    this.#base = map.heap
    this.#end = map.end
    this.#oldestReader = oldestReader
  }

  /** A block of at least so many words, or 0 if there is none. What stands in it means nothing. */
  allocate(wordCount: number): number {
    const order = Math.max(ORDER_MIN, 32 - Math.clz32(wordCount - 1))
    if (order > ORDER_MAX) return 0
    const at = this.#takeFree(order) || this.#extend(order)
    if (at !== 0) this.#words[STORE.usedWords]! += 1 << order
    return at
  }

  #takeFree(order: number): number {
    let found = order
    while (this.#words[STORE.free + found]! === 0) if (++found > ORDER_MAX) return 0
    const at = this.#words[STORE.free + found]!
    this.#unlink(at, found)
    while (found > order) {
      found--
      const half = at + (1 << found)
      // The half before the whole is halved: until then the walk steps over it.
      this.#words[half + BLOCK.order] = found
      this.#words[at + BLOCK.order] = found
      this.#link(half, found)
    }
    this.#words[at + BLOCK.order] = order
    return at
  }

  /** A block that nobody has had; what is skipped to have it aligned becomes free. */
  #extend(order: number): number {
    const size = 1 << order
    const used = this.#words[STORE.top]! - this.#base
    if (this.#base + Math.ceil(used / size) * size + size > this.#end) return 0
    for (;;) {
      const at = this.#words[STORE.top]!
      const rest = (at - this.#base) % size
      const low = rest === 0 ? order : 31 - Math.clz32(rest & -rest)
      this.#words[at + BLOCK.order] = low
      this.#words[STORE.top] = at + (1 << low)
      if (rest === 0) return at
      this.#free(at, low)
    }
  }

  /** A block that no chain leads to any more. Readers may still be in it. */
  retire(at: number): void {
    const words = this.#words
    words[STORE.usedWords]! -= 1 << (words[at + BLOCK.order]! & 0xff)
    this.#queue(at)
  }

  #queue(at: number): void {
    const words = this.#words
    words[at + BLOCK.link] = 0
    words[at + BLOCK.back] = load(words, STORE.sequence)
    const last = words[STORE.retiredLast]!
    if (last === 0) words[STORE.retiredFirst] = at
    else words[last + BLOCK.link] = at
    words[STORE.retiredLast] = at
    words[STORE.retiredCount]! += 1
  }

  /** How many blocks wait for readers. */
  get retiredCount(): number {
    return this.#words[STORE.retiredCount]!
  }

  /** Frees the retired blocks that no reader can be in any more. */
  reclaim(): void {
    const words = this.#words
    const oldest = this.#oldestReader()
    for (;;) {
      const at = words[STORE.retiredFirst]!
      // Who began at the sequence of its end, or later, did not find it.
      if (at === 0 || ((oldest - words[at + BLOCK.back]!) | 0) < 0) return
      const next = words[at + BLOCK.link]!
      words[STORE.retiredFirst] = next
      if (next === 0) words[STORE.retiredLast] = 0
      words[STORE.retiredCount]! -= 1
      this.#free(at, words[at + BLOCK.order]! & 0xff)
    }
  }

  /** Joins a block with its buddy for as long as that is free. */
  #free(from: number, withOrder: number): void {
    const words = this.#words
    let at = from
    let order = withOrder
    for (; order < ORDER_MAX; order++) {
      const buddy = this.#base + ((at - this.#base) ^ (1 << order))
      if (buddy + (1 << order) > words[STORE.top]!) break
      if (words[buddy + BLOCK.order] !== (order | FREE)) break
      this.#unlink(buddy, order)
      at = Math.min(at, buddy)
      // One word joins the two.
      words[at + BLOCK.order] = order + 1
    }
    this.#link(at, order)
  }

  #link(at: number, order: number): void {
    const words = this.#words
    const first = words[STORE.free + order]!
    words[at + BLOCK.order] = order | FREE
    words[at + BLOCK.link] = first
    words[at + BLOCK.back] = 0
    if (first !== 0) words[first + BLOCK.back] = at
    words[STORE.free + order] = at
  }

  #unlink(at: number, order: number): void {
    const words = this.#words
    const next = words[at + BLOCK.link]!
    const back = words[at + BLOCK.back]!
    if (next !== 0) words[next + BLOCK.back] = back
    if (back === 0) words[STORE.free + order] = next
    else words[back + BLOCK.link] = next
  }

  /**
   * A writer has died in the middle: walks all blocks and sets the books up anew. What no chain leads to
   * is retired, and not free: somebody may be reading it. May itself be broken off and begun again.
   */
  repair(reachable: ReadonlySet<number>): void {
    const words = this.#words
    for (let order = ORDER_MIN; order <= ORDER_MAX; order++) words[STORE.free + order] = 0
    words[STORE.retiredFirst] = words[STORE.retiredLast] = words[STORE.retiredCount] = 0
    words[STORE.count] = reachable.size
    words[STORE.usedWords] = 0
    // Whatever the dead had unlinked: who begins from now on does not find it.
    store(words, STORE.sequence, (load(words, STORE.sequence) + 2) | 0)
    for (let at = this.#base; at < words[STORE.top]!;) {
      const order = words[at + BLOCK.order]! & 0xff
      words[at + BLOCK.order] = order
      if (reachable.has(at)) words[STORE.usedWords]! += 1 << order
      else this.#queue(at)
      at += 1 << order
    }
  }
}

/**
 * Broken keys: break before make, the rule by which ARM changes a translation that is in use, and
 * Chubby a file that is cached ("uncacheable while invalidations are outstanding"). While a key is
 * broken no CPU holds a translation of it and none keeps one, so whoever changes what it stands for
 * changes it for everybody at once.
 *
 *   break    1 enters the hash into the table       2 publishes a `broken` record: see Translations
 *   make     3 takes it out of the table            4 publishes another
 *
 * The table is before the record on the way in and on the way out: who reads the table because of the
 * record, or because of a full flush, finds the key there until it may be kept again.
 */

import { BROKEN_COUNT, BROKEN_WORDS, SPACE, spaceLog } from '../hardware/layout.ts'
import { compareExchange, load, store } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'
import { holderOf, holderWord, isVoid } from './robust-lock.ts'

/** The table of one address space. One per thread that uses it. */
export class BrokenKeys {
  readonly #cpu: Cpu
  readonly #at: number

  constructor(cpu: Cpu, mm: number) {
    this.#cpu = cpu
    this.#at = spaceLog(cpu.memory, mm) + SPACE.broken
  }

  /** Enters a hash; gives its place for `leave`, or -1 if the table is full. */
  enter(hash: number): number {
    const { words } = this.#cpu.memory
    const word = holderWord(this.#cpu)
    for (let place = 0; place < BROKEN_COUNT; place++) {
      const at = this.#at + place * BROKEN_WORDS
      if (compareExchange(words, at, 0, word) !== 0) continue
      // A reader that sees the place taken and the hash of before is told to read again.
      store(words, at + 1, hash)
      return place
    }
    return -1
  }

  /** Takes a hash out. */
  leave(place: number): void {
    const { words } = this.#cpu.memory
    // Not if this thread was buried meanwhile: it is somebody else's.
    compareExchange(words, this.#at + place * BROKEN_WORDS, holderWord(this.#cpu), 0)
  }

  /** The hashes that are broken now. */
  read(): Set<number> {
    const { words } = this.#cpu.memory
    const hashes = new Set<number>()
    for (let place = 0; place < BROKEN_COUNT; place++) {
      const at = this.#at + place * BROKEN_WORDS
      if (load(words, at) !== 0) hashes.add(load(words, at + 1))
    }
    return hashes
  }

  /** Takes out what a dead CPU has broken; gives those hashes. Any thread; several may at once. */
  reap(dead: number): number[] {
    const { words } = this.#cpu.memory
    const hashes: number[] = []
    for (let place = 0; place < BROKEN_COUNT; place++) {
      const at = this.#at + place * BROKEN_WORDS
      const word = load(words, at)
      if (word === 0 || holderOf(word) !== dead || !isVoid(this.#cpu, word)) continue
      const hash = load(words, at + 1)
      if (compareExchange(words, at, word, 0) === word) hashes.push(hash)
    }
    return hashes
  }
}

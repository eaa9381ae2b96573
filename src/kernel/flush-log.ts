/**
 * The log of the flushes of one address space: what the kernel has as `mm->context.tlb_gen`, with a ring
 * of records behind it, so that a CPU that is several flushes behind need not forget everything.
 * Linux `arch/x86/mm/tlb.c`, inc_mm_tlb_gen and flush_tlb_func.
 *
 *   writer   1 takes generations: reserved += n          reader   a published != what I have seen
 *            2 claims each record, writes it, commits             b reads each record in between,
 *            3 raises `published` to the last                       and sees it committed before and after
 *
 * Nobody waits for anybody. A record that a reader finds unwritten (its writer is slow, or dead, or has
 * lost the place to one who came a whole round later) is a hole, and a hole means: forget everything.
 * That is always right, because whoever reserved it had changed the tables before.
 */

import { RECORD, RECORD_WORDS, SPACE, spaceLog } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { add, compareExchange, load, store, type SharedWords } from '../hardware/memory.ts'

/** What a record tells its readers to forget. */
export const FLUSH = {
  /** Every translation. */
  all: 1,
  /** Whatever has the hash `from`. */
  key: 2,
  /** The pages from `from` up to, not including, `to`. */
  range: 3,
  /** Whatever bears the tag of hash `from`. */
  tag: 4,
  /** The hash `from`, which is broken, or is so no more: kernel/broken-keys.ts. */
  broken: 5,
} as const

/** What is flushed, as a record has it. */
export interface Flush {
  readonly kind: number
  readonly from: number
  readonly to: number
}

/** Everything. */
export const FLUSH_ALL_RECORD: Flush = { kind: FLUSH.all, from: 0, to: 0 }

/** Looks at a record that is being written before it counts as a hole. */
const LOOKS = 64

/** One address space's log. One per thread that uses it. */
export class FlushLog {
  /** The last generation that may be read: one word, for the look before each look-up. */
  readonly published: SharedWords
  /** How many records the ring holds. */
  readonly size: number
  readonly #words: SharedWords
  readonly #at: number
  readonly #looks: number

  /** `processors`: on one alone a record that is not written yet will not be written while we look. */
  constructor(memory: MachineMemory, mm: number, processors: number) {
    this.#words = memory.words
    this.#at = spaceLog(memory, mm)
    this.published = memory.viewOf(this.#at + SPACE.published)
    this.size = memory.flushLogSize
    this.#looks = processors > 1 ? LOOKS : 1
  }

  /** Changes twice for each round of the generations: who has missed that has missed too much. */
  get quarters(): number {
    return load(this.#words, this.#at + SPACE.quarters)
  }

  /**
   * Tells every CPU of the space, at its next look, to forget something. The tables were changed
   * before. Gives the generation. Wait-free, any context; more than the ring holds is one flush of all.
   */
  append(flushes: readonly Flush[]): number {
    const records = flushes.length > this.size ? [FLUSH_ALL_RECORD] : flushes
    const count = records.length
    const last = (add(this.#words, this.#at + SPACE.reserved, count) + count) | 0
    const first = (last - count + 1) | 0
    if (((last ^ (first - 1)) & 0xc0000000) !== 0) {
      add(this.#words, this.#at + SPACE.quarters, 1)
    }
    for (let i = 0; i < count; i++) this.#write((first + i) | 0, records[i]!)
    this.#publish(last)
    return last
  }

  /** Readers go on past whatever a dead writer has reserved. Any thread; several may at once. */
  reap(): void {
    this.#publish(load(this.#words, this.#at + SPACE.reserved))
  }

  /** After the records: a reader that sees the generation sees them. Partner: Translations.service. */
  #publish(last: number): void {
    for (;;) {
      const found = load(this.published, 0)
      if (((last - found) | 0) <= 0) return
      if (compareExchange(this.published, 0, found, last) === found) return
    }
  }

  #record(generation: number): number {
    return this.#at + SPACE.log + (generation & (this.size - 1)) * RECORD_WORDS
  }

  /**
   * The claim keeps writers of two rounds from mixing their words. Who finds the place claimed, or used
   * by a later round, leaves a hole.
   */
  #write(generation: number, { kind, from, to }: Flush): void {
    const at = this.#record(generation)
    const commit = generation << 1
    const found = load(this.#words, at + RECORD.commit)
    if ((found & 1) !== 0 || ((commit - found) | 0) < 0) return
    if (compareExchange(this.#words, at + RECORD.commit, found, commit | 1) !== found) return
    store(this.#words, at + RECORD.kind, kind)
    store(this.#words, at + RECORD.from, from)
    store(this.#words, at + RECORD.to, to)
    store(this.#words, at + RECORD.commit, commit)
  }

  /** The record of a generation that was published, or undefined for a hole. */
  read(generation: number): Flush | undefined {
    const at = this.#record(generation)
    const commit = generation << 1
    for (let looks = this.#looks; load(this.#words, at + RECORD.commit) !== commit;) {
      if (--looks <= 0) return undefined
    }
    const kind = load(this.#words, at + RECORD.kind)
    const from = load(this.#words, at + RECORD.from)
    const to = load(this.#words, at + RECORD.to)
    // Seen twice: nobody has written between. Whoever writes claims first.
    if (load(this.#words, at + RECORD.commit) !== commit) return undefined
    return { kind, from, to }
  }
}

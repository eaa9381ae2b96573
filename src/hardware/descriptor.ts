/**
 * The posted-interrupt descriptor of a CPU: how others ask, how the owner finds out (Intel SDM
 * vol. 3, chapter "Posted-Interrupt Processing"). Senders never write a target's IRR.
 *
 * The order is normative. Sender: payload, then the request, then the attention bit, then - only
 * if no attention was outstanding - the doorbell. Owner: takes the attention word first, and the
 * requests after it. Taken the other way round, a request posted between the two steps would have
 * no attention left and wait for the next, unrelated one.
 *
 * Posting a fixed interrupt or an NMI is wait-free: a fixed number of atomic operations, whatever the
 * others do. A fixed interrupt for a CPU that nobody else asks anything of is one operation on either
 * side: request and attention are the same word then.
 */

import { ATTENTION, ATTENTION_VECTOR_SHIFT, CPU, CPU_STATE, INIT_SIPI } from './layout.ts'
import type { MachineMemory } from './machine-memory.ts'
import {
  add,
  and,
  compareExchange,
  exchange,
  load,
  notifyAll,
  or,
  store,
  type SharedWords,
} from './memory.ts'

/** What senders may do to one CPU. Any thread may hold one for any CPU; any context. */
export class Descriptor {
  readonly #words: SharedWords
  readonly #page: number

  constructor(memory: MachineMemory, cpu: number) {
    this.#words = memory.words
    this.#page = memory.cpuPage(cpu)
  }

  /** Posts a fixed interrupt. Merges with one of the same vector that is still posted. */
  postFixed(vector: number, level: boolean): void {
    if (!level && this.#postSingle(vector)) return
    const word = vector >>> 5
    const bit = 1 << (vector & 31)
    if (level) or(this.#words, this.#page + CPU.levelPosts + word, bit)
    or(this.#words, this.#page + CPU.pir + word, bit)
    this.attend(level ? (1 << word) | ATTENTION.level : 1 << word)
  }

  /**
   * Posts a vector in the attention word, if that is free; gives whether it was. Whoever finds it
   * taken must not wait for it, and posts into the words of `pir`.
   */
  #postSingle(vector: number): boolean {
    const single = ATTENTION.single | (vector << ATTENTION_VECTOR_SHIFT)
    if (compareExchange(this.#words, this.#page + CPU.attention, 0, single) !== 0) return false
    this.ring()
    return true
  }

  /** Posts a non-maskable interrupt. */
  postNmi(): void {
    add(this.#words, this.#page + CPU.nmiPosts, 1)
    this.attend(ATTENTION.nmi)
  }

  /** Posts an INIT. It cancels a start-up interrupt that has not been taken. */
  postInit(): void {
    store(this.#words, this.#page + CPU.initSipi, INIT_SIPI.init)
    this.attend(ATTENTION.initSipi)
  }

  /**
   * Posts a start-up interrupt: of two that were not taken, the later vector wins; an INIT that was
   * not taken stays before it.
   */
  postStartup(page: number): void {
    const at = this.#page + CPU.initSipi
    for (;;) {
      const old = load(this.#words, at)
      const latched = (old & INIT_SIPI.init) | INIT_SIPI.sipi | page
      if (compareExchange(this.#words, at, old, latched) === old) break
    }
    this.attend(ATTENTION.initSipi)
  }

  /**
   * Sets attention bits, and rings if none was set: whoever finds one set relies on the CPU that
   * set the first. Pairs with the doorbell's owner, who stores its state and then loads attention:
   * in the one total order of atomic operations, either we see it asleep or it sees our bit.
   */
  attend(bits: number): void {
    if (or(this.#words, this.#page + CPU.attention, bits) === 0) this.ring()
  }

  /** Wakes the CPU if it sleeps; does nothing to one that looks by itself. */
  ring(): void {
    const state = load(this.#words, this.#page + CPU.state)
    if (state === CPU_STATE.running || state === CPU_STATE.polling) return
    this.ringAlways()
  }

  /** Changes the doorbell and wakes whoever waits on it, whatever its state says. */
  ringAlways(): void {
    add(this.#words, this.#page + CPU.doorbell, 1)
    notifyAll(this.#words, this.#page + CPU.doorbell)
  }

  /** Owner: takes the attention word. Must come before taking what it announces. */
  takeAttention(): number {
    return exchange(this.#words, this.#page + CPU.attention, 0)
  }

  /** Owner: forgets a vector that is posted in the attention word. The other bits stay. */
  dropSingle(): void {
    const others = (1 << ATTENTION_VECTOR_SHIFT) - 1 - ATTENTION.single
    and(this.#words, this.#page + CPU.attention, others)
  }

  /** Owner: takes one word of posted vectors. */
  takePosted(word: number): number {
    return exchange(this.#words, this.#page + CPU.pir + word, 0)
  }

  /** Owner: takes one word of level marks. */
  takeLevel(word: number): number {
    return exchange(this.#words, this.#page + CPU.levelPosts + word, 0)
  }

  /** Owner: takes the number of NMIs posted since the last time. */
  takeNmis(): number {
    return exchange(this.#words, this.#page + CPU.nmiPosts, 0)
  }

  /** Owner: takes the INIT and start-up latches; see INIT_SIPI. */
  takeInitSipi(): number {
    return exchange(this.#words, this.#page + CPU.initSipi, 0)
  }
}

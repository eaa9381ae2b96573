/**
 * The interrupts of one CPU: what was requested, what is in service, what the core may take. Intel
 * SDM vol. 3, chapter "APIC", "Handling Interrupts": IRR, ISR, TMR, TPR and PPR.
 *
 *       request          acknowledge          retire
 *     -----------> IRR ----------------> ISR ---------->
 *
 * Each is a set of 256 bits, so a vector is remembered at most twice: once in service, once pending.
 * NMI, INIT and start-up pass these registers by and wait in latches of their own.
 *
 * A forced entry may come at any call, harvests, and takes NMIs and more. Where the core calls, it is
 * closed to them (core.ts); handlers and programs call `request`, `retire` and `addNmis` too, so
 * there no call stands between what is read and what is written for it.
 */

import { assert } from '../../base/assert.ts'
import { highestBit } from '../../base/bits.ts'
import type { MachineMemory } from '../machine-memory.ts'
import type { SharedWords } from '../memory.ts'
import { priorityClass, processorPriority } from './priority.ts'
import { REGISTER, SVR } from './registers.ts'

/** A 32-bit word of a 256-bit register is four words of memory from the next. */
const STRIDE = 4

/** Bits of the word that says what waits; bits 0 to 7 stand for the words of IRR that are not 0. */
const WAITING = {
  requests: 0xff,
  nmi: 1 << 8,
  init: 1 << 9,
  startup: 1 << 10,
  spurious: 1 << 11,
} as const

/** Every so many safepoints the look at `attention` is atomic; between them it is a hint. */
export const ATOMIC_LOOK_EVERY = 1024

/**
 * What makes a safepoint one test and one count: how many may still pass with nothing but a plain
 * read of the attention word. 0 while anything waits in the registers or latches below. Counted down
 * at each safepoint, set anew by the core after each look.
 */
export class SafepointCredit {
  left = 0
}

/** The registers, in one CPU's APIC page, and the latches beside them. Only the owner has one. */
export class InterruptState {
  readonly safepoints = new SafepointCredit()
  readonly #words: SharedWords
  readonly #irr: number
  readonly #isr: number
  readonly #tmr: number
  readonly #tpr: number
  readonly #ppr: number
  readonly #svr: number
  /** WAITING: one test for whatever waits, and two steps to the highest vector. */
  #waiting = 0
  /** Bit n stands for word n of ISR, if that is not 0. */
  #servedWords = 0
  #nmiPending = 0
  #startupVector = -1

  constructor(memory: MachineMemory, cpu: number) {
    const page = memory.apicPage(cpu)
    this.#words = memory.words
    this.#irr = page + (REGISTER.irr >>> 2)
    this.#isr = page + (REGISTER.isr >>> 2)
    this.#tmr = page + (REGISTER.tmr >>> 2)
    this.#tpr = page + (REGISTER.tpr >>> 2)
    this.#ppr = page + (REGISTER.ppr >>> 2)
    this.#svr = page + (REGISTER.svr >>> 2)
  }

  /** Whether anything waits: a requested vector, deliverable or not, or a latch. */
  get anyWaiting(): boolean {
    return this.#waiting !== 0
  }

  /** Whether an NMI, an INIT or a start-up waits: what no flag or priority keeps from the core. */
  get latchWaiting(): boolean {
    return (this.#waiting & (WAITING.nmi | WAITING.init | WAITING.startup)) !== 0
  }

  /** The processor priority: a function of TPR and ISR, kept current by whatever changes them. */
  get processorPriority(): number {
    return this.#words[this.#ppr]!
  }

  /** The task priority, all eight bits. */
  get taskPriority(): number {
    return this.#words[this.#tpr]!
  }

  set taskPriority(priority: number) {
    this.#words[this.#tpr] = priority
    this.#updatePriority()
  }

  /**
   * Requests the vectors whose bits are set in word `word` of the 256; `level` marks those that are
   * level-triggered. Vectors already requested merge.
   */
  request(word: number, vectors: number, level: number): void {
    if (vectors === 0) return
    const irr = this.#irr + word * STRIDE
    const tmr = this.#tmr + word * STRIDE
    this.#words[tmr] = (this.#words[tmr]! & ~vectors) | level
    this.#words[irr]! |= vectors
    this.#waiting |= 1 << word
    this.safepoints.left = 0
  }

  #wait(bit: number): void {
    this.#waiting |= bit
    this.safepoints.left = 0
  }

  /** The highest requested vector, if its class may interrupt what is in service now; else -1. */
  pendingVector(): number {
    const requests = this.#waiting & (WAITING.requests | WAITING.spurious)
    if (requests === 0) return -1
    if (requests >= WAITING.spurious) return this.#words[this.#svr]! & SVR.vector
    const vector = this.#highest(this.#irr, requests)
    return priorityClass(vector) > priorityClass(this.#words[this.#ppr]!) ? vector : -1
  }

  /** The core takes the vector that `pendingVector` gave: it is requested no more, but in service. */
  acknowledge(vector: number): void {
    if ((this.#waiting & WAITING.spurious) !== 0) {
      // The spurious vector is never in service: its handler owes no end of interrupt.
      this.#waiting &= ~WAITING.spurious
      return
    }
    const word = vector >>> 5
    const bit = 1 << (vector & 31)
    const irr = this.#irr + word * STRIDE
    assert((this.#words[irr]! & bit) !== 0, 'only a requested vector is acknowledged')
    this.#words[irr]! &= ~bit
    if (this.#words[irr] === 0) this.#waiting &= ~(1 << word)
    this.#words[this.#isr + word * STRIDE]! |= bit
    this.#servedWords |= 1 << word
    // Its class is above TPR's and above all in service, or it would not have been pending.
    this.#words[this.#ppr] = vector & 0xf0
  }

  /** Ends the highest vector in service, whoever asks for it; gives it, or -1 if there is none. */
  retire(): number {
    if (this.#servedWords === 0) return -1
    const vector = this.#highest(this.#isr, this.#servedWords)
    const word = vector >>> 5
    const isr = this.#isr + word * STRIDE
    this.#words[isr]! &= ~(1 << (vector & 31))
    if (this.#words[isr] === 0) this.#servedWords &= ~(1 << word)
    this.#updatePriority()
    return vector
  }

  /** For tests: something was pending and is withdrawn, so that the core gets the spurious vector. */
  injectSpurious(): void {
    this.#wait(WAITING.spurious)
  }

  /** NMIs that the core has still to take. */
  get nmiPending(): number {
    return this.#nmiPending
  }

  set nmiPending(count: number) {
    this.#nmiPending = count
    if (count > 0) this.#wait(WAITING.nmi)
    else this.#waiting &= ~WAITING.nmi
  }

  /** Some NMIs more wait for the core, but never more than `most`. */
  addNmis(count: number, most: number): void {
    const sum = this.#nmiPending + count
    this.#nmiPending = sum < most ? sum : most
    if (this.#nmiPending === 0) return
    this.#waiting |= WAITING.nmi
    this.safepoints.left = 0
  }

  /** Whether an INIT waits for the core. */
  get initPending(): boolean {
    return (this.#waiting & WAITING.init) !== 0
  }

  set initPending(pending: boolean) {
    if (pending) this.#wait(WAITING.init)
    else this.#waiting &= ~WAITING.init
  }

  /** The vector of a start-up that waits for the core, or -1. */
  get startupVector(): number {
    return this.#startupVector
  }

  set startupVector(vector: number) {
    this.#startupVector = vector
    if (vector >= 0) this.#wait(WAITING.startup)
    else this.#waiting &= ~WAITING.startup
  }

  /** Forgets all vectors; the latches stay. */
  reset(): void {
    for (let word = 0; word < 8; word++) {
      this.#words[this.#irr + word * STRIDE] = 0
      this.#words[this.#isr + word * STRIDE] = 0
      this.#words[this.#tmr + word * STRIDE] = 0
    }
    this.#waiting &= ~(WAITING.requests | WAITING.spurious)
    this.#servedWords = 0
    this.taskPriority = 0
  }

  #highest(set: number, words: number): number {
    const word = highestBit(words)
    return word * 32 + highestBit(this.#words[set + word * STRIDE]!)
  }

  #updatePriority(): void {
    const serving = this.#servedWords === 0 ? 0 : this.#highest(this.#isr, this.#servedWords)
    this.#words[this.#ppr] = processorPriority(this.#words[this.#tpr]!, serving)
  }
}

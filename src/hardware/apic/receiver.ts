/**
 * How a message arrives. Intel SDM vol. 3, chapter "APIC", "Interrupt Acceptance for Fixed
 * Interrupts" and the chapters on NMI, INIT and start-up, which pass the APIC's registers by.
 *
 * Whether a message is accepted depends on the APIC being enabled and on nothing else. The interrupt
 * flag and the priorities only delay what was accepted.
 */

import { countBits, lowestBit } from '../../base/bits.ts'
import type { Descriptor } from '../descriptor.ts'
import { ATTENTION, ATTENTION_VECTOR_SHIFT, CPU, CPU_STATE, INIT_SIPI } from '../layout.ts'
import type { MachineMemory } from '../machine-memory.ts'
import { and, type SharedWords } from '../memory.ts'
import type { ApicBase } from './base.ts'
import type { ErrorStatus } from './error-status.ts'
import type { InterruptState } from './interrupts.ts'
import type { ApicPage } from './page.ts'
import { FIRST_VECTOR } from './priority.ts'
import { ESR, REGISTER, SVR } from './registers.ts'

/** The attention bits that announce words of posted vectors. */
const POSTED_WORDS = 0xff
/** The bits of word 0 that are no legal vectors. */
const ILLEGAL_VECTORS = (1 << FIRST_VECTOR) - 1

/** What a receiver works on: its CPU's registers, and what others have posted for it. */
interface ReceiverParts {
  readonly page: ApicPage
  readonly base: ApicBase
  readonly interrupts: InterruptState
  readonly errors: ErrorStatus
  readonly descriptor: Descriptor
}

/** The receiving side of one CPU's APIC. Only its owner has one. */
export class Receiver {
  /** Fixed interrupts that were discarded because the APIC took none. */
  discardedCount = 0
  /** Messages of a delivery mode that this machine lacks. */
  refusedCount = 0
  readonly #words: SharedWords
  readonly #levelAt: number
  readonly #stateAt: number
  readonly #svrAt: number
  readonly #base: ApicBase
  readonly #interrupts: InterruptState
  readonly #errors: ErrorStatus
  readonly #descriptor: Descriptor
  #nmiBlocked = false

  constructor(memory: MachineMemory, parts: ReceiverParts) {
    this.#words = memory.words
    const { cpu } = parts.page
    this.#levelAt = memory.cpuPage(cpu) + CPU.levelPosts
    this.#stateAt = memory.cpuPage(cpu) + CPU.state
    this.#svrAt = memory.apicPage(cpu) + (REGISTER.svr >>> 2)
    this.#base = parts.base
    this.#interrupts = parts.interrupts
    this.#errors = parts.errors
    this.#descriptor = parts.descriptor
  }

  /** Whether the core is in an NMI handler. Until its IRET one more NMI is remembered, not two. */
  get nmiBlocked(): boolean {
    return this.#nmiBlocked
  }

  set nmiBlocked(blocked: boolean) {
    // Those posted while NMIs were blocked merge into one, though we look for them only now.
    if (!blocked && this.#nmiBlocked) this.acceptNmi(this.#descriptor.takeNmis())
    this.#nmiBlocked = blocked
  }

  /**
   * Takes what others have posted. Gives the attention bits; those that are not of the APIC are the
   * caller's. The order - attention first - is explained in descriptor.ts.
   */
  harvest(): number {
    const attention = this.#descriptor.takeAttention()
    if ((attention & ATTENTION.single) !== 0) {
      this.acceptFixed(attention >>> ATTENTION_VECTOR_SHIFT, false)
    }
    for (let rest = attention & POSTED_WORDS; rest !== 0; rest &= rest - 1) {
      const word = lowestBit(rest)
      const posted = this.#descriptor.takePosted(word)
      // Nearly always: legal vectors, edge-triggered, and an APIC that takes them.
      if (word !== 0 && this.#words[this.#levelAt + word] === 0 && this.#takesFixed()) {
        this.#interrupts.request(word, posted, 0)
      } else {
        this.#sort(word, posted)
      }
    }
    if ((attention & (ATTENTION.nmi | ATTENTION.initSipi)) !== 0) this.#takeLatches(attention)
    return attention
  }

  #takeLatches(attention: number): void {
    if ((attention & ATTENTION.nmi) !== 0) this.acceptNmi(this.#descriptor.takeNmis())
    if ((attention & ATTENTION.initSipi) !== 0) {
      this.acceptInitSipi(this.#descriptor.takeInitSipi())
    }
  }

  #sort(word: number, posted: number): void {
    if (posted === 0) return
    // A sender marks a vector as level-triggered before it posts it, so the marks of what we have
    // just taken are in sight, even plainly read. Only those are taken: another mark in the word
    // may belong to a post that is still on its way.
    const at = this.#levelAt + word
    let level = this.#words[at]! & posted
    if (level !== 0) level = and(this.#words, at, ~posted) & posted
    this.#accept(word, posted, level)
  }

  /** A fixed interrupt, from this CPU to itself or from one of its local sources. */
  acceptFixed(vector: number, level: boolean): void {
    const bit = 1 << (vector & 31)
    this.#accept(vector >>> 5, bit, level ? bit : 0)
  }

  #accept(word: number, posted: number, level: number): void {
    if (this.#base.mode === 'disabled') return
    let vectors = posted
    if (word === 0 && (posted & ILLEGAL_VECTORS) !== 0) {
      this.#errors.detect(ESR.receiveIllegalVector)
      vectors &= ~ILLEGAL_VECTORS
    }
    if (vectors === 0) return
    if (this.#takesFixed()) this.#interrupts.request(word, vectors, level & vectors)
    else this.discardedCount += countBits(vectors)
  }

  /** What is requested already is kept while this does not hold; what arrives is lost. */
  #takesFixed(): boolean {
    return (
      (this.#words[this.#svrAt]! & SVR.enabled) !== 0 &&
      this.#words[this.#stateAt] !== CPU_STATE.waitingForSipi &&
      this.#base.mode !== 'disabled'
    )
  }

  /** NMIs. No flag, no priority and no software disable keeps them out; they merge beyond two. */
  acceptNmi(count: number): void {
    if (this.#base.mode === 'disabled') return
    this.#interrupts.addNmis(count, this.#nmiBlocked ? 1 : 2)
  }

  /**
   * INIT and start-up, as fields of INIT_SIPI; the INIT is the earlier of the two. It cancels a
   * start-up that arrived before it. Whether a start-up is honoured is for the core to say.
   */
  acceptInitSipi(latches: number): void {
    if (this.#base.mode === 'disabled') return
    if ((latches & INIT_SIPI.init) !== 0) {
      this.#interrupts.initPending = true
      this.#interrupts.startupVector = -1
    }
    if ((latches & INIT_SIPI.sipi) !== 0)
      this.#interrupts.startupVector = latches & INIT_SIPI.vectorMask
  }

  /** A message of a delivery mode that this machine lacks: counted, and forgotten. */
  refuseMode(): void {
    this.refusedCount++
  }

  /**
   * INIT, or RESET when a thread becomes this CPU. Fixed interrupts that are posted but not
   * harvested were meant for the life before, and go. An NMI or a start-up that is latched may have
   * been sent after the INIT, so an INIT keeps both; only RESET forgets them.
   */
  reset(kind: 'reset' | 'init'): void {
    this.#descriptor.dropSingle()
    for (let word = 0; word < 8; word++) {
      this.#descriptor.takePosted(word)
      this.#descriptor.takeLevel(word)
    }
    this.#nmiBlocked = false
    this.#interrupts.initPending = false
    if (kind === 'init') return
    this.#descriptor.takeNmis()
    this.#interrupts.nmiPending = 0
    this.#interrupts.startupVector = -1
  }
}

/**
 * A rendezvous: CPUs that stand with interrupts off go through three phases together. In 2.6.11 each
 * user had a counter and a gate of its own (`arch/i386/kernel/cpu/mtrr/main.c` set_mtrr and ipi_handler);
 * later kernels have `kernel/stop_machine.c` multi_cpu_stop for all of them. Here each participant sees
 * a phase, acts, acknowledges, and whoever finds that all have done so opens the next one. Nobody drives,
 * so nobody's death leaves it hanging; a dead initiator may have asked only some, so then those who have
 * come give it up. What all have begun, all who live end.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import { CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import { compareExchange, load, notifyAll, store, wait } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'

/** In `first` people come; once it is over everybody stands, and the other two are gone through. */
export const PHASE = { first: 1, second: 2, third: 3 } as const
const OVER = 4
const ABORTED = 5
const PHASE_BITS = 3
const PHASE_MASK = (1 << PHASE_BITS) - 1

/** Looks at the state word before the processor is lent to those who have not arrived. */
const SPINS_BEFORE_SLEEP = 2000
/** The same where some who are waited for have no processor while we spin. */
const SPINS_IF_CROWDED = 50
/** The longest such sleep: the death of a participant is noticed within it. */
const SLEEP_MS = 1

/** How a rendezvous was for one participant: `aborted` and `tooLate` have begun nothing. */
export type RendezvousOutcome = 'over' | 'aborted' | 'tooLate'

/** Takes part in rendezvous on one CPU. */
export class Rendezvous {
  readonly #cpu: Cpu
  /** Asks whether threads have ended, where no event loop tells; kernel/hotplug.ts binds it. */
  lookForDead: () => void = () => undefined

  constructor(cpu: Cpu) {
    this.#cpu = cpu
  }

  /** Opens a round for `participants`; gives its sequence number. Needs the control lock. */
  begin(participants: CpuMask): number {
    const { memory, id } = this.#cpu
    memory.writeMask(HEADER.stopParticipants, participants)
    memory.words[HEADER.stopInitiator] = id + 1
    memory.words[HEADER.stopInitiator + 1] = memory.readCpu(id, CPU.incarnation)
    const sequence = (load(memory.words, HEADER.stopState) >>> PHASE_BITS) + 1
    // Publishes who takes part and who asks: every participant loads the state before it reads them.
    store(memory.words, HEADER.stopState, (sequence << PHASE_BITS) | PHASE.first)
    return sequence
  }

  /**
   * Stands until the round is over; `run` is called with the second and with the third phase, in which
   * everybody stands, and must not throw. Called with interrupts off. With `deadline`, on the platform's
   * clock, gives up while somebody has not arrived, and takes everybody else along.
   */
  participate(
    sequence: number,
    run: (phase: number) => void,
    deadline = Infinity,
  ): RendezvousOutcome {
    const { memory, page, platform } = this.#cpu
    const isCrowded = memory.readMask(HEADER.stopParticipants).size > platform.processors
    const patience = isCrowded ? SPINS_IF_CROWDED : SPINS_BEFORE_SLEEP
    let acknowledged = -1
    let spins = 0
    for (;;) {
      const word = load(memory.words, HEADER.stopState)
      if (word >>> PHASE_BITS !== sequence) return acknowledged < 0 ? 'tooLate' : 'over'
      const phase = word & PHASE_MASK
      if (phase === ABORTED) return 'aborted'
      if (phase === OVER) return 'over'
      if (phase !== acknowledged) {
        if (phase !== PHASE.first) run(phase)
        acknowledged = phase
        store(memory.words, page + CPU.stopAck, word)
        spins = 0
      }
      if (this.#everybodyAcknowledged(word)) {
        this.#advance(word, phase + 1)
      } else if (phase === PHASE.first && (platform.now() >= deadline || this.#initiatorIsGone())) {
        this.#advance(word, ABORTED)
      } else {
        this.#relax(word, spins++ < patience)
      }
    }
  }

  /** The participants that have not arrived, of a round that is still open. */
  missing(participants: CpuMask, sequence: number): number[] {
    const { memory } = this.#cpu
    return [...participants].filter(
      (cpu) => memory.readCpu(cpu, CPU.stopAck) >>> PHASE_BITS !== sequence,
    )
  }

  /** Those who are gone acknowledge nothing and are not waited for. */
  #everybodyAcknowledged(word: number): boolean {
    const { memory } = this.#cpu
    for (const cpu of memory.readMask(HEADER.stopParticipants)) {
      if (memory.readCpu(cpu, CPU.stopAck) !== word && !this.#isGone(cpu)) return false
    }
    return true
  }

  #isGone(cpu: number): boolean {
    const state = this.#cpu.memory.readCpu(cpu, CPU.state)
    return state === CPU_STATE.dead || state === CPU_STATE.offline || state === CPU_STATE.stopped
  }

  /** Whoever asked has died, or that was an earlier life of it: those not asked yet will not be. */
  #initiatorIsGone(): boolean {
    const { memory } = this.#cpu
    const initiator = memory.words[HEADER.stopInitiator]! - 1
    const life = memory.words[HEADER.stopInitiator + 1]!
    return this.#isGone(initiator) || memory.readCpu(initiator, CPU.incarnation) !== life
  }

  /** Several may find that a phase is over; one of them opens the next. */
  #advance(word: number, phase: number): void {
    const { words } = this.#cpu.memory
    compareExchange(words, HEADER.stopState, word, (word & ~PHASE_MASK) | phase)
    notifyAll(words, HEADER.stopState)
  }

  /** NMIs still come. Nothing maskable does: interrupts are off. */
  #relax(word: number, mayGoOn: boolean): void {
    this.#cpu.cpuRelax()
    if (mayGoOn) return
    this.lookForDead()
    if (!this.#cpu.platform.mayBlock) return
    wait(this.#cpu.memory.words, HEADER.stopState, word, SLEEP_MS)
  }
}

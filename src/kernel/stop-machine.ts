/**
 * Stop-machine: every CPU stands still, interrupts off, while a function runs. Linux
 * `kernel/stop_machine.c` multi_cpu_stop: each participant sees a state, acts, acknowledges; the
 * last to acknowledge advances the state. Nobody drives, so nobody's death leaves it hanging.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import { CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import { compareExchange, load, notifyAll, store, wait } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'

/** MULTI_STOP_* */
const STOP = { none: 0, prepare: 1, disableIrq: 2, run: 3, exit: 4, aborted: 5 } as const
const STATE_BITS = 3
const STATE_MASK = (1 << STATE_BITS) - 1

/** Looks at the state word before the processor is lent to those who have not arrived. */
const SPINS_BEFORE_SLEEP = 2000
/** The longest such sleep: the death of a participant is noticed within it. */
const SLEEP_MS = 1

/** How one participant left. */
export type StopOutcome = 'ran' | 'stood' | 'aborted' | 'tooLate'

/** Takes part in stop-machine on one CPU. */
export class MultiCpuStop {
  readonly #cpu: Cpu
  /** Asks whether threads have ended, where no event loop tells; kernel/hotplug.ts binds it. */
  lookForDead: () => void = () => undefined

  constructor(cpu: Cpu) {
    this.#cpu = cpu
  }

  /** Opens a round for `participants`; gives its sequence number. Needs the control lock. */
  begin(participants: CpuMask, runners: CpuMask): number {
    const { memory } = this.#cpu
    memory.writeMask(HEADER.stopParticipants, participants)
    memory.writeMask(HEADER.stopRunners, runners)
    const sequence = (load(memory.words, HEADER.stopState) >>> STATE_BITS) + 1
    // Publishes the two masks: every participant loads the state before it reads them.
    store(memory.words, HEADER.stopState, (sequence << STATE_BITS) | STOP.prepare)
    return sequence
  }

  /**
   * `multi_cpu_stop`: stands still until the round is over; `run` is called if this CPU is a runner
   * and everybody stands. Called with interrupts off. With `deadline`, on the platform's clock,
   * gives up while somebody has not arrived, and takes everybody else along.
   */
  participate(sequence: number, run: () => void, deadline = Infinity): StopOutcome {
    const { memory, id, page, platform } = this.#cpu
    let acknowledged = -1
    let outcome: StopOutcome = 'stood'
    let spins = 0
    for (;;) {
      const word = load(memory.words, HEADER.stopState)
      if (word >>> STATE_BITS !== sequence) return acknowledged < 0 ? 'tooLate' : outcome
      const state = word & STATE_MASK
      if (state === STOP.aborted) return 'aborted'
      if (state === STOP.exit) return outcome
      if (state !== acknowledged) {
        if (state === STOP.run && memory.testCpu(HEADER.stopRunners, id)) {
          run()
          outcome = 'ran'
        }
        acknowledged = state
        store(memory.words, page + CPU.stopAck, word)
        spins = 0
      }
      if (this.#everybodyAcknowledged(word)) {
        this.#advance(word, state + 1)
      } else if (state === STOP.prepare && platform.now() >= deadline) {
        this.#advance(word, STOP.aborted)
      } else {
        this.#relax(word, spins++)
      }
    }
  }

  /** The participants that have not arrived, of a round that is still open. */
  missing(participants: CpuMask, sequence: number): number[] {
    const { memory } = this.#cpu
    return [...participants].filter(
      (cpu) => memory.readCpu(cpu, CPU.stopAck) >>> STATE_BITS !== sequence,
    )
  }

  /** The dead acknowledge nothing and are not waited for. */
  #everybodyAcknowledged(word: number): boolean {
    const { memory } = this.#cpu
    for (const cpu of memory.readMask(HEADER.stopParticipants)) {
      if (memory.readCpu(cpu, CPU.stopAck) === word) continue
      const state = memory.readCpu(cpu, CPU.state)
      if (state !== CPU_STATE.dead && state !== CPU_STATE.offline) return false
    }
    return true
  }

  /** Several may find that everybody has acknowledged; one of them advances. */
  #advance(word: number, state: number): void {
    const { words } = this.#cpu.memory
    compareExchange(words, HEADER.stopState, word, (word & ~STATE_MASK) | state)
    notifyAll(words, HEADER.stopState)
  }

  /** NMIs still come. Nothing maskable does: interrupts are off. */
  #relax(word: number, spins: number): void {
    this.#cpu.cpuRelax()
    if (spins < SPINS_BEFORE_SLEEP) return
    this.lookForDead()
    if (!this.#cpu.platform.mayBlock) return
    wait(this.#cpu.memory.words, HEADER.stopState, word, SLEEP_MS)
  }
}

/**
 * Stop-machine: every CPU stands still, interrupts off, while a function runs. Linux
 * `kernel/stop_machine.c` multi_cpu_stop: MULTI_STOP_PREPARE, _DISABLE_IRQ and _RUN are the three phases
 * of a rendezvous.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import { HEADER } from '../hardware/layout.ts'
import type { Cpu } from './cpu.ts'
import { PHASE, type Rendezvous, type RendezvousOutcome } from './rendezvous.ts'

/** How one participant left. */
export type StopOutcome = 'ran' | 'stood' | Exclude<RendezvousOutcome, 'over'>

/** Takes part in stop-machine on one CPU. */
export class MultiCpuStop {
  readonly #cpu: Cpu
  readonly #rendezvous: Rendezvous

  constructor(cpu: Cpu, rendezvous: Rendezvous) {
    this.#cpu = cpu
    this.#rendezvous = rendezvous
  }

  /** Opens a round for `participants`; gives its sequence number. Needs the control lock. */
  begin(participants: CpuMask, runners: CpuMask): number {
    this.#cpu.memory.writeMask(HEADER.stopRunners, runners)
    return this.#rendezvous.begin(participants)
  }

  /**
   * `multi_cpu_stop`: stands still until the round is over; `run` is called if this CPU is a runner
   * and everybody stands. Called with interrupts off. `deadline` as {@link Rendezvous.participate} has it.
   */
  participate(sequence: number, run: () => void, deadline = Infinity): StopOutcome {
    const { memory, id } = this.#cpu
    let outcome: 'ran' | 'stood' = 'stood'
    const runInThird = (phase: number): void => {
      if (phase !== PHASE.third || !memory.testCpu(HEADER.stopRunners, id)) return
      run()
      outcome = 'ran'
    }
    const end = this.#rendezvous.participate(sequence, runInThird, deadline)
    return end === 'over' ? outcome : end
  }
}

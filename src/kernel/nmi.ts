/**
 * Non-maskable interrupts: sending them, and what they run. Linux 2.6.11 `arch/i386/kernel/traps.c` do_nmi and its die
 * notifiers; later `arch/x86/kernel/nmi.c` register_nmi_handler.
 *
 * An NMI comes with interrupts off too, in the middle of this library's own work. So what it runs
 * uses nothing of the library that waits, calls, or is not named in docs/interrupting.md.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { CPU, CPU_STATE } from '../hardware/layout.ts'
import type { Cpu } from './cpu.ts'
import type { HandlerErrorSink } from './entry.ts'
import type { ForcedEntry } from './forced.ts'
import { isThenable, refusePromise } from './idt.ts'
import type { IpiSenders } from './send.ts'
import { VECTOR } from './vectors.ts'

/** What an NMI runs: synchronous and short, in the middle of anything. */
export type NmiHandler = (regs: NmiRegs) => void

/** What an NMI interrupted, as far as it is saved. */
export interface NmiRegs {
  /** Whether maskable interrupts were on. */
  readonly interruptFlag: boolean
}

const APIC_ICR2 = 0x310

/** States in which a CPU takes an NMI by itself, and at once. */
const LOOKING: readonly number[] = [CPU_STATE.polling, CPU_STATE.halted, CPU_STATE.stopped]

/** The NMIs of one CPU, sent and taken. */
export class Nmi {
  readonly #cpu: Cpu
  readonly #senders: IpiSenders
  readonly #forced: ForcedEntry
  readonly #onError: HandlerErrorSink
  /** Replaced as a whole: an NMI may come while it is changed. */
  #handlers: readonly (readonly [name: string, handler: NmiHandler])[] = []

  constructor(cpu: Cpu, senders: IpiSenders, forced: ForcedEntry, onError: HandlerErrorSink) {
    this.#cpu = cpu
    this.#senders = senders
    this.#forced = forced
    this.#onError = onError
  }

  /**
   * Sends an NMI to the CPUs of a mask, this one too if it is in it, and has every one entered that
   * would not look at once. `again` has it entered although that was asked for before.
   */
  send(mask: CpuMask, again = false): void {
    const { memory, core, id } = this.#cpu
    this.#senders.sendIpiMask(mask, VECTOR.NMI)
    for (const cpu of mask) {
      if (cpu === id) core.look()
      // Posted first, then the state: as Descriptor.ring, whose partner wakes whoever sleeps.
      else if (!LOOKING.includes(memory.readCpu(cpu, CPU.state))) this.#forced.force(cpu, again)
    }
  }

  /** `register_nmi_handler`. Throws `IPI_INVALID_ARGUMENT`, also for a name that is taken. */
  register(name: string, handler: NmiHandler): void {
    if (typeof name !== 'string' || name === '' || typeof handler !== 'function') {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        'registerNmiHandler(name, handler) takes a non-empty name and a function',
      )
    }
    if (this.#handlers.some(([other]) => other === name)) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        `an NMI handler named "${name}" exists on this CPU; unregisterNmiHandler it first`,
        { cpu: this.#cpu.id },
      )
    }
    this.#handlers = [...this.#handlers, [name, handler]]
  }

  /** `unregister_nmi_handler`. Does nothing if there is none of that name. */
  unregister(name: string): void {
    this.#handlers = this.#handlers.filter(([other]) => other !== name)
  }

  /** `default_do_nmi`: every handler in turn. Called in NMI context. */
  run(interruptFlag: boolean): void {
    const { apic, checks } = this.#cpu
    // The interrupted code may stand between its two writes to the interrupt command register.
    const inTwoWrites = apic.mode === 'xapic'
    const destination = inTwoWrites ? apic.read(APIC_ICR2) : 0
    for (const [name, handler] of this.#handlers) {
      checks?.enter(name, VECTOR.NMI)
      try {
        const result: unknown = handler({ interruptFlag })
        if (isThenable(result)) {
          checks?.onPromise()
          const message = `the NMI handler "${name}" returned a promise; it must be synchronous`
          refusePromise(result, message, { cpu: this.#cpu.id })
        }
      } catch (error) {
        this.#onError(name, VECTOR.NMI, error)
      } finally {
        checks?.leave()
      }
    }
    if (inTwoWrites) apic.write(APIC_ICR2, destination)
  }
}

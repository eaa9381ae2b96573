/**
 * Each CPU's part in changing memory types: `ipi_handler`, and what one CPU does to program its
 * registers. Linux 2.6.11 `arch/i386/kernel/cpu/mtrr/main.c` and `generic.c` (generic_set_mtrr).
 */

import { CPU, HEADER } from '../hardware/layout.ts'
import { MtrrRegisters, type VariableRange } from '../hardware/mtrr.ts'
import type { Cpu } from './cpu.ts'
import type { FunctionTable } from './functions.ts'
import type { MemoryTypes, TypeChange } from './memory-types.ts'
import { BOOT_CPU } from './protocol.ts'
import { PHASE, type Rendezvous, type RendezvousOutcome } from './rendezvous.ts'
import type { TlbDriver } from './tlb.ts'

/** Under this name every CPU can be asked to take part. */
export const SET_MTRR = 'interprocessor.setMtrr'

/** A variable range register, and how often it is in use from now on. */
export interface RegisterChange extends VariableRange {
  readonly reg: number
  readonly usage: number
}

/** What is changed. */
export interface MtrrChange {
  readonly register?: RegisterChange
  readonly types?: TypeChange
}

/** What the CPUs are told of a rendezvous. */
export interface MtrrRound extends MtrrChange {
  readonly sequence: number
}

/** What the handler stands on. */
export interface MtrrHandlerParts {
  readonly cpu: Cpu
  readonly functions: FunctionTable
  readonly rendezvous: Rendezvous
  readonly tlb: TlbDriver
  readonly types: MemoryTypes
}

/** The part of one CPU. */
export class MtrrHandler {
  readonly #cpu: Cpu
  readonly #rendezvous: Rendezvous
  readonly #tlb: TlbDriver
  readonly #types: MemoryTypes
  /** This CPU's registers. */
  readonly registers: MtrrRegisters

  constructor({ cpu, functions, rendezvous, tlb, types }: MtrrHandlerParts) {
    this.#cpu = cpu
    this.#rendezvous = rendezvous
    this.#tlb = tlb
    this.#types = types
    this.registers = new MtrrRegisters(cpu.memory.words, cpu.page + CPU.mtrr)
    functions.register(SET_MTRR, (round: MtrrRound) => void this.ipiHandler(round))
  }

  /**
   * `mtrr_bp_init` and `mtrr_ap_init`: the boot CPU has what firmware left, every other takes what the
   * boot CPU has. Before this CPU is online, while whoever brings it up holds the control lock: so
   * nothing changes before it can be asked to take part.
   */
  init(): void {
    const { memory, id } = this.#cpu
    if (id === BOOT_CPU) this.registers.reset()
    else this.registers.copyFrom(memory.cpuPage(BOOT_CPU) + CPU.mtrr)
    this.#types.load()
  }

  /**
   * `ipi_handler`: stands with interrupts off through the three phases. The first is over when everybody
   * stands, in the second everybody programs, and in the third nobody leaves before all have done so.
   * `deadline` is for the initiator, whose part it is as well.
   */
  ipiHandler({ sequence, ...change }: MtrrRound, deadline = Infinity): RendezvousOutcome {
    const flags = this.#cpu.localIrqSave()
    const program = (phase: number): void => {
      if (phase === PHASE.second) this.#program(change, sequence)
    }
    const outcome = this.#rendezvous.participate(sequence, program, deadline)
    this.#cpu.localIrqRestore(flags)
    return outcome
  }

  #program({ register, types }: MtrrChange, sequence: number): void {
    if (register !== undefined) this.#setRegister(register)
    if (types !== undefined) this.#types.apply(types, sequence)
  }

  /** `generic_set_mtrr`, with what comes before and after it: nothing is cached under two types. */
  #setRegister({ reg, usage, ...range }: RegisterChange): void {
    this.#tlb.flushEverything()
    this.registers.enabled = false
    this.registers.setVariable(reg, range)
    this.#tlb.flushEverything()
    this.registers.enabled = true
    // All store the same; whoever dies in between is outdone by the others.
    this.#cpu.memory.words[HEADER.mtrrUsage + reg] = usage
  }
}

/**
 * Low-level entry and return: what `BUILD_INTERRUPT` generates and what `ret_from_intr` does. Linux
 * 2.6.11, `include/asm-i386/hw_irq.h` and `arch/i386/kernel/entry.S`.
 */

import type { EntryPath, Gate } from '../hardware/gates.ts'
import { CPU } from '../hardware/layout.ts'
import type { Cpu } from './cpu.ts'
import { PREEMPT_ACTIVE } from './preempt.ts'
import { exitWork } from './thread-flags.ts'

/**
 * The interrupted context, saved on entry and restored on return. JavaScript has no registers that
 * a handler could spoil; what it could spoil is this. `include/asm-i386/ptrace.h`.
 */
export class PtRegs {
  /** Vector - 256: negative, so that nobody takes it for a system call. */
  origEax = 0
  /** EFLAGS.IF of the interrupted context. */
  interruptFlag = false
  /** Whether application code was interrupted, and not code of this library. */
  userMode = false
  /** How the interrupt was taken. */
  path: EntryPath = 'safepoint'
  /** The preemption count of the interrupted context. */
  preemptCount = 0
  /** The vector that the interrupted context was handling, 0 if none. */
  outerVector = 0

  /** The vector that came in: the low byte of `origEax`. */
  get vector(): number {
    return this.origEax & 0xff
  }
}

/** A high-level handler, `smp_…_interrupt`: acknowledges, acts, never waits. */
export type SmpHandler = (regs: PtRegs) => void

/** A low-level entry: what a gate points to. */
export interface InterruptEntry {
  /** The kernel's name of the entry, such as `callFunctionInterrupt`. */
  readonly name: string
  readonly vector: number
  readonly enter: Gate
}

/** The name of a device vector's entry. */
export function deviceEntryName(vector: number): string {
  return `irq${vector}`
}

/** What to do with an error that a handler let out. */
export type HandlerErrorSink = (name: string, vector: number, error: unknown) => void

/** Generates the entries of one CPU and keeps the frames they save into. */
export class EntryBuilder {
  readonly #cpu: Cpu
  readonly #onError: HandlerErrorSink
  /** Frames by nesting depth, made when first needed: entering allocates nothing. */
  readonly #frames: PtRegs[] = []
  #depth = 0
  /** Reschedules in front of an interrupted application; kernel/resched.ts binds it. */
  schedule: (regs: PtRegs) => void = () => undefined
  /** Whether that may be done in the middle of other JavaScript; kernel/resched.ts binds it. */
  isScheduleSafe: () => boolean = () => true

  constructor(cpu: Cpu, onError: HandlerErrorSink) {
    this.#cpu = cpu
    this.#onError = onError
  }

  /**
   * `BUILD_INTERRUPT(name, vector)`: an entry that pushes vector - 256, saves the registers, calls
   * the high-level handler with them and goes on to `retFromIntr`. An error that the handler lets
   * out is recorded here: the interrupted code must not see it.
   */
  buildInterrupt(name: string, vector: number, handler: SmpHandler): InterruptEntry {
    const enter: Gate = (taken, interruptFlag) => this.#enter(taken, interruptFlag, handler, name)
    return { name, vector, enter }
  }

  /** `common_interrupt`: the same for all device vectors together. Each is called by its number. */
  buildCommonInterrupt(handler: SmpHandler): Gate {
    return (taken, interruptFlag) => this.#enter(taken, interruptFlag, handler)
  }

  #enter(vector: number, interruptFlag: boolean, handler: SmpHandler, name?: string): void {
    const cpu = this.#cpu
    cpu.memory.words[cpu.page + CPU.vectorCounts + vector]!++
    const regs = this.#saveAll(vector, interruptFlag)
    cpu.kernelDepth++
    try {
      handler(regs)
    } catch (error) {
      this.#onError(name ?? deviceEntryName(vector), vector, error)
    } finally {
      cpu.kernelDepth--
    }
    this.#retFromIntr(regs)
    this.#restoreAll(regs)
  }

  /** SAVE_ALL. */
  #saveAll(vector: number, interruptFlag: boolean): PtRegs {
    const cpu = this.#cpu
    const regs = (this.#frames[this.#depth++] ??= new PtRegs())
    regs.origEax = vector - 256
    regs.interruptFlag = interruptFlag
    regs.userMode = cpu.kernelDepth === 0 && cpu.preempt.value === 0
    regs.path = cpu.core.path
    regs.preemptCount = cpu.preempt.value
    const { words } = cpu.memory
    const current = cpu.page + CPU.currentVector
    regs.outerVector = words[current]!
    words[current] = vector
    return regs
  }

  /** RESTORE_ALL; the core's IRET restores the interrupt flag. */
  #restoreAll(regs: PtRegs): void {
    const cpu = this.#cpu
    // A handler that let an error out may have left its count behind; the frame knows better.
    cpu.preempt.value = regs.preemptCount
    this.#depth--
    cpu.memory.words[cpu.page + CPU.currentVector] = regs.outerVector
  }

  /**
   * `ret_from_intr`: application code is rescheduled in front of until nothing asks for it; library
   * code only if it may be preempted, and had interrupts on. Interrupts are off here, so no flag
   * change goes unnoticed between the last look and IRET. Below a forced entry the mark stays for the
   * next safepoint, unless the scheduler is interrupt-safe.
   */
  #retFromIntr(regs: PtRegs): void {
    const cpu = this.#cpu
    if (cpu.core.isForced && !this.isScheduleSafe()) return
    if (regs.userMode) {
      while (cpu.needResched && exitWork(cpu.threadFlags) === 'schedule') {
        this.schedule(regs)
        cpu.core.cli()
      }
      return
    }
    while (cpu.preempt.value === 0 && regs.interruptFlag && cpu.needResched) {
      this.preemptScheduleIrq(regs)
    }
  }

  /** `preempt_schedule_irq`: schedules with interrupts on, marked so that it cannot nest. */
  preemptScheduleIrq(regs: PtRegs): void {
    const { preempt, core } = this.#cpu
    preempt.add(PREEMPT_ACTIVE)
    core.sti()
    this.schedule(regs)
    core.cli()
    preempt.sub(PREEMPT_ACTIVE)
  }
}

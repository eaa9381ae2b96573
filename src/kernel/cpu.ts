/**
 * One CPU as its own thread sees it: the interrupt flag, the preemption count, safepoints and HLT
 * under their kernel names, and the core, local APIC and descriptors below them.
 */

import { IpiError } from '../base/errors.ts'
import { LocalApic } from '../hardware/apic/local-apic.ts'
import type { SafepointCredit } from '../hardware/apic/interrupts.ts'
import { Core } from '../hardware/core.ts'
import { Descriptor } from '../hardware/descriptor.ts'
import type { CoreHandlers } from '../hardware/gates.ts'
import { CPU, HEADER } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { and, load, or, pause, type SharedWords } from '../hardware/memory.ts'
import type { Platform } from '../hardware/platform.ts'
import type { HandlerChecks } from './handler-checks.ts'
import { PREEMPT_OFFSET, PreemptCount } from './preempt.ts'
import { TIF } from './thread-flags.ts'
import { GATE_COUNT } from './vectors.ts'

/** Bit 0 of HEADER.machineFlags: undefined ICR combinations are refused. */
export const MACHINE_STRICT_APIC = 1

/** The counts beside the per-vector ones: their places in CPU.eventCounts. */
export const EVENT = {
  nmi: 0,
  spurious: 1,
  error: 2,
  unexpected: 3,
  handlerErrors: 4,
  softirqs: 5,
  tlbFlushes: 6,
  emptyMasks: 7,
  ipisSent: 8,
  ipisAvoided: 9,
  callsServed: 10,
  rings: 11,
} as const

/** What is behind a vector before its gate is set. */
const ignore = (): void => undefined

/**
 * The CPU of the calling thread. Every method but the getters belongs to that thread alone.
 * Linux 2.6.11: `include/asm-i386/system.h` (local_irq_*), `include/linux/preempt.h`.
 */
export class Cpu {
  /** The CPU's number, 0 for the thread that booted the machine. */
  readonly id: number
  /** The local APIC: `read` and `write` for the xAPIC page, `readMsr` and `writeMsr` for x2APIC. */
  readonly apic: LocalApic
  /** @internal The core under it. */
  readonly core: Core
  /** @internal */
  readonly memory: MachineMemory
  /** @internal */
  readonly platform: Platform
  /** @internal What the core calls; filled by kernel/idt.ts, smp-interrupts.ts, kernel.ts, secondary.ts. */
  readonly handlers: {
    -readonly [K in keyof CoreHandlers]: CoreHandlers[K]
  }
  /** @internal One per possible CPU. */
  readonly descriptors: readonly Descriptor[]
  /** @internal */
  readonly preempt = new PreemptCount()
  /** @internal First word of this CPU's per-CPU page. */
  readonly page: number
  readonly #attention: SharedWords
  readonly #safepoints: SafepointCredit
  /** @internal More than zero while code of this library is on the stack: "kernel mode". */
  kernelDepth = 0
  /**
   * @internal This thread has buried itself, because it ends. Node lets its JavaScript go on for some
   * instructions after `process.exit()`: what they do must reach nobody, for slots have new users.
   */
  isBuried = false
  /** @internal The development mode of handlers; undefined while it is off. */
  checks: HandlerChecks | undefined
  /** @internal This thread looks for itself, and need not be rung; kernel/kernel.ts binds it. */
  onLook: () => void = () => undefined
  /** @internal This CPU has buried another; kernel/forced.ts binds it. */
  onBurial: () => void = () => undefined
  /** @internal Told when the APIC's timer was set; kernel/local-timer.ts binds it. */
  onTimerArmed: () => void = () => undefined
  /** @internal Throws if the running task shall end; kernel/task-guard.ts binds it. */
  checkSignal: () => void = () => undefined
  /** @internal Runs at a preemption point with NEED_RESCHED set; kernel/resched.ts binds it. */
  preemptSchedule: () => void = () => undefined

  constructor(memory: MachineMemory, id: number, platform: Platform) {
    this.id = id
    this.memory = memory
    this.platform = platform
    this.page = memory.cpuPage(id)
    this.#attention = memory.viewOf(this.page + CPU.attention)
    this.descriptors = Array.from(
      { length: memory.cpuCount },
      (_, cpu) => new Descriptor(memory, cpu),
    )
    this.apic = new LocalApic(memory, id, this.descriptors, {
      strict: (memory.words[HEADER.machineFlags]! & MACHINE_STRICT_APIC) !== 0,
      clock: () => platform.now(),
      onTimerArmed: () => this.onTimerArmed(),
    })
    this.handlers = {
      gates: Array.from({ length: GATE_COUNT }, () => ignore),
      isInterruptSafe: () => false,
      nmi: () => undefined,
      init: () => undefined,
      startup: () => undefined,
      attention: () => undefined,
    }
    this.core = new Core(memory, this.apic, this.handlers)
    this.#safepoints = this.apic.safepoints
  }

  /** Turns maskable interrupts off. They stay pending. NMIs still come. */
  localIrqDisable(): void {
    this.core.cli()
  }

  /** Turns maskable interrupts on and takes those that are pending. */
  localIrqEnable(): void {
    this.core.sti()
    this.core.poll()
  }

  /** Turns maskable interrupts off; gives what `localIrqRestore` needs. */
  localIrqSave(): boolean {
    const flags = this.core.interruptsEnabled
    if (flags) this.localIrqDisable()
    return flags
  }

  /** Undoes the `localIrqSave` that gave `flags`. */
  localIrqRestore(flags: boolean): void {
    if (flags) this.localIrqEnable()
  }

  /** Whether maskable interrupts are off. */
  get irqsDisabled(): boolean {
    return !this.core.interruptsEnabled
  }

  /** Inside an interrupt handler or a softirq: code that must not wait. */
  get inInterrupt(): boolean {
    return this.preempt.inInterrupt
  }

  /** From here on nothing is scheduled in front of the running code; interrupts still come. Nests. */
  preemptDisable(): void {
    this.preempt.add(PREEMPT_OFFSET)
  }

  /** Undoes one `preemptDisable`; reschedules if that was asked for meanwhile. */
  preemptEnable(): void {
    this.preempt.sub(PREEMPT_OFFSET)
    if (this.preempt.value === 0 && this.core.interruptsEnabled && this.needResched) {
      this.preemptSchedule()
    }
  }

  /**
   * A safepoint in application code: takes what is pending. Put it into long loops; with nothing
   * pending it costs about a nanosecond. Throws `IPI_ABORTED` in a task that shall end.
   */
  poll(): void {
    // As Core.poll, without the way there.
    if (this.#attention[0] !== 0 || --this.#safepoints.left < 0) {
      this.core.look()
      this.checkSignal()
    }
  }

  /**
   * A safepoint in a loop that waits for another CPU. Every such loop needs one: two CPUs that wait
   * for each other without it wait for ever.
   */
  cpuRelax(): void {
    this.onLook()
    this.kernelDepth++
    this.core.poll()
    this.kernelDepth--
    pause()
  }

  /**
   * Blocks this thread until an interrupt comes or `timeoutMs` has passed; gives whether one came.
   * With interrupts off only an NMI or an INIT ends it. The event loop stands still meanwhile.
   * Throws `IPI_CANNOT_BLOCK` on a thread that must not block, `IPI_INVALID_ARGUMENT`,
   * `IPI_MACHINE_CLOSED` if this CPU has left its machine, `IPI_ABORTED` in a task that shall end.
   */
  halt(timeoutMs = Infinity): boolean {
    this.#checkHalt(timeoutMs)
    const now = (): number => this.platform.now()
    for (const deadline = now() + timeoutMs; ;) {
      // The APIC's timer is nobody's clock: a halted CPU must come back for it by itself.
      const next = this.apic.pollTimer()
      const woken = this.core.hlt(Math.max(0, Math.min(deadline, next) - now()), now)
      this.checkSignal()
      if (woken) return true
      if (now() >= deadline || this.core.isRetired) return false
    }
  }

  /**
   * `safe_halt`: turns interrupts on and halts, as STI followed by HLT does: what is pending, or comes
   * in between, ends the halt. `localIrqEnable()` and then `halt()` would take it first and sleep.
   * Gives and throws what `halt` does.
   */
  safeHalt(timeoutMs = Infinity): boolean {
    this.#checkHalt(timeoutMs)
    this.core.sti()
    return this.halt(timeoutMs)
  }

  #checkHalt(timeoutMs: number): void {
    if (this.core.isRetired) {
      throw new IpiError(
        'IPI_MACHINE_CLOSED',
        `CPU ${this.id} has left the machine: no interrupt would end the halt`,
        { cpu: this.id },
      )
    }
    if (!this.platform.mayBlock) {
      throw new IpiError(
        'IPI_CANNOT_BLOCK',
        "halt() blocks, and a browser's main thread must not; await a call instead",
        { cpu: this.id },
      )
    }
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        `halt(timeoutMs) takes milliseconds >= 0 or nothing, got ${String(timeoutMs)}`,
      )
    }
  }

  /** @internal The thread flags, see TIF. */
  get threadFlags(): number {
    return load(this.memory.words, this.page + CPU.threadFlags)
  }

  /** @internal Whether somebody asked this CPU to reschedule. */
  get needResched(): boolean {
    return (this.memory.words[this.page + CPU.threadFlags]! & TIF.NEED_RESCHED) !== 0
  }

  /** @internal Sets thread flags of this CPU; gives the old ones. */
  setThreadFlags(bits: number): number {
    return or(this.memory.words, this.page + CPU.threadFlags, bits)
  }

  /** @internal Clears thread flags of this CPU; gives the old ones. */
  clearThreadFlags(bits: number): number {
    return and(this.memory.words, this.page + CPU.threadFlags, ~bits)
  }

  /** @internal Counts an EVENT. Only the owner writes, so a plain add will do. */
  count(event: number): void {
    this.memory.words[this.page + CPU.eventCounts + event]!++
  }

  /** @internal Whether another CPU takes interrupts now. */
  isOnline(cpu: number): boolean {
    return this.memory.testCpu(HEADER.onlineMask, cpu)
  }

  /** @internal Throws `IPI_INVALID_CPU` unless the machine can have such a CPU. */
  checkPossible(cpu: number): void {
    const { cpuCount } = this.memory
    if (Number.isInteger(cpu) && cpu >= 0 && cpu < cpuCount) return
    throw new IpiError(
      'IPI_INVALID_CPU',
      `this machine has no CPU ${String(cpu)}: its CPUs are 0 to ${cpuCount - 1}; maxCpus of boot ` +
        'sets how many are possible',
      typeof cpu === 'number' ? { cpu } : {},
    )
  }

  /** @internal Reads an EVENT count of any CPU. */
  readCount(cpu: number, event: number): number {
    return this.memory.readCpu(cpu, CPU.eventCounts + event) >>> 0
  }
}

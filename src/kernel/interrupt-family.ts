/**
 * Interrupts as programs see them: sending them, taking them, and what their end is for. Nothing
 * happens here; each method names the room where it does.
 */

import { CpuMask, type CpuSet } from '../base/cpu-mask.ts'
import { CPU, CPU_STATE } from '../hardware/layout.ts'
import { offlineError } from './call-book.ts'
import { CallFamily } from './call-family.ts'
import type { Cpu } from './cpu.ts'
import type { Capabilities } from './forced.ts'
import type { IrqHandler, IrqOptions } from './idt.ts'
import type { Kernel } from './kernel.ts'
import type { NmiHandler } from './nmi.ts'
import { ALWAYS, NEVER, type ScheduleHook } from './resched.ts'
import type { SoftirqAction } from './softirq.ts'
import { checkSendVector } from './vectors.ts'

/** What a {@link Machine} inherits beside its calls: interrupts of every kind. */
export class InterruptFamily extends CallFamily {
  readonly #kernel: Kernel

  /** @internal */
  constructor(kernel: Kernel) {
    super(kernel.calls)
    this.#kernel = kernel
  }

  /** The CPU of the calling thread. */
  get cpu(): Cpu {
    return this.#kernel.cpu
  }

  /** @internal What services are built on. */
  get kernel(): Kernel {
    return this.#kernel
  }

  // Sending: kernel/send.ts. Any context; never waits.

  /** Sends `vector` (16..255) to every online CPU, this one too. Throws `IPI_INVALID_VECTOR`. */
  sendIpiAll(vector: number): void {
    checkSendVector(vector)
    this.#kernel.senders.sendIpiAll(vector)
  }

  /** Sends `vector` to every online CPU but this one; alone, nothing. Throws `IPI_INVALID_VECTOR`. */
  sendIpiAllButSelf(vector: number): void {
    checkSendVector(vector)
    this.#kernel.senders.sendIpiAllButSelf(vector)
  }

  /** Sends `vector` to this CPU: taken when interrupts are on. Throws `IPI_INVALID_VECTOR`. */
  sendIpiSelf(vector: number): void {
    checkSendVector(vector)
    this.#kernel.senders.sendIpiSelf(vector)
  }

  /**
   * Sends `vector` to the CPUs of `mask`; this one may be among them. An empty mask sends nothing.
   * Throws `IPI_INVALID_VECTOR`, `IPI_INVALID_CPU`, and `IPI_CPU_OFFLINE` if one is not online.
   */
  sendIpiMask(mask: CpuSet, vector: number): void {
    checkSendVector(vector)
    const cpus = CpuMask.from(mask)
    const offline = this.cpu.memory.firstOffline(cpus)
    if (offline >= 0) {
      this.cpu.checkPossible(offline)
      throw offlineError(offline)
    }
    this.#kernel.senders.sendIpiMask(cpus, vector)
  }

  /**
   * Sends a non-maskable interrupt to the CPUs of `mask`, this one too if it is among them: interrupts
   * off keep it out as little as a busy thread does. While one runs, one more is remembered. Stopped
   * CPUs take it too. Without forced entry (`capabilities`) a busy thread takes it at its next
   * safepoint. Waits for nothing, any context. Throws `IPI_INVALID_CPU`, `IPI_CPU_OFFLINE`.
   */
  sendNmi(mask: CpuSet): void {
    const cpus = CpuMask.from(mask)
    for (const cpu of cpus) {
      this.cpu.checkPossible(cpu)
      const isStopped = this.cpu.memory.readCpu(cpu, CPU.state) === CPU_STATE.stopped
      if (!isStopped && !this.cpu.isOnline(cpu)) throw offlineError(cpu)
    }
    this.#kernel.nmi.send(cpus)
  }

  /** What this machine can do here, and why not more. */
  get capabilities(): Capabilities {
    return this.#kernel.forced.capabilities
  }

  // Handlers: kernel/idt.ts, kernel/softirq.ts, kernel/nmi.ts.

  /**
   * Adds a handler of NMIs to this CPU; each NMI runs all of them. It may come at any moment, also in
   * the middle of this library: docs/interrupting.md says what it may do. Throws
   * `IPI_INVALID_ARGUMENT`, also for a name that is taken.
   */
  registerNmiHandler(name: string, handler: NmiHandler): void {
    this.#kernel.nmi.register(name, handler)
  }

  /** Takes an NMI handler of this CPU away, if there is one of that name. */
  unregisterNmiHandler(name: string): void {
    this.#kernel.nmi.unregister(name)
  }

  /**
   * Puts a handler behind a vector of this CPU: it runs with interrupts off and must be short and
   * synchronous. Throws `IPI_INVALID_VECTOR`, `IPI_VECTOR_IN_USE`, `IPI_INVALID_ARGUMENT`.
   */
  requestIrq(vector: number, name: string, handler: IrqHandler, options?: IrqOptions): void {
    this.#kernel.idt.requestIrq(vector, name, handler, options)
  }

  /** Takes the handler of a vector of this CPU away. Throws `IPI_INVALID_VECTOR`. */
  freeIrq(vector: number): void {
    this.#kernel.idt.freeIrq(vector)
  }

  /** A vector that nobody in the machine has. Throws `IPI_NO_FREE_VECTOR`. */
  allocVector(): number {
    return this.#kernel.idt.allocVector()
  }

  /** Gives a vector of `allocVector` back. */
  releaseVector(vector: number): void {
    this.#kernel.idt.releaseVector(vector)
  }

  /** What runs when softirq `nr` (0..31) was raised on this CPU: work too long for a handler. */
  openSoftirq(nr: number, action: SoftirqAction): void {
    this.#kernel.softirqs.openSoftirq(nr, action)
  }

  /** Marks softirq `nr` pending: it runs when the outermost interrupt ends. */
  raiseSoftirq(nr: number): void {
    this.#kernel.softirqs.raiseSoftirq(nr)
  }

  // Rescheduling: kernel/resched.ts.

  /**
   * Interrupts one CPU: it reschedules on its way back if it is marked, else only acknowledges. Waits
   * for nothing. Throws `IPI_INVALID_CPU`, `IPI_CPU_OFFLINE`.
   */
  smpSendReschedule(cpu: number): void {
    this.#kernel.rescheduler.smpSendReschedule(cpu)
  }

  /**
   * Marks one CPU for rescheduling, and interrupts it only if it would not find out by itself. Throws
   * `IPI_INVALID_CPU`, `IPI_CPU_OFFLINE`.
   */
  reschedTask(cpu: number): void {
    this.#kernel.rescheduler.reschedTask(cpu)
  }

  /**
   * Puts a scheduler behind this CPU's rescheduling. Unless it is declared `interruptSafe` it runs at
   * safepoints and in the event loop only.
   */
  onSchedule(hook: ScheduleHook, options: IrqOptions = {}): void {
    this.#kernel.rescheduler.onSchedule = hook
    this.#kernel.rescheduler.isHookSafe = options.interruptSafe === true ? ALWAYS : NEVER
  }
}

/**
 * The machine as programs see it: one object per thread, the kernel's verbs as its methods. Nothing
 * happens here; each method names the room where it does.
 */

import { CpuMask, type CpuSet } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import { AddressSpace } from './address-space.ts'
import type { Backtrace, BacktraceOptions } from './backtrace.ts'
import { checkTimeout } from './call-plan.ts'
import type { Control, StopMachineOptions } from './control.ts'
import type { CpuDownOptions, Hotplug, StartThread } from './hotplug.ts'
import type { HotplugState } from './hotplug-states.ts'
import { readInterrupts, type InterruptTable } from './interrupts.ts'
import type { Kernel, MachineEvents } from './kernel.ts'
import { Mtrr } from './mtrr.ts'
import type { openReplacement } from './replace.ts'
import { TaskFamily } from './task-family.ts'

/** What only the thread that made the machine can do. */
export interface BootPart {
  readonly hotplug: Hotplug
  /** Starts a thread of the machine's own. */
  readonly startThread: StartThread
  /** Adopts a thread that the application made. Throws for what is no worker. */
  readonly adoptThread: (worker: unknown) => StartThread
  /** Gives a CPU another thread. */
  readonly replace: ReturnType<typeof openReplacement>
}

/** How long `close` gives each CPU to leave by itself. */
const CLOSE_MS = 2000

/** A machine, seen from one of its CPUs. Made by `boot`, `createMachine` or `attach`. */
export class Machine extends TaskFamily {
  readonly #kernel: Kernel
  readonly #control: Control
  readonly #boot: BootPart | undefined
  readonly #onClose: () => void
  /** The memory types of address ranges and of keys: kernel/mtrr.ts. */
  readonly mtrr: Mtrr
  #closing: Promise<void> | undefined

  /** @internal */
  constructor(kernel: Kernel, control: Control, boot: BootPart | undefined, onClose: () => void) {
    super(kernel, boot)
    this.#kernel = kernel
    this.#control = control
    this.#boot = boot
    this.#onClose = onClose
    this.mtrr = new Mtrr(kernel, control, control.timeoutMs)
  }

  /** The CPUs that take interrupts now. */
  get onlineMask(): CpuMask {
    return this.cpu.memory.onlineMask
  }

  /** The CPUs that have a thread, online or not yet. */
  get presentMask(): CpuMask {
    return this.cpu.memory.readMask(HEADER.presentMask)
  }

  /** The CPUs that the machine can ever have. */
  get possibleMask(): CpuMask {
    return CpuMask.first(this.cpu.memory.cpuCount)
  }

  /** The machine's memory: pass it on only inside a ticket. */
  get memory(): SharedArrayBuffer {
    return this.cpu.memory.buffer
  }

  // Control: kernel/control.ts, kernel/hotplug.ts.

  /**
   * Stops every other CPU for ever: out of the online map, APIC disabled, halted. Gives those that
   * stopped. Rejects with `IPI_TIMEOUT`, naming those that did not, and `IPI_CPU_BUSY`.
   */
  smpSendStop(): Promise<CpuMask> {
    return this.#control.smpSendStop()
  }

  /**
   * Runs `fn` here while every other CPU stands still with interrupts off; gives what it returned.
   * With `cpus` it runs on those (a shared function then), and the result is a Map by CPU. Rejects
   * with `IPI_TIMEOUT`, nothing run, if somebody does not come to stand still in time, and with
   * `IPI_CALL_FAILED` if it failed on one of `cpus`. Others that die meanwhile change nothing.
   */
  stopMachine<Info, Result>(
    fn: ((info: Info) => Result) | string,
    info?: Info,
    options?: StopMachineOptions,
  ): Promise<Result> {
    const run = fn as ((info: unknown) => unknown) | string
    return this.#control.stopMachine(run, info, options) as Promise<Result>
  }

  /**
   * Brings up one more CPU, the lowest free number or the one given; gives its number. Rejects with
   * `IPI_NO_FREE_CPU`, `IPI_CPU_ONLINE`, `IPI_INVALID_CPU`, `IPI_BOOT_FAILED`, and
   * `IPI_NOT_SUPPORTED` on any thread but the one that made the machine.
   */
  async cpuUp(cpu?: number): Promise<number> {
    const { hotplug, startThread } = this.#bootPart('cpuUp')
    const [number] = await hotplug.cpusUp([cpu], startThread, true)
    return number!
  }

  /** @internal Brings up several at once. */
  async cpusUp(count: number): Promise<void> {
    const { hotplug, startThread } = this.#bootPart('cpuUp')
    await hotplug.cpusUp(
      Array.from({ length: count }, () => undefined),
      startThread,
      true,
    )
  }

  /**
   * Makes a worker that the application created a CPU; the worker calls `attach()`. Gives its
   * number. Rejects as `cpuUp` does; the worker goes on if it fails.
   */
  async bringUp(worker: object, cpu?: number): Promise<number> {
    const { hotplug, adoptThread } = this.#bootPart('bringUp')
    const [number] = await hotplug.cpusUp([cpu], adoptThread(worker), false)
    return number!
  }

  /**
   * Takes a CPU down: its teardowns run, what was sent to it before is served, its thread ends.
   * Rejects with `IPI_CPU_OFFLINE`, `IPI_CPU_BUSY` (the boot CPU), `IPI_HOTPLUG_VETO`,
   * `IPI_TIMEOUT`; with `force` a thread that does not leave is ended.
   */
  async cpuDown(cpu: number, options?: CpuDownOptions): Promise<void> {
    await this.#bootPart('cpuDown').hotplug.cpuDown(cpu, options)
  }

  /**
   * Sets something up on every CPU, now and later: `startup` runs with `info` on each online CPU, and
   * on each late joiner before it is online; `teardown` on each that leaves. The same name again
   * replaces it. Rejects with `IPI_HOTPLUG_VETO` if a startup throws.
   */
  async cpuhpSetupState(name: string, state: HotplugState, info?: unknown): Promise<void> {
    await this.#bootPart('cpuhpSetupState').hotplug.states.setupState(name, state, info)
  }

  /** Undoes `cpuhpSetupState`: runs `teardown` on every online CPU. */
  async cpuhpRemoveState(name: string): Promise<void> {
    await this.#bootPart('cpuhpRemoveState').hotplug.states.removeState(name)
  }

  #bootPart(what: string): BootPart {
    if (this.#closing !== undefined) throw closedError()
    if (this.#boot !== undefined) return this.#boot
    throw new IpiError(
      'IPI_NOT_SUPPORTED',
      `${what} works on CPU 0 only: the thread that made the machine owns the others. Call a ` +
        'shared function there that starts it',
      { cpu: this.cpu.id },
    )
  }

  // Translations: kernel/tlb.ts.

  /** The address space of that name, the same on every CPU. Throws if there are too many. */
  addressSpace(name: string): AddressSpace {
    return new AddressSpace(name, this.#kernel, this.#control)
  }

  /** Drops every translation of every CPU. */
  flushTlbAll(): Promise<void> {
    return this.#control.flushTlbAll()
  }

  // Looking: kernel/interrupts.ts.

  /** Counts per CPU and vector; prints as `/proc/interrupts` does. Asks no CPU. Any context. */
  interrupts(): InterruptTable {
    return readInterrupts(this.cpu, this.#kernel.idt, [...this.presentMask])
  }

  /**
   * What every CPU does right now: its state and the JavaScript that it runs, by NMI. Default mask: all
   * that have a thread, or had one. Prints as one report. CPUs that do not answer are in it, too, with
   * what can be seen of them. Rejects with `IPI_WOULD_DEADLOCK`, `IPI_INVALID_CPU`.
   */
  async backtrace(mask?: CpuSet, options: BacktraceOptions = {}): Promise<Backtrace> {
    const { memory } = this.cpu
    const hadThread = (cpu: number): boolean => memory.readCpu(cpu, CPU.state) === CPU_STATE.dead
    const all = (): CpuMask =>
      this.presentMask.or(CpuMask.from([...this.possibleMask].filter(hadThread)))
    const cpus = mask === undefined ? all() : CpuMask.from(mask)
    for (const cpu of cpus) this.cpu.checkPossible(cpu)
    if (options.timeoutMs !== undefined) checkTimeout(options.timeoutMs)
    return this.#kernel.backtrace.trigger(cpus, options)
  }

  /** Calls `listener` at every `event` of this thread's view of the machine. */
  on<E extends keyof MachineEvents>(event: E, listener: (details: MachineEvents[E]) => void): this {
    this.#kernel.events.on(event, listener)
    return this
  }

  /** Undoes `on`. */
  off<E extends keyof MachineEvents>(
    event: E,
    listener: (details: MachineEvents[E]) => void,
  ): this {
    this.#kernel.events.off(event, listener)
    return this
  }

  /**
   * Takes every other CPU down, by force where needed, and frees this thread for another machine.
   * Waits of this thread reject with `IPI_MACHINE_CLOSED`. Idempotent. On other CPUs it rejects with
   * `IPI_NOT_SUPPORTED`: they leave by `cpuDown`.
   */
  close(): Promise<void> {
    if (this.#boot === undefined) {
      return Promise.reject(
        new IpiError('IPI_NOT_SUPPORTED', 'close works on CPU 0; a CPU leaves by cpuDown', {
          cpu: this.cpu.id,
        }),
      )
    }
    const { hotplug } = this.#boot
    this.#closing ??= hotplug.shutDown(CLOSE_MS).then(() => {
      this.#kernel.shutDown(closedError())
      this.cpu.memory.clearCpu(HEADER.onlineMask, this.cpu.id)
      this.#onClose()
    })
    return this.#closing
  }

  /** `await using machine = await boot(…)`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

function closedError(): IpiError {
  return new IpiError('IPI_MACHINE_CLOSED', 'the machine was closed; boot another')
}

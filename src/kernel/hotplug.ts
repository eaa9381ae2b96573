/**
 * CPU hotplug from the boot CPU: bringing threads up as CPUs, taking them down, and burying those
 * that went without leaving. Linux 2.6.11 `kernel/cpu.c`; later cpuhp_setup_state.
 */

import { IpiError } from '../base/errors.ts'
import { raiseApicMapGeneration } from '../hardware/apic/page.ts'
import { CPU, CPU_STATE, FORCED, HEADER } from '../hardware/layout.ts'
import { add, or, store } from '../hardware/memory.ts'
import type { Platform, Port, Thread } from '../hardware/platform.ts'
import type { Control } from './control.ts'
import { announce, bury, settleRequestsOf } from './death.ts'
import { HotplugStates } from './hotplug-states.ts'
import { describe, type Kernel } from './kernel.ts'
import { BOOT_CPU, HOTPLUG_FUNCTIONS, type SharedOptions, type Ticket } from './protocol.ts'
import { SmpBoot, type Member } from './smpboot.ts'

/** How long a thread that is said to be gone may hold a lock before it is taken away. */
const DEATH_GRACE_MS = 100
/** How long a thread has to end once it was told to. V8 may look for that only after seconds. */
const END_MS = 5000

/** How to take a CPU down. */
export interface CpuDownOptions {
  /** End the thread if it does not leave by itself. Default false: it stays. */
  readonly force?: boolean
  /** How long it has to leave, in milliseconds. */
  readonly timeoutMs?: number
}

/** What starts the thread that shall be a CPU. */
export type StartThread = (ticket: Ticket, transfer: readonly unknown[]) => Thread

/** Hotplug, on the boot CPU. */
export class Hotplug {
  readonly #kernel: Kernel
  readonly #control: Control
  readonly #platform: Platform
  readonly #options: SharedOptions
  readonly #members = new Map<number, Member>()
  /** What every CPU has set up. */
  readonly states: HotplugStates
  readonly #boot: SmpBoot

  constructor(kernel: Kernel, control: Control, options: SharedOptions) {
    this.#kernel = kernel
    this.#control = control
    this.#platform = kernel.cpu.platform
    this.#options = options
    this.states = new HotplugStates(kernel, control, options.timeoutMs)
    this.#boot = new SmpBoot(kernel, options.bootTimeoutMs)
    kernel.forced.enterThread = (cpu) => this.#enterThread(cpu)
    kernel.waits.lookAround.push(() => this.#lookForDead())
    kernel.rendezvous.lookForDead = () => this.#lookForDead()
  }

  /**
   * `cpu_up`: starts threads as CPUs and brings them up in order; gives their numbers. All threads
   * start at once, because starting one takes longer than everything after it. `owned`: the thread
   * exists for nothing else. If one fails, none of them stays.
   */
  cpusUp(
    cpus: readonly (number | undefined)[],
    start: StartThread,
    owned: boolean,
  ): Promise<number[]> {
    return this.#control.exclusively('cpuUp', this.#options.bootTimeoutMs, async () => {
      const prepared: { readonly cpu: number; readonly member: Member }[] = []
      await this.#awaitTheDying()
      try {
        for (const wanted of cpus) prepared.push(this.#prepare(wanted, start, owned))
        for (const { cpu, member } of prepared) {
          await this.#boot.doBootCpu(cpu, member)
          // Node answers later questions about a thread's end only if it was asked while it lived;
          // and once it is online, a blocking wait for it may be the next to ask.
          member.thread.isAlive()
          await this.#boot.commence(cpu, member)
          this.#kernel.events.emit('online', { cpu })
        }
      } catch (error) {
        for (const { cpu, member } of prepared) await this.#undo(cpu, member)
        throw error
      }
      return prepared.map(({ cpu }) => cpu)
    })
  }

  #prepare(
    wanted: number | undefined,
    start: StartThread,
    owned: boolean,
  ): { readonly cpu: number; readonly member: Member } {
    const cpu = this.#chooseNumber(wanted)
    const ports = this.#preparePorts(cpu)
    this.#markPresent(cpu)
    try {
      const member = this.#start(cpu, ports, start, owned)
      this.#introduce(cpu, ports)
      return { cpu, member }
    } catch (error) {
      for (const { near } of ports) near.close()
      this.#remove(cpu, undefined)
      if (error instanceof IpiError) throw error
      const why = error instanceof Error ? error.message : String(error)
      throw new IpiError('IPI_BOOT_FAILED', `the thread of CPU ${cpu} cannot be started: ${why}`, {
        cpu,
        cause: error,
      })
    }
  }

  #chooseNumber(wanted: number | undefined): number {
    const { memory } = this.#kernel.cpu
    if (wanted !== undefined) {
      this.#kernel.cpu.checkPossible(wanted)
      if (!memory.testCpu(HEADER.presentMask, wanted)) return wanted
      throw new IpiError('IPI_CPU_ONLINE', `CPU ${wanted} is up already`, { cpu: wanted })
    }
    for (let cpu = 0; cpu < memory.cpuCount; cpu++) {
      if (!memory.testCpu(HEADER.presentMask, cpu)) return cpu
    }
    throw new IpiError(
      'IPI_NO_FREE_CPU',
      `all ${memory.cpuCount} possible CPUs are up; maxCpus of boot sets how many are possible`,
    )
  }

  /** A thread that buried itself is seen dead before it has ended: its number is free after that. */
  async #awaitTheDying(): Promise<void> {
    const { memory } = this.#kernel.cpu
    const dying = [...this.#members].filter(
      ([cpu]) => memory.readCpu(cpu, CPU.state) === CPU_STATE.dead,
    )
    const { bootTimeoutMs } = this.#options
    await this.#kernel.waits
      .until(
        () => dying.every(([, member]) => member.gone),
        bootTimeoutMs,
        () => undefined,
      )
      .catch(() => undefined)
  }

  /** The CPUs that have a thread, by what samples know that by; ascending. */
  cpusByThread(): Map<number, number> {
    const members = [...this.#members].sort(([a], [b]) => a - b)
    const others = members.map(([cpu, { thread }]) => [thread.threadId, cpu] as const)
    return new Map([[0, BOOT_CPU], ...others])
  }

  #enterThread(cpu: number): boolean {
    const member = this.#members.get(cpu)
    return member !== undefined && this.#platform.forced?.enter(member.thread) === true
  }

  /** A number gets a life: what belongs to an earlier one can be told from it. */
  #markPresent(cpu: number): void {
    const { memory } = this.#kernel.cpu
    const incarnation = add(memory.words, HEADER.incarnation, 1) + 1
    store(memory.words, memory.cpuPage(cpu) + CPU.incarnation, incarnation)
    store(memory.words, memory.cpuPage(cpu) + CPU.state, CPU_STATE.offline)
    // Not powered up yet: until its thread says otherwise it is addressed by its hardware ID.
    store(memory.words, memory.cpuPage(cpu) + CPU.apicBase, 0)
    memory.setCpu(HEADER.presentMask, cpu)
    raiseApicMapGeneration(memory)
  }

  /** A channel to each CPU that is up: no value ever goes through a third thread. */
  #preparePorts(
    cpu: number,
  ): { readonly other: number; readonly near: Port; readonly far: Port }[] {
    return [BOOT_CPU, ...this.#members.keys()]
      .filter((other) => other !== cpu)
      .map((other) => {
        const [near, far] = this.#platform.createChannel()
        return { other, near, far }
      })
  }

  #introduce(cpu: number, ports: readonly { readonly other: number; readonly near: Port }[]): void {
    const { values } = this.#kernel
    for (const { other, near } of ports) {
      if (other === BOOT_CPU) values.setPort(cpu, near)
      else values.introduce(other, cpu, near)
    }
  }

  #start(
    cpu: number,
    ports: readonly { readonly other: number; readonly far: Port }[],
    start: StartThread,
    owned: boolean,
  ): Member {
    const ticket: Ticket = {
      kind: 'interprocessor.ticket',
      buffer: this.#kernel.cpu.memory.buffer,
      cpu,
      options: this.#options,
      hotplugStates: this.states.replays,
      ports: ports.map(({ other, far }) => ({ cpu: other, port: far.transferable })),
    }
    const thread = start(
      ticket,
      ports.map(({ far }) => far.transferable),
    )
    const member: Member = {
      thread,
      owned,
      gone: false,
      error: undefined,
      leaving: false,
      suspectedAt: -1,
    }
    this.#members.set(cpu, member)
    thread.onExit((error) => this.#onExit(cpu, member, error))
    return member
  }

  /** A bring-up failed: the number can be used again. */
  async #undo(cpu: number, member: Member): Promise<void> {
    member.leaving = true
    if (!member.gone && member.owned) await this.#terminate(cpu, member)
    this.#remove(cpu, member)
  }

  /** Ends a thread, and waits until it has ended. Rejects with `IPI_TIMEOUT` if it does not. */
  async #terminate(cpu: number, member: Member): Promise<void> {
    // What this gives is not awaited: of a thread that never looks, it never resolves.
    void member.thread.terminate()
    await this.#kernel.waits.until(
      () => member.gone,
      END_MS,
      () =>
        new IpiError(
          'IPI_TIMEOUT',
          `the thread of CPU ${cpu} was told to end ${END_MS} ms ago and does not: it is in a native ` +
            'call, or in a loop that V8 does not interrupt (option pollEveryLoop of boot)',
          { cpus: [cpu], cpu, waitedMs: END_MS },
        ),
    )
  }

  /** The machine is being closed, and ends without a thread that does not end. */
  readonly #endWithout = (error: unknown): void => {
    this.#platform.warn(`interprocessor: ${(error as Error).message}`)
  }

  /** The thread of a CPU is gone, or the CPU has left it. Gives whether that was not known before. */
  #remove(cpu: number, member: Member | undefined): boolean {
    const { memory } = this.#kernel.cpu
    if (member !== undefined && this.#members.get(cpu) !== member) return false
    this.#members.delete(cpu)
    bury(this.#kernel.cpu, cpu)
    this.#kernel.values.dropPort(cpu)
    memory.clearCpu(HEADER.presentMask, cpu)
    raiseApicMapGeneration(memory)
    return true
  }

  #onExit(cpu: number, member: Member, error: unknown): void {
    member.gone = true
    member.error = error
    // A thread that has left the machine may have been in the middle of a send. If it ended before it
    // rang, nobody else rings.
    if (!this.#remove(cpu, member)) announce(this.#kernel.cpu)
    this.#kernel.waits.recheck()
    if (!member.leaving) {
      this.#platform.publish('died', { cpu, error })
      if (this.#kernel.events.has('died')) this.#kernel.events.emit('died', { cpu, error })
      else if (error !== undefined) this.#warn(cpu, error)
    }
  }

  /** Nobody listens: an error that ended a thread must not pass unseen. */
  #warn(cpu: number, error: unknown): void {
    this.#platform.warn(`interprocessor: the thread of CPU ${cpu} ended: ${describe(error)}`)
  }

  /**
   * In a blocking wait no event loop tells of a thread's end: ask. Its requests are settled at once,
   * which is safe even if it still takes a last step; what it held is taken after a grace time.
   */
  #lookForDead(): void {
    const now = this.#platform.now()
    for (const [cpu, member] of this.#members) {
      if (member.gone || member.thread.isAlive()) continue
      if (member.suspectedAt < 0) {
        member.suspectedAt = now
        settleRequestsOf(this.#kernel.cpu, cpu)
      } else if (now - member.suspectedAt > DEATH_GRACE_MS) {
        bury(this.#kernel.cpu, cpu)
      }
    }
  }

  /**
   * `cpu_down`: asks a CPU to leave. It runs its teardowns, serves what was sent to it before, and
   * its thread ends. Rejects with `IPI_CPU_BUSY` for the boot CPU, `IPI_CPU_OFFLINE`,
   * `IPI_HOTPLUG_VETO` if a teardown threw, `IPI_TIMEOUT` if it does not answer; in the last case
   * `force` ends its thread instead.
   */
  cpuDown(cpu: number, options: CpuDownOptions = {}): Promise<void> {
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs
    return this.#control.exclusively('cpuDown', timeoutMs, () =>
      this.#takeDown(cpu, timeoutMs, options.force === true),
    )
  }

  /** Ends a CPU's thread, by force after `timeoutMs`, and starts another if it was the machine's own. */
  async replace(cpu: number, timeoutMs: number, start: StartThread): Promise<boolean> {
    const owned = this.isOwned(cpu)
    await this.#control.exclusively('replaceCpu', this.#options.bootTimeoutMs, () =>
      this.#takeDown(cpu, timeoutMs, true),
    )
    if (owned) await this.cpusUp([cpu], start, true)
    return owned
  }

  /** Whether the thread of a CPU exists for nothing else. */
  isOwned(cpu: number): boolean {
    return this.#members.get(cpu)?.owned === true
  }

  async #takeDown(cpu: number, timeoutMs: number, force: boolean): Promise<void> {
    const { calls, cpu: self } = this.#kernel
    if (cpu === BOOT_CPU) {
      throw new IpiError('IPI_CPU_BUSY', 'the boot CPU cannot be taken down; close() the machine', {
        cpu,
      })
    }
    self.checkPossible(cpu)
    const member = this.#members.get(cpu)
    if (member === undefined || !self.isOnline(cpu)) {
      throw new IpiError('IPI_CPU_OFFLINE', `CPU ${String(cpu)} is not online`, { cpu })
    }
    member.leaving = true
    try {
      await calls.single(cpu, HOTPLUG_FUNCTIONS.takeCpuDown, undefined, { timeoutMs })
    } catch (cause) {
      const code = cause instanceof IpiError ? cause.code : ''
      const isDead = member.gone || self.memory.readCpu(cpu, CPU.state) === CPU_STATE.dead
      if (isDead || code === 'IPI_CPU_DIED') return this.#awaitTheDying()
      // IPI_CPU_OFFLINE: it has left after all, as an earlier cpuDown had asked that gave up.
      if (code !== 'IPI_TIMEOUT' && code !== 'IPI_CPU_OFFLINE') {
        member.leaving = false
        const why = cause instanceof Error ? cause.message : String(cause)
        throw new IpiError('IPI_HOTPLUG_VETO', `CPU ${cpu} refused to leave: ${why}`, {
          cpu,
          cause,
        })
      }
      if (code === 'IPI_TIMEOUT' && !force) {
        member.leaving = false
        throw cause
      }
    }
    await this.#end(cpu, member, timeoutMs)
    // Buried as any thread that has ended, it is told from the dead.
    or(self.memory.words, self.memory.cpuPage(cpu) + CPU.forced, FORCED.left)
    this.#kernel.events.emit('offline', { cpu })
  }

  /** Waits for the thread to end by itself, and ends it if it does not. */
  async #end(cpu: number, member: Member, timeoutMs: number): Promise<void> {
    const { waits, cpu: self } = this.#kernel
    const hasLeft = !self.isOnline(cpu)
    if (member.owned && hasLeft) {
      await waits
        .until(
          () => member.gone,
          timeoutMs,
          () => undefined,
        )
        .catch(() => undefined)
    }
    // A thread of the application's own goes on without being a CPU.
    if (!member.gone && (member.owned || !hasLeft)) await this.#terminate(cpu, member)
    this.#remove(cpu, member)
  }

  /** Takes every other CPU down, by force where needed. */
  async shutDown(timeoutMs: number): Promise<void> {
    await Promise.all(
      [...this.#members].map(async ([cpu, member]) => {
        const online = this.#kernel.cpu.isOnline(cpu)
        try {
          // A thread of the machine's own is ended below.
          if (online) await this.cpuDown(cpu, { force: !member.owned, timeoutMs })
        } catch {
          // It vetoed, or died meanwhile; it ends all the same.
        }
        member.leaving = true
        if (!member.gone && member.owned) await this.#terminate(cpu, member).catch(this.#endWithout)
        this.#remove(cpu, member)
      }),
    )
  }
}

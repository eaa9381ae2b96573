/**
 * The life of an application processor, seen from its own thread: power-on, wait for INIT and
 * start-up interrupt, `start_secondary`, and leaving. Linux 2.6.11 `arch/i386/kernel/smpboot.c`
 * (smp_callin, start_secondary); leaving as `kernel/cpu.c` take_cpu_down and play_dead.
 */

import { IpiError } from '../base/errors.ts'
import { CPU_STATE, HEADER } from '../hardware/layout.ts'
import { setupLocalApic } from './apic-setup.ts'
import { bury } from './death.ts'
import type { Kernel } from './kernel.ts'
import { BOOT_CPU, type HotplugReplay } from './protocol.ts'
import { wake } from './robust-lock.ts'

/** How long an AP waits for the boot CPU at each step: the 2 s of smp_callin. */
const CALLOUT_MS = 2000
/** How long one sleep of such a wait lasts: what the boot CPU writes comes with a ring. */
const SLEEP_MS = 5

/** One AP. Private to its thread. */
export class Secondary {
  readonly #kernel: Kernel
  readonly #bootTimeoutMs: number
  readonly #states: HotplugReplay[]
  #onOnline: () => void = () => undefined
  #onFailure: (error: unknown) => void = () => undefined

  constructor(kernel: Kernel, states: readonly HotplugReplay[], bootTimeoutMs: number) {
    this.#kernel = kernel
    this.#states = [...states]
    this.#bootTimeoutMs = bootTimeoutMs
    kernel.cpu.handlers.startup = () => this.#startSecondary()
    kernel.cpu.handlers.init = () => this.#reset()
  }

  /**
   * Power-on: from now on this CPU takes INIT and start-up interrupts. Resolves once it is online,
   * rejects if a hotplug state vetoes it.
   */
  powerOn(): Promise<void> {
    const { cpu, idle } = this.#kernel
    const online = new Promise<void>((resolve, reject) => {
      this.#onOnline = resolve
      this.#onFailure = reject
    })
    cpu.core.state = CPU_STATE.waitingForSipi
    idle.arm()
    wake(cpu, BOOT_CPU)
    return online
  }

  /** INIT: whatever this CPU was, it waits for a start-up interrupt now. */
  #reset(): void {
    const { cpu, tlb } = this.#kernel
    if (cpu.core.state !== CPU_STATE.waitingForSipi) {
      // It was online: what was asked of it will not be answered.
      tlb.leaveAll()
      bury(cpu, cpu.id)
      cpu.core.state = CPU_STATE.waitingForSipi
      wake(cpu, BOOT_CPU)
    }
  }

  /** `start_secondary`. Interrupts are off until this CPU is online. */
  #startSecondary(): void {
    const { cpu, senders, driver } = this.#kernel
    const { memory, id } = cpu
    if (!this.#waitFor(() => memory.testCpu(HEADER.calloutMask, id), CALLOUT_MS)) {
      return this.#onFailure(this.#late('callout'))
    }
    setupLocalApic(cpu, senders.driver)
    this.#kernel.mtrr.init()
    try {
      this.#replayStates()
    } catch (error) {
      this.#onFailure(error)
      return
    }
    memory.setCpu(HEADER.callinMask, id)
    wake(cpu, BOOT_CPU)
    if (!this.#waitFor(() => memory.testCpu(HEADER.commencedMask, id), this.#bootTimeoutMs)) {
      return this.#onFailure(this.#late('commencement'))
    }
    cpu.core.state = CPU_STATE.running
    driver.open()
    this.#kernel.forced.open()
    // Requests can come from here on; they wait until interrupts are on.
    memory.setCpu(HEADER.onlineMask, id)
    wake(cpu, BOOT_CPU)
    cpu.localIrqEnable()
    this.#kernel.idle.start()
    this.#kernel.lockup.start()
    this.#onOnline()
  }

  #late(what: string): IpiError {
    const { id } = this.#kernel.cpu
    return new IpiError(
      'IPI_BOOT_FAILED',
      `CPU ${id} waited in vain for its ${what} by the boot CPU`,
      { cpu: id },
    )
  }

  /** Gets what the others have: each hotplug state, in the order in which they were set up. */
  #replayStates(): void {
    for (const { startup, info } of this.#states) {
      if (startup !== undefined) this.#kernel.functions.resolve(startup).run(info)
    }
  }

  /** Waits with interrupts off. A spin on hardware; here the thread sleeps between looks. */
  #waitFor(condition: () => boolean, timeoutMs: number): boolean {
    const { core, platform } = this.#kernel.cpu
    const deadline = platform.now() + timeoutMs
    while (!condition()) {
      if (platform.now() >= deadline) return false
      const { doorbell } = core
      if (!condition()) core.sleep(doorbell, SLEEP_MS)
    }
    return true
  }

  /** A hotplug state was added or replaced: remembered for the way out. */
  setState(state: HotplugReplay): void {
    const at = this.#states.findIndex(({ name }) => name === state.name)
    if (at < 0) this.#states.push(state)
    else this.#states[at] = state
  }

  /** A hotplug state was removed. */
  removeState(name: string): void {
    const at = this.#states.findIndex((state) => state.name === name)
    if (at >= 0) this.#states.splice(at, 1)
  }

  /**
   * `take_cpu_down`: tears the hotplug states down in reverse order, leaves the masks, closes the
   * door and serves what came through it. Runs as a call, interrupts off. If a teardown throws, the
   * ones before it are started again and the CPU stays.
   */
  takeCpuDown(): void {
    const { cpu, driver, tlb, functions, sched } = this.#kernel
    const done: HotplugReplay[] = []
    try {
      for (const state of [...this.#states].reverse()) {
        if (state.teardown !== undefined) functions.resolve(state.teardown).run(state.info)
        done.push(state)
      }
    } catch (error) {
      for (const state of done.reverse()) {
        if (state.startup !== undefined) functions.resolve(state.startup).run(state.info)
      }
      throw error
    }
    cpu.memory.clearCpu(HEADER.onlineMask, cpu.id)
    tlb.leaveAll()
    sched.close()
    driver.close()
    // Whoever finds this thread gone knows by this that it has left, and not died.
    cpu.core.state = CPU_STATE.offline
    // The answer to this call is the last thing that anybody hears of this thread as a CPU.
    cpu.core.retire()
  }
}

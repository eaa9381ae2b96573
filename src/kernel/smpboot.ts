/**
 * Waking one application processor, from the boot CPU's side. Linux 2.6.11
 * `arch/i386/kernel/smpboot.c` (do_boot_cpu, wakeup_secondary_via_INIT, __cpu_up).
 */

import { IpiError } from '../base/errors.ts'
import { CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import type { Thread } from '../hardware/platform.ts'
import { describeTarget } from './diagnose.ts'
import type { Kernel } from './kernel.ts'

/** ICR commands of the wake-up sequence, `wakeup_secondary_via_INIT`. */
const ICR_INIT_ASSERT = 0xc500
const ICR_INIT_DEASSERT = 0x8500
const ICR_STARTUP = 0x600
/** The page of the trampoline, 9F000h. */
const TRAMPOLINE_PAGE = 0x9f
/** Start-up interrupts per wake-up, as integrated APICs get. */
const STARTUP_COUNT = 2
/** A thread that is or becomes a CPU. */
export interface Member {
  readonly thread: Thread
  /** Whether the thread exists only to be this CPU. */
  readonly owned: boolean
  gone: boolean
  error: unknown
  leaving: boolean
  /** When it was first seen dead without its event loop having said so. */
  suspectedAt: number
}

/** Brings one CPU from its first instruction to the online map. */
export class SmpBoot {
  readonly #kernel: Kernel
  readonly #bootTimeoutMs: number

  constructor(kernel: Kernel, bootTimeoutMs: number) {
    this.#kernel = kernel
    this.#bootTimeoutMs = bootTimeoutMs
  }

  /**
   * `do_boot_cpu`: waits for the thread to power on, wakes it by INIT and two start-up interrupts,
   * lets it proceed, waits until it has called in. The waits of the MP specification between the
   * interrupts (10 ms, 200 µs) are for hardware that cannot say where it is; a thread says it.
   */
  async doBootCpu(cpu: number, member: Member): Promise<void> {
    const { memory, apic } = this.#kernel.cpu
    const state = (): number => memory.readCpu(cpu, CPU.state)
    await this.#step(cpu, member, 'start', () => state() === CPU_STATE.waitingForSipi)
    apic.sendCommand(cpu, ICR_INIT_ASSERT)
    apic.sendCommand(cpu, ICR_INIT_DEASSERT)
    for (let i = 0; i < STARTUP_COUNT; i++) apic.sendCommand(cpu, ICR_STARTUP | TRAMPOLINE_PAGE)
    memory.setCpu(HEADER.calloutMask, cpu)
    this.#kernel.cpu.descriptors[cpu]!.ringAlways()
    await this.#step(cpu, member, 'call in', () => memory.testCpu(HEADER.callinMask, cpu))
  }

  /** `__cpu_up`: releases the CPU and waits until it is online. */
  async commence(cpu: number, member: Member): Promise<void> {
    const { memory, descriptors } = this.#kernel.cpu
    memory.setCpu(HEADER.commencedMask, cpu)
    descriptors[cpu]!.ringAlways()
    await this.#step(cpu, member, 'come online', () => memory.testCpu(HEADER.onlineMask, cpu))
  }

  /** Waits for one step of a bring-up. A thread that ends ends the wait. */
  async #step(cpu: number, member: Member, what: string, done: () => boolean): Promise<void> {
    const { waits, functions } = this.#kernel
    const { memory } = this.#kernel.cpu
    const refused = (): boolean => memory.readCpu(cpu, CPU.state) === CPU_STATE.dead
    const bootTimeoutMs = this.#bootTimeoutMs
    await waits.until(
      () => member.gone || refused() || done(),
      bootTimeoutMs,
      () =>
        new IpiError(
          'IPI_BOOT_FAILED',
          `CPU ${cpu} did not ${what} within ${bootTimeoutMs} ms: ` +
            `${describeTarget(this.#kernel.cpu, functions, cpu)}; does its entry module block?`,
          { cpu, waitedMs: bootTimeoutMs },
        ),
    )
    // A thread of the machine's own ends with its error; one that goes on keeps it to itself.
    if (refused() && member.owned) {
      await waits
        .until(
          () => member.gone,
          bootTimeoutMs,
          () => undefined,
        )
        .catch(() => undefined)
    }
    if (!member.gone && !refused()) return
    const why = member.error instanceof Error ? `: ${member.error.message}` : ''
    throw new IpiError(
      'IPI_BOOT_FAILED',
      `the thread of CPU ${cpu} gave up before it could ${what}${why}`,
      {
        cpu,
        cause: member.error,
      },
    )
  }
}

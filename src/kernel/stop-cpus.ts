/**
 * Stopping all other CPUs for ever. Linux 2.6.11 smp_send_stop, later `arch/x86/kernel/smp.c`
 * native_stop_other_cpus: by an interrupt first, which each takes when it can; then by NMI, for those
 * that take none.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { ATTENTION, CPU_STATE, HEADER } from '../hardware/layout.ts'
import { compareExchange, load, or } from '../hardware/memory.ts'
import { disableLocalApic } from './apic-setup.ts'
import { describeTarget } from './diagnose.ts'
import type { Kernel } from './kernel.ts'

const STOP_THIS_CPU = 'interprocessor.stopThisCpu'
/** How long the interrupt has: `native_stop_other_cpus` waits one second. */
const STOP_MS = 1000
/** How long the NMI has where it is forced in: V8 may look only after two seconds. */
const NMI_MS = 2500
/** The same where only a CPU that looks by itself can take it. */
const NMI_UNFORCED_MS = 100
/** After how long a CPU is sent it once more: a thread may have died on the way to having it entered. */
const AGAIN_MS = 100

/** In HEADER.stoppingCpu, beside the CPU that stops the others: NMIs mean that, too, from now on. */
const BY_NMI = 1 << 16

/** Stops the others, and is stopped. One for each CPU. */
export class StopCpus {
  readonly #kernel: Kernel

  constructor(kernel: Kernel) {
    this.#kernel = kernel
    kernel.functions.register(STOP_THIS_CPU, () => this.#stopThisCpu(false))
    kernel.nmi.register('interprocessor.smpStopNmi', () => this.#onNmi())
  }

  /**
   * `smp_send_stop`: every other CPU leaves the online map, disables its APIC and halts for ever;
   * then this one disables its own. Gives the CPUs that stopped. One CPU stops the others; a second
   * that tries finds itself stopped. Rejects with `IPI_TIMEOUT`, naming those that did not stop.
   */
  async smpSendStop(): Promise<CpuMask> {
    const { cpu, calls, forced, nmi, senders, waits } = this.#kernel
    const { memory } = cpu
    waits.checkMayWait('smpSendStop', false)
    const first = compareExchange(memory.words, HEADER.stoppingCpu, 0, cpu.id + 1) & ~BY_NMI
    if (first !== 0 && first !== cpu.id + 1) {
      throw new IpiError('IPI_CPU_BUSY', `CPU ${first - 1} is stopping the machine already`, {
        cpu: first - 1,
      })
    }
    const others = memory.onlineMask.without(cpu.id)
    const late = (): CpuMask => memory.onlineMask.without(cpu.id).and(others)
    const deadline = cpu.platform.now() + STOP_MS
    // No waiting for the end of a function that never returns.
    const sent = calls.many(others, STOP_THIS_CPU, undefined, { wait: false, timeoutMs: STOP_MS })
    await sent.catch(() => undefined)
    await this.#untilStopped(late, deadline - cpu.platform.now())
    if (!late().isEmpty) {
      or(memory.words, HEADER.stoppingCpu, BY_NMI)
      const nmiMs = forced.capabilities.forcedEntry ? NMI_MS : NMI_UNFORCED_MS
      const end = cpu.platform.now() + nmiMs
      do {
        nmi.send(late(), true)
        await this.#untilStopped(late, Math.min(AGAIN_MS, end - cpu.platform.now()))
      } while (!late().isEmpty && cpu.platform.now() < end)
    }
    const flags = cpu.localIrqSave()
    disableLocalApic(cpu, senders.driver)
    cpu.localIrqRestore(flags)
    this.#checkStopped(late())
    return others
  }

  /** Resolves when nobody is late, or after `timeoutMs`. */
  #untilStopped(late: () => CpuMask, timeoutMs: number): Promise<void> {
    const { waits } = this.#kernel
    return waits
      .until(
        () => late().isEmpty,
        Math.max(0, timeoutMs),
        () => undefined,
      )
      .catch(() => undefined)
  }

  #checkStopped(late: CpuMask): void {
    if (late.isEmpty) return
    const { cpu, forced, functions } = this.#kernel
    const { reason } = forced.capabilities
    const doing = [...late].map((each) => describeTarget(cpu, functions, each)).join('; ')
    const waitedMs = STOP_MS + (reason === undefined ? NMI_MS : NMI_UNFORCED_MS)
    const why = reason === undefined ? '' : `; there is no forced entry: ${reason}`
    throw new IpiError(
      'IPI_TIMEOUT',
      `did not stop within ${STOP_MS} ms, nor by NMI within ${waitedMs - STOP_MS} ms: ${doing}${why}`,
      { cpus: [...late], waitedMs },
    )
  }

  /** `smp_stop_nmi_callback`. */
  #onNmi(): void {
    const { core, memory, id } = this.#kernel.cpu
    const stopping = load(memory.words, HEADER.stoppingCpu)
    if ((stopping & BY_NMI) === 0 || stopping === (BY_NMI | (id + 1))) return
    if (core.state !== CPU_STATE.stopped) this.#stopThisCpu(true)
  }

  /**
   * `stop_this_cpu`: the last thing this CPU does. Only an NMI is still taken. In an NMI itself, which
   * came into the middle of anything, it runs nothing of what it was asked for.
   */
  #stopThisCpu(inNmi: boolean): never {
    const { cpu, senders, driver, tlb } = this.#kernel
    const { core, memory } = cpu
    memory.clearCpu(HEADER.onlineMask, cpu.id)
    tlb.leaveAll()
    if (inNmi) driver.shut()
    else driver.close()
    cpu.localIrqDisable()
    disableLocalApic(cpu, senders.driver)
    core.state = CPU_STATE.stopped
    for (const other of memory.onlineMask) cpu.descriptors[other]!.attend(ATTENTION.wake)
    // It does not return: the next NMI must not wait for that.
    if (inNmi) core.iret()
    for (;;) {
      core.sleep(core.doorbell, Infinity)
      core.deliverInterrupts('safepoint')
    }
  }
}

/**
 * Control of the whole machine from one CPU: calls that the kernel itself makes to all others. Linux
 * 2.6.11 flush_tlb_all, `kernel/stop_machine.c`.
 */

import { CpuMask, type CpuSet } from '../base/cpu-mask.ts'
import { IpiError, isIpiError } from '../base/errors.ts'
import { HEADER } from '../hardware/layout.ts'
import { SmpCallError } from './call.ts'
import { checkTimeout } from './call-plan.ts'
import { describeTarget } from './diagnose.ts'
import type { Kernel } from './kernel.ts'
import type { SharedOptions } from './protocol.ts'
import { RobustLock } from './robust-lock.ts'
import { StopCpus } from './stop-cpus.ts'

/** Names of the functions that every kernel registers for the others. */
export const KERNEL_FUNCTIONS = {
  multiCpuStop: 'interprocessor.multiCpuStop',
  flushTlbAll: 'interprocessor.flushTlbAll',
} as const

/** What the other CPUs are told of a stop-machine round. */
interface StopRound {
  readonly sequence: number
  /** The shared function that the runners run, by name. */
  readonly functionName: string
  readonly info: unknown
}

/** How to stop the machine. */
export interface StopMachineOptions {
  /** The CPUs that run the function while the others stand still; default: the calling CPU. */
  readonly cpus?: CpuSet
  /** How long to wait for everybody to stand still, in milliseconds. */
  readonly timeoutMs?: number
}

/** Control on one CPU. */
export class Control {
  readonly #kernel: Kernel
  /** The deadline of what names none, in milliseconds. */
  readonly timeoutMs: number
  readonly #stopCpus: StopCpus
  /** One control operation at a time in the whole machine: hotplug, stop-machine. */
  readonly lock: RobustLock
  #busy = false

  constructor(kernel: Kernel, { timeoutMs }: SharedOptions) {
    this.#kernel = kernel
    this.timeoutMs = timeoutMs
    this.lock = new RobustLock(kernel.cpu, HEADER.controlLock)
    this.#stopCpus = new StopCpus(kernel)
    const { functions, tlb } = kernel
    functions.register(KERNEL_FUNCTIONS.flushTlbAll, () => tlb.flushEverything(), {
      interruptSafe: true,
    })
    functions.register(KERNEL_FUNCTIONS.multiCpuStop, (round: StopRound) => this.#stand(round))
  }

  /** Takes the control lock, runs, gives it back. Rejects with `IPI_CPU_BUSY` after `timeoutMs`. */
  async exclusively<T>(what: string, timeoutMs: number, run: () => Promise<T>): Promise<T> {
    const { waits } = this.#kernel
    checkTimeout(timeoutMs)
    waits.checkMayWait(what, false)
    await waits.until(
      // The lock keeps other CPUs out, the flag other calls of this one.
      () => !this.#busy && (this.#busy = this.lock.tryAcquire()),
      timeoutMs,
      () =>
        new IpiError(
          'IPI_CPU_BUSY',
          `${what} waited ${timeoutMs} ms: CPU ${this.lock.holder} is still changing the machine`,
          { cpu: this.lock.holder },
        ),
    )
    try {
      return await run()
    } finally {
      this.#busy = false
      this.lock.release()
      waits.recheck()
    }
  }

  /** `smp_send_stop`: see {@link StopCpus}. */
  smpSendStop(): Promise<CpuMask> {
    return this.#stopCpus.smpSendStop()
  }

  /**
   * `stop_machine`: runs `fn` on this CPU (or on `cpus`) while every other stands still with
   * interrupts off. Gives what it returned: the value, or a Map by CPU if `cpus` was given. Rejects
   * with `IPI_TIMEOUT`, nothing run, if somebody does not come to stand still in time.
   */
  stopMachine(
    fn: ((info: unknown) => unknown) | string,
    info: unknown,
    options: StopMachineOptions = {},
  ): Promise<unknown> {
    const timeoutMs = options.timeoutMs ?? this.timeoutMs
    const { cpu, waits } = this.#kernel
    return this.exclusively('stopMachine', timeoutMs, async () => {
      waits.checkMayWait('stopMachine', true)
      return this.#stopRound(fn, info, options.cpus, cpu.platform.now() + timeoutMs)
    })
  }

  #stopRound(
    fn: ((info: unknown) => unknown) | string,
    info: unknown,
    cpus: CpuSet | undefined,
    deadline: number,
  ): unknown {
    const { cpu, calls, functions, rendezvous, stop } = this.#kernel
    const participants = cpu.memory.onlineMask
    const runners = cpus === undefined ? CpuMask.of(cpu.id) : CpuMask.from(cpus).and(participants)
    // Only what runs here may be a plain function; other threads know functions by name.
    const remote = !runners.without(cpu.id).isEmpty
    const record = remote || typeof fn === 'string' ? functions.resolve(fn) : undefined
    const run = record?.run ?? (fn as (info: unknown) => unknown)
    const sequence = stop.begin(participants, runners)
    const round: StopRound = {
      sequence,
      functionName: record?.name ?? '',
      info: remote ? info : undefined,
    }
    let local: LocalRun | undefined
    // Who stands still can neither wait for slots nor let the driver go on: the request goes first.
    const restMs = Math.max(0, deadline - cpu.platform.now())
    const { results, errors } = calls.rendezvous(
      'stopMachine',
      participants,
      KERNEL_FUNCTIONS.multiCpuStop,
      round,
      restMs,
      undefined,
      () => {
        local = this.#standHere(sequence, () => run(info), deadline)
        return local.outcome !== 'aborted'
      },
    )
    if (local!.outcome === 'aborted') {
      const missing = rendezvous.missing(participants, sequence)
      const doing = missing.map((each) => describeTarget(cpu, functions, each)).join('; ')
      throw new IpiError('IPI_TIMEOUT', `stopMachine: did not stand still in time: ${doing}`, {
        cpus: missing,
      })
    }
    // A bystander that died ran nothing, and kept nobody from running.
    if (cpus === undefined) return unwrap(local!)
    const failed = [...errors].filter(([each]) => runners.has(each))
    const succeeded = [...results].filter(([each]) => runners.has(each))
    if (failed.length > 0) {
      throw new SmpCallError(round.functionName, new Map(succeeded), new Map(failed))
    }
    if (runners.has(cpu.id)) succeeded.push([cpu.id, unwrap(local!)])
    return new Map(succeeded.sort(([a], [b]) => a - b))
  }

  #standHere(sequence: number, run: () => unknown, deadline: number): LocalRun {
    const { cpu, stop } = this.#kernel
    const local: LocalRun = { outcome: 'stood', value: undefined, error: undefined, threw: false }
    const flags = cpu.localIrqSave()
    const runHere = (): void => {
      try {
        local.value = run()
      } catch (error) {
        local.threw = true
        local.error = error
      }
    }
    local.outcome = stop.participate(sequence, runHere, deadline)
    cpu.localIrqRestore(flags)
    return local
  }

  /** The part of every other CPU: a call that lasts as long as the round. */
  #stand({ sequence, functionName, info }: StopRound): unknown {
    const { functions } = this.#kernel
    return unwrap(
      this.#standHere(sequence, () => functions.resolve(functionName).run(info), Infinity),
    )
  }

  /** Flushes one address, some, or with FLUSH_ALL the whole space, on every CPU that uses it. */
  async flush(mm: number, start: number, end = start + 1, timeoutMs?: number): Promise<void> {
    const { waits, tlb, flushes } = this.#kernel
    waits.checkMayWait('flushTlb', false)
    await flushes.until(tlb.flush(mm, start, end), timeoutMs)
  }

  /** The blocking form of `flush`. */
  flushSync(mm: number, start: number, end = start + 1, timeoutMs?: number): void {
    const { waits, tlb, flushes } = this.#kernel
    waits.checkMayWait('flushTlbSync', true)
    flushes.block(tlb.flush(mm, start, end), timeoutMs)
  }

  /** `flush_tlb_all`: every translation of every CPU, by the call-function interrupt. */
  async flushTlbAll(timeoutMs = this.timeoutMs): Promise<void> {
    try {
      await this.#kernel.calls.each(KERNEL_FUNCTIONS.flushTlbAll, undefined, { timeoutMs })
    } catch (error) {
      // Who died holds no translations any more, as in `#hasFlushed` of kernel/tlbstate.ts.
      const died = (each: unknown): boolean => isIpiError(each) && each.code === 'IPI_CPU_DIED'
      if (error instanceof SmpCallError && [...error.errors.values()].every(died)) return
      throw error
    }
  }
}

/** What happened to the function on this CPU. */
interface LocalRun {
  outcome: string
  value: unknown
  error: unknown
  threw: boolean
}

function unwrap(run: LocalRun): unknown {
  if (run.threw) throw run.error
  return run.value
}

/**
 * The call-function family: run a function on other CPUs and know that it ran. Linux `kernel/smp.c`
 * (smp_call_function_single, _any, _many, on_each_cpu) over either call driver.
 */

import { CpuMask, type CpuSet } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { allOutcomes, Call, onlyOutcome, type CallOptions, type OpenCall } from './call.ts'
import type { CallBook } from './call-book.ts'
import type { CallBatch, CallDriver } from './call-queue.ts'
import type { Cpu } from './cpu.ts'
import type { FunctionRecord, FunctionTable } from './functions.ts'
import { isThenable } from './idt.ts'
import { describeTarget } from './diagnose.ts'
import type { AbortSignalLike, Waits } from './wait.ts'

/** Everything a call needs, checked. */
interface CallPlan {
  readonly record: FunctionRecord
  readonly targets: readonly number[]
  /** Whether this CPU runs the function too. */
  readonly local: boolean
  readonly info: unknown
  readonly wait: boolean
  readonly timeoutMs: number
  readonly signal: AbortSignalLike | undefined
}

/** What the family stands on. */
export interface CallFunctionParts {
  readonly cpu: Cpu
  readonly book: CallBook
  readonly driver: CallDriver
  readonly functions: FunctionTable
  readonly waits: Waits
  /** The deadline of a call that names none, in milliseconds. */
  readonly timeoutMs: number
}

/** The family on one CPU. Any CPU may call any other; none of it passes through a third. */
export class CallFunction {
  readonly #cpu: Cpu
  readonly #book: CallBook
  readonly #driver: CallDriver
  readonly #functions: FunctionTable
  readonly #waits: Waits
  readonly #timeoutMs: number
  /** Calls out from here, for the watchdog. */
  readonly open = new Set<OpenCall>()
  /** Called when one more is out; kernel/kernel.ts binds the watchdog. */
  onOpen: () => void = () => undefined

  constructor(parts: CallFunctionParts) {
    this.#cpu = parts.cpu
    this.#book = parts.book
    this.#driver = parts.driver
    this.#functions = parts.functions
    this.#waits = parts.waits
    this.#timeoutMs = parts.timeoutMs
  }

  /** `smp_call_function`: every online CPU but this one. Alone it sends nothing and returns. */
  async all(fn: unknown, info: unknown, options?: CallOptions): Promise<Map<number, unknown>> {
    return this.#many(this.#others(), false, fn, info, options)
  }

  /** `smp_call_function_many`: the online CPUs of a mask, without this one. */
  async many(
    mask: CpuSet,
    fn: unknown,
    info: unknown,
    options?: CallOptions,
  ): Promise<Map<number, unknown>> {
    return this.#many(this.#online(mask).without(this.#cpu.id), false, fn, info, options)
  }

  /** `on_each_cpu`: every online CPU, this one too, which runs it with interrupts off as well. */
  async each(fn: unknown, info: unknown, options?: CallOptions): Promise<Map<number, unknown>> {
    return this.#many(this.#others(), true, fn, info, options)
  }

  /** `smp_call_function_single`: one CPU; if it is this one, here with interrupts off. */
  async single(
    target: number,
    fn: unknown,
    info: unknown,
    options?: CallOptions,
  ): Promise<unknown> {
    this.#checkPossible(target)
    const local = target === this.#cpu.id
    const plan = this.#plan('smpCallFunctionSingle', fn, info, options, false, {
      targets: local ? [] : [target],
      local,
    })
    const call = await this.#await(plan)
    return onlyOutcome(call, target)
  }

  /** `smp_call_function_any`: this CPU if it is in the mask, or else any online one of the mask. */
  async any(mask: CpuSet, fn: unknown, info: unknown, options?: CallOptions): Promise<unknown> {
    return this.single(this.#choose(mask), fn, info, options)
  }

  /** The blocking form of `all`. */
  allSync(fn: unknown, info: unknown, options?: CallOptions): Map<number, unknown> {
    return this.#manySync(this.#others(), false, fn, info, options)
  }

  /** The blocking form of `many`. */
  manySync(mask: CpuSet, fn: unknown, info: unknown, options?: CallOptions): Map<number, unknown> {
    return this.#manySync(this.#online(mask).without(this.#cpu.id), false, fn, info, options)
  }

  /** The blocking form of `each`. */
  eachSync(fn: unknown, info: unknown, options?: CallOptions): Map<number, unknown> {
    return this.#manySync(this.#others(), true, fn, info, options)
  }

  /** The blocking form of `single`. */
  singleSync(target: number, fn: unknown, info: unknown, options?: CallOptions): unknown {
    this.#checkPossible(target)
    const local = target === this.#cpu.id
    const plan = this.#plan('smpCallFunctionSingleSync', fn, info, options, true, {
      targets: local ? [] : [target],
      local,
    })
    return onlyOutcome(this.#block(plan), target)
  }

  /** The blocking form of `any`. */
  anySync(mask: CpuSet, fn: unknown, info: unknown, options?: CallOptions): unknown {
    return this.singleSync(this.#choose(mask), fn, info, options)
  }

  async #many(
    mask: CpuMask,
    local: boolean,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
  ): Promise<Map<number, unknown>> {
    const where = { targets: [...mask], local }
    return allOutcomes(
      await this.#await(this.#plan('smpCallFunction', fn, info, options, false, where)),
    )
  }

  #manySync(
    mask: CpuMask,
    local: boolean,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
  ): Map<number, unknown> {
    const where = { targets: [...mask], local }
    return allOutcomes(
      this.#block(this.#plan('smpCallFunctionSync', fn, info, options, true, where)),
    )
  }

  #others(): CpuMask {
    return this.#cpu.memory.onlineMask.without(this.#cpu.id)
  }

  /** The online CPUs of what a caller passed. Throws `IPI_INVALID_CPU` for impossible ones. */
  #online(mask: CpuSet): CpuMask {
    const wanted = CpuMask.from(mask)
    for (const cpu of wanted) this.#checkPossible(cpu)
    return wanted.and(this.#cpu.memory.onlineMask)
  }

  #checkPossible(cpu: number): void {
    if (Number.isInteger(cpu) && cpu >= 0 && cpu < this.#cpu.memory.cpuCount) return
    throw new IpiError(
      'IPI_INVALID_CPU',
      `this machine has no CPU ${String(cpu)}: its CPUs are 0 to ${this.#cpu.memory.cpuCount - 1}`,
      typeof cpu === 'number' ? { cpu } : {},
    )
  }

  #choose(mask: CpuSet): number {
    const online = this.#online(mask)
    if (online.isEmpty) {
      throw new IpiError(
        'IPI_NO_CPU',
        `no CPU of the mask {${CpuMask.from(mask).toString()}} is online; online are ` +
          `{${this.#cpu.memory.onlineMask.toString()}}`,
        { cpus: [...CpuMask.from(mask)] },
      )
    }
    return online.has(this.#cpu.id) ? this.#cpu.id : online.first()
  }

  #plan(
    what: string,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
    blocking: boolean,
    where: { readonly targets: readonly number[]; readonly local: boolean },
  ): CallPlan {
    const record = this.#functions.resolve(fn)
    const { wait = true, timeoutMs = this.#timeoutMs, signal } = options ?? {}
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        `timeoutMs is milliseconds >= 0, got ${String(timeoutMs)}`,
      )
    }
    if (record.isAsync) {
      throw new IpiError(
        'IPI_ASYNC_FUNCTION',
        `"${record.name}" is an async function: what an interrupt runs must be synchronous; start ` +
          'asynchronous work and return, or run it as a task',
        { functionName: record.name },
      )
    }
    // Alone there is nobody to wait for: no lock, no interrupt, no check.
    if (where.targets.length > 0) this.#waits.checkMayWait(what, blocking)
    return { record, info, wait, timeoutMs, signal, ...where }
  }

  /** Sends a planned call. `reader` is told of each answer; without one the caller looks itself. */
  #send(plan: CallPlan, call: Call, notify: boolean): CallBatch & { finish?: () => boolean } {
    const reader = notify ? call : undefined
    const batch = this.#book.fill(plan.targets, plan.record, plan.info, plan.wait, reader)
    batch.targets.forEach((target, i) => call.late.set(target, batch.slots[i]!))
    // Preemption is off from the look at the masks to the interrupt, as in the kernel.
    this.#cpu.preemptDisable()
    const { offline, finish } = this.#driver.submit(batch)
    this.#cpu.preemptEnable()
    for (const target of offline) {
      this.#book.refuse(call.late.get(target)!)
      call.settle(target, { ok: false, error: () => offlineError(target) })
    }
    return finish === undefined ? batch : { ...batch, finish }
  }

  #runLocal(plan: CallPlan, call: Call): void {
    const flags = this.#cpu.localIrqSave()
    try {
      const value = plan.record.run(plan.info)
      if (isThenable(value)) {
        value.then(undefined, () => undefined)
        throw new IpiError(
          'IPI_ASYNC_FUNCTION',
          `"${plan.record.name}" returned a promise: what an interrupt runs must be synchronous`,
          { cpu: this.#cpu.id, functionName: plan.record.name },
        )
      }
      call.results.set(this.#cpu.id, plan.wait ? value : undefined)
    } catch (error) {
      call.failures.set(this.#cpu.id, () => error)
    } finally {
      this.#cpu.localIrqRestore(flags)
    }
  }

  async #await(plan: CallPlan): Promise<Call> {
    const { signal, timeoutMs } = plan
    if (signal?.aborted === true) throw signal.reason
    const start = this.#cpu.platform.now()
    const call = new Call(plan.record)
    const enough = (): boolean => plan.targets.length <= this.#book.freeCount
    // Others wait too: between the wake-up and our turn they may have taken what came back.
    while (!enough()) {
      await this.#waits.until(enough, timeoutMs, () => this.#noSlots(plan), signal)
    }
    const { finish } = this.#send(plan, call, true)
    // Local and remote runs overlap: the interrupts are on their way.
    if (plan.local) this.#runLocal(plan, call)
    if (finish !== undefined) void this.#waits.until(finish, Infinity, () => undefined)
    if (call.late.size > 0) await this.#answers(plan, call, start)
    return call
  }

  #answers(plan: CallPlan, call: Call, start: number): Promise<void> {
    const { signal, timeoutMs } = plan
    return new Promise((resolve, reject) => {
      const end = (error?: unknown): void => {
        this.open.delete(entry)
        timer?.cancel()
        signal?.removeEventListener('abort', onAbort)
        this.#waits.release()
        if (error === undefined) resolve()
        else reject(error)
      }
      const onAbort = (): void => {
        this.#abandon(call)
        end(signal!.reason)
      }
      const entry: OpenCall = { call, start }
      this.open.add(entry)
      this.onOpen()
      this.#waits.hold()
      const timer =
        timeoutMs === Infinity
          ? undefined
          : this.#cpu.platform.startTimer(timeoutMs, () => end(this.#timeout(call, timeoutMs)))
      signal?.addEventListener('abort', onAbort)
      call.onSettled = () => end()
    })
  }

  #block(plan: CallPlan): Call {
    const call = new Call(plan.record)
    const enough = (): boolean => plan.targets.length <= this.#book.freeCount
    if (!enough() && !this.#waits.block(enough, plan.timeoutMs)) throw this.#noSlots(plan)
    const { finish } = this.#send(plan, call, false)
    if (plan.local) this.#runLocal(plan, call)
    if (call.late.size === 0 && finish === undefined) return call
    const slots = [...call.late.values()]
    let settled = 0
    const answered = (): boolean => {
      if (finish !== undefined && !finish()) return false
      while (settled < slots.length && this.#book.isSettled(slots[settled]!)) settled++
      return settled === slots.length
    }
    // Most answers are there before the clock was read once; the watchdog wants to know the others.
    const inTime = this.#waits.block(answered, 0) || this.#blockLonger(plan, call, answered)
    if (!inTime && finish !== undefined) void this.#waits.until(finish, Infinity, () => undefined)
    for (const [cpu, slot] of [...call.late]) {
      if (this.#book.isSettled(slot)) call.settle(cpu, this.#book.finish(slot, call))
    }
    if (!inTime) throw this.#timeout(call, plan.timeoutMs)
    return call
  }

  #blockLonger(plan: CallPlan, call: Call, answered: () => boolean): boolean {
    const entry: OpenCall = { call, start: this.#cpu.platform.now() }
    this.open.add(entry)
    try {
      return this.#waits.block(answered, plan.timeoutMs)
    } finally {
      this.open.delete(entry)
    }
  }

  /** Gives up on everybody who is late. Gives whether the function had started on any of them. */
  #abandon(call: Call): boolean {
    let started = false
    for (const [cpu, slot] of call.late) started = this.#book.abandon(slot, cpu) || started
    return started
  }

  #timeout(call: Call, waited: number): IpiError {
    const late = [...call.late.keys()]
    const doing = late.map((cpu) => describeTarget(this.#cpu, this.#functions, cpu)).join('; ')
    const started = this.#abandon(call)
    const waitedMs = Math.round(waited)
    return new IpiError(
      'IPI_TIMEOUT',
      `CPU ${this.#cpu.id} waited ${waitedMs} ms for "${call.record.name}": ${doing}. ` +
        (started
          ? 'Where the function has started it will still run to its end'
          : 'It will not run there any more'),
      {
        cpus: late,
        ...(late.length === 1 ? { cpu: late[0]! } : {}),
        functionName: call.record.name,
        waitedMs,
        started,
      },
    )
  }

  #noSlots(plan: CallPlan): IpiError {
    return new IpiError(
      'IPI_TIMEOUT',
      `CPU ${this.#cpu.id} waited ${plan.timeoutMs} ms for ${plan.targets.length} free ` +
        `request slots, ${this.#book.openCount} calls are out; raise slotCount or call less at once`,
      { functionName: plan.record.name, waitedMs: plan.timeoutMs, started: false },
    )
  }
}

function offlineError(cpu: number): IpiError {
  return new IpiError(
    'IPI_CPU_OFFLINE',
    `CPU ${cpu} is not online; bring it up with cpuUp(), or ask machine.onlineMask first`,
    { cpu },
  )
}

/**
 * The call-function family: run a function on other CPUs and know that it ran. Linux `kernel/smp.c`
 * (smp_call_function_single, _any, _many, on_each_cpu) over either call driver.
 */

import { CpuMask, type CpuSet } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { allOutcomes, Call, onlyOutcome, type CallOptions, type OpenCall } from './call.ts'
import type { CallBook, Outcome } from './call-book.ts'
import type { CallDriver } from './call-queue.ts'
import type { Cpu } from './cpu.ts'
import type { FunctionRecord, FunctionTable } from './functions.ts'
import { isThenable } from './idt.ts'
import { describeTarget } from './diagnose.ts'
import type { AbortSignalLike, Waits } from './wait.ts'

/** Everything a call needs, checked. */
interface CallPlan {
  readonly record: FunctionRecord
  /** The other CPUs that run the function. */
  readonly targets: readonly number[]
  /** Whether this CPU runs it too. */
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
    const plan = this.#planSingle('smpCallFunctionSingle', target, fn, info, options, false)
    return onlyOutcome(await this.#await(plan))
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
    const plan = this.#planSingle('smpCallFunctionSingleSync', target, fn, info, options, true)
    return onlyOutcome(this.#block(plan))
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
    const plan = this.#plan('smpCallFunction', [...mask], local, fn, info, options, false)
    return allOutcomes(await this.#await(plan))
  }

  #manySync(
    mask: CpuMask,
    local: boolean,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
  ): Map<number, unknown> {
    const plan = this.#plan('smpCallFunctionSync', [...mask], local, fn, info, options, true)
    return allOutcomes(this.#block(plan))
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

  #planSingle(
    what: string,
    target: number,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
    blocking: boolean,
  ): CallPlan {
    this.#checkPossible(target)
    const local = target === this.#cpu.id
    return this.#plan(what, local ? [] : [target], local, fn, info, options, blocking)
  }

  #plan(
    what: string,
    targets: readonly number[],
    local: boolean,
    fn: unknown,
    info: unknown,
    options: CallOptions | undefined,
    blocking: boolean,
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
    this.#waits.checkOpen()
    // Alone there is nobody to wait for: no lock, no interrupt, no check.
    if (targets.length > 0) this.#waits.checkMayWait(what, blocking)
    return { record, targets, local, info, wait, timeoutMs, signal }
  }

  /** Everybody who is to run the function; this CPU stands last. */
  #newCall({ record, targets, local }: CallPlan): Call {
    return new Call(record, local ? [...targets, this.#cpu.id] : targets)
  }

  /**
   * Sends a planned call, and runs it here if it is to: remote and local runs overlap. With
   * `announced` the call is told of each answer; without, the caller looks at the slots itself.
   * Gives what the driver has still to do.
   */
  #send(plan: CallPlan, call: Call, announced: boolean): (() => boolean) | undefined {
    const { targets, record, info, wait, local } = plan
    const batch = this.#book.fill(targets, record, info, wait, announced ? call : undefined)
    call.slots = batch.slots
    // Preemption is off from the look at the masks to the interrupt, as in the kernel.
    this.#cpu.preemptDisable()
    const { offline, finish } = this.#driver.submit(batch)
    this.#cpu.preemptEnable()
    for (const target of offline) {
      this.#book.refuse(batch.slots[targets.indexOf(target)]!)
      call.settle(target, { ok: false, error: () => offlineError(target) })
    }
    if (local) call.settle(this.#cpu.id, this.#runLocal(plan))
    return finish
  }

  #runLocal(plan: CallPlan): Outcome {
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
      return { ok: true, value: plan.wait ? value : undefined }
    } catch (error) {
      return { ok: false, error: () => error }
    } finally {
      this.#cpu.localIrqRestore(flags)
    }
  }

  async #await(plan: CallPlan): Promise<Call> {
    const { signal, timeoutMs } = plan
    if (signal?.aborted === true) throw signal.reason
    const enough = (): boolean => plan.targets.length <= this.#book.freeCount
    // Others wait too: between the wake-up and our turn they may have taken what came back.
    while (!enough()) {
      await this.#waits.until(enough, timeoutMs, () => this.#noSlots(plan), signal)
    }
    const call = this.#newCall(plan)
    const finish = this.#send(plan, call, true)
    if (finish !== undefined) void this.#waits.until(finish, Infinity, () => undefined)
    if (call.lateCount > 0) await this.#answers(plan, call)
    return call
  }

  #answers(plan: CallPlan, call: Call): Promise<void> {
    const { signal, timeoutMs } = plan
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        this.open.delete(entry)
        timer?.cancel()
        signal?.removeEventListener('abort', onAbort)
        this.#waits.release()
        settle()
      }
      const fail = (error: unknown): void => end(() => reject(error))
      const onAbort = (): void => {
        this.#abandon(call)
        fail(signal!.reason)
      }
      const entry: OpenCall = { call, start: this.#cpu.platform.now(), fail }
      this.open.add(entry)
      this.onOpen()
      this.#waits.hold()
      const timer =
        timeoutMs === Infinity
          ? undefined
          : this.#cpu.platform.startTimer(timeoutMs, () => fail(this.#timeout(call, timeoutMs)))
      signal?.addEventListener('abort', onAbort)
      call.onSettled = () => end(resolve)
    })
  }

  #block(plan: CallPlan): Call {
    const enough = (): boolean => plan.targets.length <= this.#book.freeCount
    if (!enough() && !this.#waits.block(enough, plan.timeoutMs)) throw this.#noSlots(plan)
    const call = this.#newCall(plan)
    const finish = this.#send(plan, call, false)
    if (call.lateCount === 0 && finish === undefined) return call
    let place = 0
    const answered = (): boolean => {
      if (finish !== undefined && !finish()) return false
      while (place < call.slots.length && this.#isIn(call, place)) place++
      return place === call.slots.length
    }
    // Most answers are there before the clock was read once; the watchdog wants to know the others.
    const inTime = this.#waits.block(answered, 0) || this.#blockLonger(plan, call, answered)
    if (!inTime && finish !== undefined) void this.#waits.until(finish, Infinity, () => undefined)
    for (let i = 0; i < call.slots.length; i++) {
      if (call.hasAnswered(i) || !this.#isIn(call, i)) continue
      call.settle(call.cpus[i]!, this.#book.finish(call.slots[i]!, call))
    }
    if (!inTime) throw this.#timeout(call, plan.timeoutMs)
    return call
  }

  /** Whether the answer at this place was read already, or can be read. */
  #isIn(call: Call, place: number): boolean {
    return call.hasAnswered(place) || this.#book.isSettled(call.slots[place]!)
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

  /** Fails every promise that is out: this CPU has left its machine. */
  abandon(error: Error): void {
    for (const { call, fail } of this.open) {
      this.#abandon(call)
      fail?.(error)
    }
  }

  /** Gives up on everybody who is late. Gives whether the function had started on any of them. */
  #abandon(call: Call): boolean {
    let started = false
    call.slots.forEach((slot, place) => {
      if (call.hasAnswered(place)) return
      started = this.#book.abandon(slot, call.cpus[place]!) || started
    })
    return started
  }

  #timeout(call: Call, waited: number): IpiError {
    const late = call.late()
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

/**
 * Calls on their way out: a planned call gets its slots, is sent, waited for, forced on those who are
 * late, given up. Linux `kernel/smp.c`, smp_call_function_many_cond.
 */

import { Bag } from '../base/bag.ts'
import { IpiError, isIpiError } from '../base/errors.ts'
import { Call, sortOutcomes, type OpenCall } from './call.ts'
import { offlineOutcome, type CallBook } from './call-book.ts'
import type { CallPlan } from './call-plan.ts'
import type { CallDriver, Submission } from './call-queue.ts'
import type { Cpu } from './cpu.ts'
import { describeTarget } from './diagnose.ts'
import type { Escalation } from './escalation.ts'
import type { FunctionTable } from './functions.ts'
import { isThenable, refusePromise, returnedPromise } from './idt.ts'
import type { Outcome } from './open-requests.ts'
import { SlotQueue } from './slot-queue.ts'
import type { WaitLimits } from './suspended-wait.ts'
import type { Waits } from './wait.ts'

/** What outgoing calls stand on. */
export interface OutgoingParts {
  readonly cpu: Cpu
  readonly book: CallBook
  readonly driver: CallDriver
  readonly functions: FunctionTable
  readonly waits: Waits
  readonly escalation: Escalation
}

/** The calls that one CPU makes. Private to its thread. */
export class OutgoingCalls {
  readonly #cpu: Cpu
  readonly #book: CallBook
  readonly #driver: CallDriver
  readonly #functions: FunctionTable
  readonly #waits: Waits
  readonly #slotQueue: SlotQueue
  readonly #escalation: Escalation
  /** Those that are out, for the watchdog. */
  readonly open = new Bag<OpenCall>()
  /** Called when one more is out; kernel/kernel.ts binds the watchdog. */
  onOpen: () => void = () => undefined

  constructor(parts: OutgoingParts) {
    this.#cpu = parts.cpu
    this.#book = parts.book
    this.#driver = parts.driver
    this.#functions = parts.functions
    this.#waits = parts.waits
    this.#escalation = parts.escalation
    this.#slotQueue = new SlotQueue(parts.book, parts.waits)
    parts.book.onFreed = () => this.#slotQueue.onFreed()
  }

  /** Sends a planned call; resolves when everybody has answered. Rejects as `Machine` says of calls. */
  async await(plan: CallPlan): Promise<Call> {
    if (plan.signal?.aborted === true) throw plan.signal.reason
    const count = plan.targets.length
    let start = this.#cpu.platform.now()
    const at = start + plan.timeoutMs
    if (!this.#slotQueue.mayTake(count)) {
      const limits = this.#slotLimits(plan, at)
      await this.#slotQueue.wait(count, limits, false)
      // From a claim that succeeds to the sending nobody may come in between: no await.
      while (!this.#slotQueue.claim(count)) await this.#slotQueue.wait(count, limits, true)
      this.#checkGoesOn(plan)
      start = this.#cpu.platform.now()
    }
    const { call, finish } = this.#start(plan, true)
    const released = finish === undefined ? undefined : this.#release(finish)
    if (call.lateCount > 0) await this.#answers(plan, call, start, at)
    // Everybody has answered, so nothing keeps the driver from letting go at once.
    if (released !== undefined) await released
    return call
  }

  /** The same, blocking. */
  block(plan: CallPlan): Call {
    const restMs = this.#blockForSlots(plan, plan.timeoutMs)
    const { call, finish } = this.#start(plan, false)
    this.#collect(plan, call, finish, restMs)
    return call
  }

  /**
   * Blocks while the others run a function that waits for this CPU in turn: stop-machine,
   * set_mtrr.
   * `meanwhile` is this CPU's part; it may stand still with interrupts off, for it is called when
   * the request is on its way to everybody and needs nothing of this CPU any more. If it gives
   * false, the others are given up. Gives what the others answered. Waits `timeoutMs` for slots:
   * `IPI_TIMEOUT`, and nothing was sent.
   */
  rendezvous(
    plan: CallPlan,
    timeoutMs: number,
    meanwhile: () => boolean,
  ): ReturnType<typeof sortOutcomes> {
    this.#blockForSlots(plan, timeoutMs)
    const { call, finish, hasLeft } = this.#start(plan, false)
    this.#waits.block(() => finish === undefined || finish() || hasLeft!(), timeoutMs)
    if (meanwhile()) {
      this.#collect(plan, call, finish, plan.timeoutMs)
    } else {
      this.#abandon(call)
      if (finish !== undefined) void this.#release(finish)
    }
    return sortOutcomes(call)
  }

  /** Fails every promise that is out: this CPU has left its machine. */
  abandon(error: Error): void {
    for (const { call, wait } of this.open) {
      this.#abandon(call)
      wait?.fail(error)
    }
  }

  /** Everybody who is to run the function; this CPU stands last. */
  #newCall({ record, targets, local, mask, forceAfterMs }: CallPlan): Call {
    const cpus = local ? [...targets, this.#cpu.id] : targets
    return new Call(record, cpus, mask, forceAfterMs !== Infinity)
  }

  /** Those who do not come to it in time are entered by force, if the function may run there then. */
  #escalate({ forceAfterMs, record }: CallPlan, call: Call): void {
    if (forceAfterMs === Infinity || !record.interruptSafe) return
    const isLate = (_: number, place: number): boolean => {
      const slot = call.slots[place]
      return slot !== undefined && !call.hasAnswered(place) && this.#book.isQueued(slot)
    }
    call.overdue = this.#escalation.watch(() => call.cpus.filter(isLate), forceAfterMs)
  }

  #endEscalation({ overdue }: Call): void {
    if (overdue !== undefined) this.#escalation.forget(overdue)
  }

  /** Makes a planned call and sends it. A value by port reaches nobody who has left the mask. */
  #start(plan: CallPlan, announced: boolean): { readonly call: Call } & Submission {
    for (let each = plan; ;) {
      const call = this.#newCall(each)
      try {
        const { offline, finish, hasLeft } = this.#send(each, call, announced)
        return { call, offline, finish, hasLeft }
      } catch (error) {
        const left = plan.mask && isIpiError(error) && error.code === 'IPI_CPU_OFFLINE'
        if (!left || !each.targets.includes(error.cpu!)) throw error
        each = { ...plan, targets: each.targets.filter((target) => target !== error.cpu) }
      }
    }
  }

  /**
   * Sends a planned call, and runs it here if it is to: remote and local runs overlap. With
   * `announced` the call is told of each answer; without, the caller looks at the slots itself.
   */
  #send(plan: CallPlan, call: Call, announced: boolean): Submission {
    // Preemption is off from the look at the masks to the interrupt, as in the kernel. And interrupts
    // are off from the first slot to the last word about it: a forced entry sends values too, and
    // whoever buries a target settles what he finds open.
    this.#cpu.preemptDisable()
    const flags = this.#cpu.localIrqSave()
    let submission: Submission
    try {
      submission = this.#submit(plan, call, announced)
    } finally {
      this.#cpu.localIrqRestore(flags)
      this.#cpu.preemptEnable()
    }
    if (plan.local) call.settle(this.#cpu.id, this.#runLocal(plan))
    return submission
  }

  #submit({ targets, record, info, wait }: CallPlan, call: Call, announced: boolean): Submission {
    const batch = this.#book.fill(targets, record, info, wait, announced ? call : undefined)
    call.slots = batch.slots
    const submission = this.#driver.submit(batch)
    for (const target of submission.offline) {
      this.#book.refuse(batch.slots[targets.indexOf(target)]!)
      call.settle(target, offlineOutcome(target))
    }
    return submission
  }

  #runLocal(plan: CallPlan): Outcome {
    const flags = this.#cpu.localIrqSave()
    try {
      const { run } = plan.record
      const value = run(plan.info)
      if (isThenable(value)) {
        const { name } = plan.record
        refusePromise(value, returnedPromise(name), { cpu: this.#cpu.id, functionName: name })
      }
      return { ok: true, value: plan.wait ? value : undefined }
    } catch (error) {
      return { ok: false, error: () => error }
    } finally {
      this.#cpu.localIrqRestore(flags)
    }
  }

  #slotLimits({ targets, timeoutMs, signal, record }: CallPlan, at: number): WaitLimits {
    const onTimeout = (): unknown => this.#noSlots(targets.length, timeoutMs, record.name)
    return { at, onTimeout, signal }
  }

  /** Between the promise of slots and the call's turn its signal may have come, or its CPU left. */
  #checkGoesOn({ signal }: CallPlan): void {
    try {
      this.#waits.checkOpen()
      if (signal?.aborted === true) throw signal.reason
    } catch (error) {
      this.#slotQueue.onFreed()
      throw error
    }
  }

  /** Lets the driver end what it has begun, however late: the next call may wait for that. */
  #release(finish: () => boolean): Promise<void> {
    return this.#waits.until(finish, Infinity, () => undefined).catch(() => undefined)
  }

  #answers(plan: CallPlan, call: Call, start: number, at: number): Promise<void> {
    const { signal, timeoutMs } = plan
    const wait = this.#waits.suspend({
      at,
      onTimeout: () => this.#timeout(call, timeoutMs),
      signal,
      onAbort: () => void this.#abandon(call),
    })
    if (wait.isOver) return wait.promise
    const entry: OpenCall = { call, start, wait, place: -1 }
    this.open.add(entry)
    this.onOpen()
    this.#escalate(plan, call)
    wait.onEnd = () => {
      this.open.delete(entry)
      this.#endEscalation(call)
    }
    call.onSettled = () => wait.resume()
    return wait.promise
  }

  /** Gives how much of `timeoutMs` is left then. */
  #blockForSlots({ targets, record }: CallPlan, timeoutMs: number): number {
    const enough = (): boolean => targets.length <= this.#book.freeCount
    if (enough()) return timeoutMs
    const { platform } = this.#cpu
    const deadline = platform.now() + timeoutMs
    if (!this.#waits.block(enough, timeoutMs)) {
      throw this.#noSlots(targets.length, timeoutMs, record.name)
    }
    return Math.max(0, deadline - platform.now())
  }

  /** Blocks until everybody has answered, for so long. Throws `IPI_TIMEOUT`. */
  #collect(plan: CallPlan, call: Call, finish: (() => boolean) | undefined, restMs: number): void {
    if (call.lateCount === 0 && finish === undefined) return
    let place = 0
    const answered = (): boolean => {
      if (finish !== undefined && !finish()) return false
      while (place < call.slots.length && this.#isIn(call, place)) place++
      return place === call.slots.length
    }
    // Most answers are there before the clock was read once; the watchdog wants to know the others.
    const inTime = this.#waits.block(answered, 0) || this.#blockLonger(plan, call, answered, restMs)
    if (!inTime && finish !== undefined) void this.#release(finish)
    for (let i = 0; i < call.slots.length; i++) {
      if (call.hasAnswered(i) || !this.#isIn(call, i)) continue
      call.settle(call.cpus[i]!, this.#book.finish(call.slots[i]!, call))
    }
    if (!inTime) throw this.#timeout(call, plan.timeoutMs)
  }

  /** Whether the answer at this place was read already, or can be read. */
  #isIn(call: Call, place: number): boolean {
    return call.hasAnswered(place) || this.#book.isSettled(call.slots[place]!)
  }

  #blockLonger(plan: CallPlan, call: Call, answered: () => boolean, restMs: number): boolean {
    const entry: OpenCall = { call, start: this.#cpu.platform.now(), place: -1 }
    this.open.add(entry)
    this.#escalate(plan, call)
    try {
      return this.#waits.block(answered, restMs)
    } finally {
      this.open.delete(entry)
      this.#endEscalation(call)
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
    const force = call.describeForce()
    return new IpiError(
      'IPI_TIMEOUT',
      `CPU ${this.#cpu.id} waited ${waitedMs} ms for "${call.record.name}": ${doing}. ` +
        (started
          ? 'Where the function has started it will still run to its end'
          : 'It will not run there any more') +
        (force === '' ? '' : `. ${force}`),
      {
        cpus: late,
        ...(late.length === 1 ? { cpu: late[0]! } : {}),
        ...sortOutcomes(call),
        functionName: call.record.name,
        waitedMs,
        started,
      },
    )
  }

  #noSlots(count: number, waitedMs: number, functionName: string): IpiError {
    return new IpiError(
      'IPI_TIMEOUT',
      `CPU ${this.#cpu.id} waited ${waitedMs} ms for ${count} free request slots, ` +
        `${this.#book.openCount} calls are out; raise slotCount or call less at once`,
      { functionName, waitedMs, started: false },
    )
  }
}

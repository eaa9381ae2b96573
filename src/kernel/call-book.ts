/**
 * The initiator's book of calls: which slots are out, what came back, who is late. The private half
 * of Linux `kernel/smp.c`, smp_call_function_many_cond and its waiters.
 */

import { IpiError } from '../base/errors.ts'
import { CPU, CPU_STATE, HEADER, SLOT } from '../hardware/layout.ts'
import { load } from '../hardware/memory.ts'
import type { CallBatch } from './call-queue.ts'
import type { Cpu } from './cpu.ts'
import type { FunctionRecord } from './functions.ts'
import { OpenRequests, type Outcome, type Reader } from './open-requests.ts'
import { rebuildError, type ErrorDescription } from './remote-error.ts'
import {
  REQUEST_FLAG,
  REQUEST_STATE,
  REQUEST_STATUS,
  requestFlags,
  RequestSlots,
  slotsOldestFirst,
  stateOf,
  takeSlots,
  targetOf,
  transition,
} from './request.ts'
import type { Values } from './values.ts'

/** The error of a CPU that was to be asked, or interrupted, and is not online. */
export function offlineError(cpu: number): IpiError {
  return new IpiError(
    'IPI_CPU_OFFLINE',
    `CPU ${cpu} is not online; bring it up with cpuUp(), or ask machine.onlineMask first`,
    { cpu },
  )
}

/** The same as an outcome. */
export function offlineOutcome(cpu: number): Outcome {
  return { ok: false, offline: true, error: () => offlineError(cpu) }
}

/** The requests of one CPU. Private to its thread. */
export class CallBook {
  readonly #cpu: Cpu
  readonly #values: Values
  readonly #slots: RequestSlots
  readonly #open: OpenRequests
  /** Deaths seen so far; -1 makes the first sweep look at what an earlier life left behind. */
  #burials = -1
  /** Called when slots came back: somebody may be waiting for them. */
  onFreed: () => void = () => undefined

  constructor(cpu: Cpu, values: Values) {
    this.#cpu = cpu
    this.#values = values
    this.#open = new OpenRequests(cpu.id * cpu.memory.slotCount, cpu.memory.slotCount)
    this.#slots = new RequestSlots(cpu.memory, cpu.id, (slot) => {
      // Left behind by an earlier life of this CPU; its target still has it. Nobody wants to know.
      const target = targetOf(requestFlags(cpu.memory, slot))
      this.#open.note(slot, target, cpu.memory.readCpu(target, CPU.incarnation))
      this.#orphan(slot)
    })
    // What that life had taken off its list, it will not be told of again.
    this.#closeTaken()
  }

  /** How many requests can be made now. */
  get freeCount(): number {
    return this.#slots.freeCount
  }

  /** How many requests are out. */
  get openCount(): number {
    return this.#open.size
  }

  /**
   * Fills one slot per target. The caller has checked that there are enough, and has turned interrupts
   * off until they are submitted or refused. Throws
   * `IPI_UNCLONEABLE` and the like with every slot given back: nothing was sent.
   */
  fill(
    targets: readonly number[],
    record: FunctionRecord,
    info: unknown,
    wait: boolean,
    reader: Reader | undefined,
  ): CallBatch {
    const slots: number[] = []
    const kind = (wait ? REQUEST_FLAG.wait : 0) | (reader === undefined ? 0 : REQUEST_FLAG.notify)
    const ticket = this.#slots.nextTicket()
    const { memory } = this.#cpu
    try {
      for (const target of targets) {
        const slot = this.#slots.allocate()
        slots.push(slot)
        this.#slots.fill(slot, target, record.id, kind, ticket)
        this.#values.put(slot, target, 'info', ticket, info)
        const incarnation = memory.words[memory.cpuPage(target) + CPU.incarnation]!
        if (reader !== undefined) this.#open.set(slot, reader, target, incarnation)
        else this.#open.note(slot, target, incarnation)
      }
    } catch (error) {
      for (const slot of slots) this.#giveBack(slot)
      throw error
    }
    return { targets, slots, wait }
  }

  /** Ends a request that never reached its target. */
  refuse(slot: number): void {
    this.#giveBack(slot)
  }

  /**
   * Gives a settled request's slot back. A thread whose end is only suspected may take a last step
   * yet, and write its answer: until it is buried, nobody else gets the slot that it was asked by.
   */
  #free(slot: number): void {
    const hasDied = stateOf(requestFlags(this.#cpu.memory, slot)) === REQUEST_STATE.died
    if (!hasDied || this.#isGone(slot)) this.#giveBack(slot)
    else this.#orphan(slot)
  }

  #giveBack(slot: number): void {
    this.#open.delete(slot)
    this.#slots.release(slot)
    this.onFreed()
  }

  /** Whether a request has ended, one way or another: what a blocking wait looks at. */
  isSettled(slot: number): boolean {
    const state = stateOf(requestFlags(this.#cpu.memory, slot))
    return (
      state === REQUEST_STATE.done || state === REQUEST_STATE.died || state === REQUEST_STATE.left
    )
  }

  /** Whether the target has not come to a request yet. */
  isQueued(slot: number): boolean {
    return stateOf(requestFlags(this.#cpu.memory, slot)) === REQUEST_STATE.queued
  }

  /**
   * Reads how a settled request ended, and gives its slot back. Loading `done` from the flags
   * ordered everything that the target wrote before it (CallServer.#complete). Interrupts are off
   * meanwhile: what a forced entry runs sends and takes values too, and must not find us at it.
   */
  finish(slot: number, reader: Reader): Outcome {
    const irqFlags = this.#cpu.localIrqSave()
    try {
      return this.#finish(slot, reader)
    } finally {
      this.#cpu.localIrqRestore(irqFlags)
    }
  }

  #finish(slot: number, reader: Reader): Outcome {
    const { memory } = this.#cpu
    const flags = requestFlags(memory, slot)
    const target = memory.words[memory.slot(slot) + SLOT.target]!
    const state = stateOf(flags)
    const outcome =
      state === REQUEST_STATE.died
        ? this.#died(target, reader)
        : state === REQUEST_STATE.left
          ? offlineOutcome(target)
          : this.#read(slot, target, reader)
    this.#free(slot)
    return outcome
  }

  #read(slot: number, target: number, reader: Reader): Outcome {
    const { words } = this.#cpu.memory
    const at = this.#cpu.memory.slot(slot)
    const status = words[at + SLOT.status]!
    let value: unknown
    try {
      value = this.#values.take(slot, target, 'result', words[at + SLOT.ticket]!)
    } catch (error) {
      return { ok: false, error: () => error }
    }
    if (status === REQUEST_STATUS.returned) return { ok: true, value }
    if (status === REQUEST_STATUS.offline) return offlineOutcome(target)
    if (status === REQUEST_STATUS.threw && value === undefined) return this.#died(target, reader)
    return { ok: false, error: () => this.#error(status, target, value, reader) }
  }

  #error(status: number, cpu: number, value: unknown, { record }: Reader): unknown {
    const functionName = record.name
    const facts = { cpu, functionName }
    switch (status) {
      case REQUEST_STATUS.unknownFunction:
        return new IpiError(
          'IPI_UNKNOWN_FUNCTION',
          `CPU ${cpu} knows no shared function "${functionName}"; import the module that defines ` +
            'it in the entry module of that thread',
          facts,
        )
      case REQUEST_STATUS.asyncFunction:
        return new IpiError(
          'IPI_ASYNC_FUNCTION',
          `"${functionName}" returned a promise on CPU ${cpu}: what an interrupt runs must be ` +
            'synchronous; start asynchronous work and return, or run it as a task',
          facts,
        )
      case REQUEST_STATUS.uncloneable:
        return new IpiError(
          'IPI_UNCLONEABLE',
          `what "${functionName}" returned on CPU ${cpu} cannot be cloned: ` +
            `${(value as ErrorDescription | undefined)?.message ?? ''}`,
          facts,
        )
      default: {
        const where = `at CPU ${cpu} ("${functionName}", called by CPU ${this.#cpu.id})`
        return rebuildError(value as ErrorDescription, where, new Error().stack ?? '')
      }
    }
  }

  #died(cpu: number, { record }: Reader): Outcome {
    const error = (): IpiError =>
      new IpiError(
        'IPI_CPU_DIED',
        `the thread of CPU ${cpu} ended before it answered "${record.name}"; its number can be ` +
          'brought up again with cpuUp()',
        { cpu, functionName: record.name },
      )
    return { ok: false, error }
  }

  /** ATTENTION.completion: takes the list of completed requests and tells their readers. */
  takeCompletions(): void {
    const { memory, page } = this.#cpu
    // Noted before anything else is called: if this thread ends here, its next life goes on.
    memory.words[page + CPU.completionsTaken] = takeSlots(memory, page + CPU.completions)
    this.#closeTaken()
  }

  #closeTaken(): void {
    const { memory, page } = this.#cpu
    const done: number[] = []
    slotsOldestFirst(memory, memory.words[page + CPU.completionsTaken]!, done)
    for (const slot of done) this.#close(slot)
    memory.words[page + CPU.completionsTaken] = 0
  }

  #close(slot: number): void {
    if (!this.#open.has(slot)) return
    const reader = this.#open.reader(slot)
    const target = this.#open.target(slot)
    if (reader === undefined) this.#discard(slot, target)
    else reader.settle(target, this.finish(slot, reader))
  }

  /** A late answer that nobody waits for any more. */
  #discard(slot: number, target: number): void {
    const { words } = this.#cpu.memory
    const at = this.#cpu.memory.slot(slot)
    const irqFlags = this.#cpu.localIrqSave()
    try {
      this.#values.drop(slot, target, 'result', words[at + SLOT.ticket]!)
    } catch {
      // The port went down with the target: there is nothing left to drop.
    }
    this.#free(slot)
    this.#cpu.localIrqRestore(irqFlags)
  }

  /**
   * ATTENTION.wake: if a thread was buried since the last look, settles what was addressed to it.
   * Completions come first: a request that the dead CPU completed and announced is on that list,
   * and must not be settled a second time. Gives whether a thread was buried.
   */
  sweep(): boolean {
    const { memory } = this.#cpu
    const burials = load(memory.words, HEADER.burials)
    if (burials === this.#burials) return false
    this.#burials = burials
    this.takeCompletions()
    for (const slot of this.#open.slots()) {
      const state = stateOf(requestFlags(memory, slot))
      const ended = state === REQUEST_STATE.done || state === REQUEST_STATE.cancelled
      // What is queued or running yet will be `died` before its own burial is announced.
      const settled = state === REQUEST_STATE.died || state === REQUEST_STATE.left
      if (settled || (ended && this.#isGone(slot))) this.#close(slot)
    }
    return true
  }

  #isGone(slot: number): boolean {
    const { memory } = this.#cpu
    const target = this.#open.target(slot)
    return (
      memory.readCpu(target, CPU.state) === CPU_STATE.dead ||
      memory.readCpu(target, CPU.incarnation) !== this.#open.incarnation(slot)
    )
  }

  /**
   * Gives up on a request. Gives whether its function had started. One that had not will not run;
   * one that had runs to its end, and its slot comes back then.
   */
  abandon(slot: number, target: number): boolean {
    const { memory } = this.#cpu
    for (;;) {
      const flags = requestFlags(memory, slot)
      const state = stateOf(flags)
      if (this.isSettled(slot)) {
        // Settled at this very moment. If it is to be announced, the announcement frees it.
        if ((flags & REQUEST_FLAG.notify) === 0) this.#discard(slot, target)
        else this.#orphan(slot)
        return true
      }
      const next = state === REQUEST_STATE.queued ? REQUEST_STATE.cancelled : state
      // From here on its completion is announced: nobody looks at the flags any more.
      if (!transition(memory, slot, flags, next, REQUEST_FLAG.notify)) continue
      this.#orphan(slot)
      return state === REQUEST_STATE.running
    }
  }

  /** Nobody wants to know any more how it ends; its slot comes back all the same. */
  #orphan(slot: number): void {
    this.#open.set(slot, undefined, this.#open.target(slot), this.#open.incarnation(slot))
  }
}

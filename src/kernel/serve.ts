/**
 * The target's side of a call: claims a request, runs its function with interrupts off, completes
 * it. Linux `kernel/smp.c`, __flush_smp_call_function_queue. Both call drivers end here.
 */

import { IpiError } from '../base/errors.ts'
import { ATTENTION, CPU, SLOT } from '../hardware/layout.ts'
import { EVENT, type Cpu } from './cpu.ts'
import type { HandlerErrorSink } from './entry.ts'
import type { FunctionRecord, FunctionTable } from './functions.ts'
import { isThenable, refusePromise, returnedPromise } from './idt.ts'
import { describeError, runSharedFunction } from './remote-error.ts'
import {
  pushSlot,
  REQUEST_FLAG,
  REQUEST_STATE,
  REQUEST_STATUS,
  requestFlags,
  stateOf,
  targetOf,
  transition,
} from './request.ts'
import { VECTOR } from './vectors.ts'
import type { Values } from './values.ts'

/** What a claimed request asks for, copied out of its slot. */
export interface ClaimedCall {
  readonly slot: number
  readonly source: number
  readonly ticket: number
  /** Whether somebody waits for the result. */
  readonly wait: boolean
  /** Undefined if this thread does not know the function. */
  readonly record: FunctionRecord | undefined
  readonly info: unknown
  /** Why the argument could not be taken: it went down with its sender, or cannot be read. */
  readonly lost: Error | undefined
}

/** Serves requests on one CPU. Called in interrupt context only. */
export class CallServer {
  readonly #cpu: Cpu
  readonly #functions: FunctionTable
  readonly #values: Values
  readonly #onError: HandlerErrorSink

  constructor(cpu: Cpu, functions: FunctionTable, values: Values, onError: HandlerErrorSink) {
    this.#cpu = cpu
    this.#functions = functions
    this.#values = values
    this.#onError = onError
  }

  /** Whether the function of a queued request was declared safe by the author of this thread's. */
  isInterruptSafe(slot: number): boolean {
    const { words } = this.#cpu.memory
    const at = this.#cpu.memory.slot(slot) + SLOT.function
    return this.#functions.find(words[at]!, words[at + 1]!)?.interruptSafe === true
  }

  /**
   * Claims a request of this CPU and copies it out. 'cancelled' if its initiator gave up before;
   * undefined if it is no request for us: done already, or its slot has another life by now.
   */
  claim(slot: number): ClaimedCall | 'cancelled' | undefined {
    const { memory, id } = this.#cpu
    const { words } = memory
    const at = memory.slot(slot)
    if (this.#cpu.isBuried) return undefined
    for (;;) {
      const flags = requestFlags(memory, slot)
      if (targetOf(flags) !== id) return undefined
      if (stateOf(flags) === REQUEST_STATE.cancelled) {
        this.#drop(slot)
        this.#complete(slot)
        return 'cancelled'
      }
      if (stateOf(flags) !== REQUEST_STATE.queued) return undefined
      // Fails only against an initiator that cancels, or whoever buried us by mistake.
      if (!transition(memory, slot, flags, REQUEST_STATE.running)) continue
      const source = words[at + SLOT.source]!
      const ticket = words[at + SLOT.ticket]!
      let info: unknown
      let lost: Error | undefined
      try {
        info = this.#values.take(slot, source, 'info', ticket)
      } catch (error) {
        lost = error instanceof Error ? error : new Error(String(error))
      }
      return {
        slot,
        source,
        ticket,
        wait: (flags & REQUEST_FLAG.wait) !== 0,
        record: this.#functions.find(words[at + SLOT.function]!, words[at + SLOT.function + 1]!),
        info,
        lost,
      }
    }
  }

  /**
   * Ends a request that nobody will run, given up or not: one of this CPU's own that will not arrive,
   * or one to it when it is stopped. Its slot comes back, and whoever still waits for it learns that
   * the target is not online.
   */
  refuse(slot: number): void {
    const { memory } = this.#cpu
    const flags = requestFlags(memory, slot)
    if (stateOf(flags) === REQUEST_STATE.queued) {
      // As its target would; if the target is quicker, it is not ours to end.
      if (!transition(memory, slot, flags, REQUEST_STATE.running)) return
      const at = memory.slot(slot)
      memory.words[at + SLOT.status] = REQUEST_STATUS.offline
      memory.words[at + SLOT.payloadBytes] = 0
    } else if (stateOf(flags) !== REQUEST_STATE.cancelled) {
      return
    }
    this.#complete(slot)
  }

  /**
   * Runs a claimed request. With somebody waiting: function first, completion after it. Otherwise
   * completion first: the initiator may use the slot again while the function still runs.
   * `beforeAnswer` is called when the function has run, before the initiator can know it.
   */
  run(call: ClaimedCall, beforeAnswer?: () => void): void {
    this.#cpu.count(EVENT.callsServed)
    if (call.wait) this.#runAndAnswer(call, beforeAnswer)
    else this.#answerAndRun(call)
  }

  #drop(slot: number): void {
    const { words } = this.#cpu.memory
    const at = this.#cpu.memory.slot(slot)
    try {
      this.#values.drop(slot, words[at + SLOT.source]!, 'info', words[at + SLOT.ticket]!)
    } catch {
      // It went down with its sender: there is nothing left to drop.
    }
  }

  #runAndAnswer(call: ClaimedCall, beforeAnswer?: () => void): void {
    const { words } = this.#cpu.memory
    const at = this.#cpu.memory.slot(call.slot) + SLOT.status
    // What it means if the next step throws: the error's own code is the function's affair.
    let failure: number = REQUEST_STATUS.threw
    try {
      const result = this.#invoke(call)
      if (this.#cpu.isBuried) return
      failure = REQUEST_STATUS.asyncFunction
      refuseIfPromise(call, result)
      failure = REQUEST_STATUS.uncloneable
      words[at] = REQUEST_STATUS.returned
      this.#values.put(call.slot, call.source, 'result', call.ticket, result)
    } catch (error) {
      this.#answerError(call, failure, error)
    }
    beforeAnswer?.()
    this.#complete(call.slot)
  }

  #answerAndRun(call: ClaimedCall): void {
    const at = this.#cpu.memory.slot(call.slot)
    const { words } = this.#cpu.memory
    if (call.record === undefined || call.lost !== undefined) {
      this.#answerError(call, REQUEST_STATUS.threw, call.lost)
      return this.#complete(call.slot)
    }
    words[at + SLOT.payloadBytes] = 0
    words[at + SLOT.status] = REQUEST_STATUS.returned
    this.#complete(call.slot)
    try {
      refuseIfPromise(call, this.#invoke(call))
    } catch (error) {
      this.#onError(call.record.name, VECTOR.CALL_FUNCTION_VECTOR, error)
    }
  }

  #invoke(call: ClaimedCall): unknown {
    const { record } = call
    if (call.lost !== undefined) throw call.lost
    if (record === undefined) throw new IpiError('IPI_UNKNOWN_FUNCTION', 'no such function')
    const { words } = this.#cpu.memory
    const { page } = this.#cpu
    // For whoever waits too long: the function first, then the request that is in it.
    words[page + CPU.currentFunction] = record.id.low
    words[page + CPU.currentFunction + 1] = record.id.high
    words[page + CPU.currentRequest] = call.slot + 1
    const { checks } = this.#cpu
    checks?.enter(record.name, VECTOR.CALL_FUNCTION_VECTOR)
    try {
      const result = runSharedFunction(record.run, call.info)
      if (checks !== undefined && isThenable(result)) checks.onPromise()
      return result
    } finally {
      checks?.leave()
      words[page + CPU.currentRequest] = 0
    }
  }

  #answerError(call: ClaimedCall, failure: number, error: unknown): void {
    const { words } = this.#cpu.memory
    const at = this.#cpu.memory.slot(call.slot) + SLOT.status
    const { platform } = this.#cpu
    words[at] = call.record === undefined ? REQUEST_STATUS.unknownFunction : failure
    const description = describeError(error, (value) => platform.isCloneable(value))
    try {
      this.#values.put(call.slot, call.source, 'result', call.ticket, description)
    } catch {
      // The initiator's thread is gone, and its port with it: nobody will read this.
      this.#values.put(call.slot, call.source, 'result', call.ticket, undefined)
    }
  }

  /**
   * Marks a request done and tells its initiator. The status and the payload were written before:
   * the compare-and-swap publishes them to whoever loads `done` (kernel/call-book.ts, CallBook.finish).
   */
  #complete(slot: number): void {
    const { memory, descriptors } = this.#cpu
    const source = memory.words[memory.slot(slot) + SLOT.source]!
    for (;;) {
      const flags = requestFlags(memory, slot)
      const state = stateOf(flags)
      if (state !== REQUEST_STATE.running && state !== REQUEST_STATE.cancelled) return
      if (!transition(memory, slot, flags, REQUEST_STATE.done)) continue
      if ((flags & REQUEST_FLAG.notify) === 0) {
        // It spins on the flags, or sleeps after telling us so. Partner: Waits.#haltUnless.
        descriptors[source]!.ring()
      } else if (pushSlot(memory, memory.cpuPage(source) + CPU.completions, slot) === 'first') {
        descriptors[source]!.attend(ATTENTION.completion)
      }
      return
    }
  }
}

function refuseIfPromise({ record }: ClaimedCall, result: unknown): void {
  if (!isThenable(result)) return
  const functionName = record?.name ?? ''
  refusePromise(result, returnedPromise(functionName), { functionName })
}

/**
 * How values travel with a task: small plain ones in its slot, all others through the message port
 * between two CPUs, as kernel/values.ts has it for calls.
 */

import { Codec } from '../../base/codec.ts'
import { TASK_SLOT } from '../../hardware/layout.ts'
import { cpuOf, BY_PORT, TASK_PAYLOAD_BYTES, type TaskMemory } from './task.ts'
import type { Values } from '../values.ts'

const TRANSFER = Symbol.for('interprocessor.transfer.1')

/** What a task returns when its result is to be moved and not copied. Made by `moved`. */
export interface Moved<T> {
  readonly value: T
  readonly [TRANSFER]: readonly unknown[]
}

/** What a task's submitter gets, of what the task returned. */
export type TaskResult<T> = Awaited<T> extends Moved<infer U> ? U : Awaited<T>

/**
 * Wraps the result of a task, so that what `transfer` names of it (array buffers, message ports) is moved
 * to whoever submitted the task and not copied. For the `return` of a task; means nothing elsewhere.
 */
export function moved<T>(value: T, transfer: readonly unknown[]): Moved<T> {
  return { value, [TRANSFER]: transfer }
}

function isMoved(value: unknown): value is Moved<unknown> {
  return typeof value === 'object' && value !== null && TRANSFER in value
}

/** The values of tasks, on one CPU. Called with interrupts off. */
export class TaskValues {
  readonly #tasks: TaskMemory
  readonly #values: Values
  readonly #codec: Codec

  constructor(tasks: TaskMemory, values: Values) {
    this.#tasks = tasks
    this.#values = values
    this.#codec = new Codec(tasks.memory.bytes)
  }

  /** Writes a value into a task's slot; gives whether it fits there. */
  encode(task: number, value: unknown): boolean {
    const at = this.#tasks.at(task)
    const { words } = this.#tasks
    if (value === undefined) {
      words[at + TASK_SLOT.payloadBytes] = 0
      return true
    }
    const bytes = this.#codec.encode(value, (at + TASK_SLOT.payload) * 4, TASK_PAYLOAD_BYTES)
    words[at + TASK_SLOT.payloadBytes] = bytes
    return bytes !== BY_PORT
  }

  /** Posts an argument that does not fit to the one CPU that is to run the task. */
  sendInfo(task: number, peer: number, value: unknown, transfer: readonly unknown[]): void {
    const { words } = this.#tasks
    const at = this.#tasks.at(task)
    words[at + TASK_SLOT.payloadBytes] = BY_PORT
    this.#values.send(peer, 'taskInfo', words[at + TASK_SLOT.ticket]!, value, transfer)
  }

  /** Executor: takes the argument. Throws if it went down with its sender. */
  takeInfo(task: number): unknown {
    return this.#take(task, this.#tasks.sourceOf(task), 'taskInfo')
  }

  /** Executor: puts the result. Throws `IPI_UNCLONEABLE`, leaving nothing behind. */
  putResult(task: number, value: unknown): void {
    if (isMoved(value)) this.#sendResult(task, value.value, value[TRANSFER])
    else if (!this.encode(task, value)) this.#sendResult(task, value, [])
  }

  #sendResult(task: number, value: unknown, transfer: readonly unknown[]): void {
    const { words } = this.#tasks
    const at = this.#tasks.at(task)
    words[at + TASK_SLOT.payloadBytes] = BY_PORT
    const ticket = words[at + TASK_SLOT.ticket]!
    this.#values.send(this.#tasks.sourceOf(task), 'taskResult', ticket, value, transfer)
  }

  /** Executor: sends a report of its progress. Throws `IPI_UNCLONEABLE`. */
  sendReport(task: number, value: unknown): void {
    const ticket = this.#tasks.words[this.#tasks.at(task) + TASK_SLOT.ticket]!
    this.#values.send(this.#tasks.sourceOf(task), 'taskReport', ticket, value)
  }

  /** Submitter: takes the reports that a CPU has sent. */
  takeReports(peer: number, each: (ticket: number, value: unknown) => void): void {
    this.#values.takeProgress(peer, each)
  }

  /** Submitter: takes the result. Throws if it went down with its executor. */
  takeResult(task: number, flags: number): unknown {
    return this.#take(task, cpuOf(flags), 'taskResult')
  }

  #take(task: number, peer: number, half: 'taskInfo' | 'taskResult'): unknown {
    const at = this.#tasks.at(task)
    const { words } = this.#tasks
    const bytes = words[at + TASK_SLOT.payloadBytes]!
    if (bytes === 0) return undefined
    if (bytes !== BY_PORT) return this.#codec.decode((at + TASK_SLOT.payload) * 4)
    return this.#values.receive(peer, half, words[at + TASK_SLOT.ticket]!)
  }
}

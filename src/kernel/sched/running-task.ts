/** A task as the function that it runs sees it: its signal, its safepoint, its progress. */

import { IpiError } from '../../base/errors.ts'
import { TASK_SLOT } from '../../hardware/layout.ts'
import { load, or } from '../../hardware/memory.ts'
import type { AbortController, Platform } from '../../hardware/platform.ts'
import { PRIORITIES, TASK_CONTROL, type Priority, type TaskMemory } from './task.ts'

/** Sends a report of a task to its submitter. */
export type SendReport = (task: number, value: unknown) => void

/** The task that runs. Belongs to its thread; `thisTask()` gives it. */
export class RunningTask {
  readonly #tasks: TaskMemory
  readonly #platform: Platform
  readonly #send: SendReport
  readonly #at: number
  readonly #task: number
  /** How urgent it is. */
  readonly priority: Priority
  #controller: AbortController | undefined
  #isOver = false
  #wasCancelled = false

  /** @internal */
  constructor(
    tasks: TaskMemory,
    platform: Platform,
    task: number,
    level: number,
    send: SendReport,
  ) {
    this.#tasks = tasks
    this.#platform = platform
    this.#send = send
    this.#task = task
    this.#at = tasks.at(task)
    this.priority = PRIORITIES[level]!
    // It knows of its end, so it is given time for it.
    or(tasks.words, this.#at + TASK_SLOT.control, TASK_CONTROL.cooperative)
  }

  /** Whether somebody wants it to end. Read from shared memory: needs no event loop. */
  get aborted(): boolean {
    if (this.#isOver) return this.#wasCancelled
    const control = load(this.#tasks.words, this.#at + TASK_SLOT.control)
    return (control & TASK_CONTROL.cancel) !== 0
  }

  /** A safepoint that throws `IPI_ABORTED` if somebody wants the task to end. */
  throwIfAborted(): void {
    if (this.aborted) throw abortError()
  }

  /**
   * The environment's own AbortSignal: for `fetch` and the like. Its `aborted` may be read without the
   * event loop; its event comes by it.
   */
  get signal(): AbortController['signal'] {
    if (this.#controller !== undefined) return this.#controller.signal
    const controller = (this.#controller = this.#platform.createAbortController())
    Object.defineProperty(controller.signal, 'aborted', { get: () => this.aborted })
    Object.defineProperty(controller.signal, 'throwIfAborted', {
      value: () => this.throwIfAborted(),
    })
    this.heed()
    return controller.signal
  }

  /** Tells whoever has submitted the task how far it is. Any value that can be cloned. */
  report(value: unknown): void {
    if (!this.#isOver) this.#send(this.#task, value)
  }

  /** @internal Fires the signal, if it is time; listeners run in the next turn of the event loop. */
  heed(): void {
    const controller = this.#controller
    if (controller === undefined || !this.aborted) return
    this.#platform.defer(() => controller.abort(abortError()))
  }

  /** @internal It has ended: its slot has another life. */
  end(): void {
    this.#wasCancelled = this.aborted
    this.#isOver = true
  }
}

/** What a task is ended with. */
export function abortError(): IpiError {
  return new IpiError('IPI_ABORTED', 'the task shall end: whoever has submitted it has given it up')
}

/**
 * Cancelling tasks, by signal, by deadline, or because the pool closes: asked at first, then aborted by
 * the kernel, then with the thread. Each step has its deadline, and the error says which it was.
 */

import { CPU } from '../../hardware/layout.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import type { Machine } from '../../kernel/machine.ts'
import type { RunningAt } from '../../kernel/sched/task-control.ts'
import type { Task } from '../../kernel/sched/submission.ts'
import type { TaskBook } from '../../kernel/sched/task-book.ts'
import { TASK_CONTROL } from '../../kernel/sched/task.ts'
import { TaskCancelledError } from './failure.ts'
import { checkNumber, type CancelOptions, type RunOptions } from './options.ts'

const LOOK_MS = 0.2
const SOFT_MS = 100
const ABORT_MS = 2500

/** What a watch ends with whose deadline has passed. */
const DEADLINE = Symbol('deadline')

/** The cancellations of one pool. */
export class Cancellation {
  readonly #machine: Machine
  readonly #kernel: Kernel
  readonly #book: TaskBook
  readonly #lookMs: number
  readonly #softMs: number
  readonly #abortMs: number

  constructor(machine: Machine, book: TaskBook, options: CancelOptions = {}) {
    this.#machine = machine
    this.#kernel = machine.kernel
    this.#book = book
    this.#lookMs = checkNumber('cancel.lookMs', options.lookMs ?? LOOK_MS)
    this.#softMs = checkNumber('cancel.softMs', options.softMs ?? SOFT_MS)
    this.#abortMs = checkNumber('cancel.abortMs', options.abortMs ?? ABORT_MS)
  }

  /** From now on a task is cancelled by its signal, and when its time is over, if it has such. */
  watch(task: Task, { signal, timeoutMs = Infinity }: RunOptions): void {
    if (signal === undefined && timeoutMs === Infinity) return
    task.control |= TASK_CONTROL.abortable
    const { waits, cpu } = this.#kernel
    const at = cpu.platform.now() + timeoutMs
    task.watch = waits.suspend({ at, onTimeout: () => DEADLINE, signal })
    task.watch.promise.catch((reason: unknown) => this.cancel(task, reason, reason === DEADLINE))
  }

  /** Cancels a task; resolves when nothing of it is left to do. */
  async cancel(task: Task, reason: unknown, timedOut: boolean): Promise<void> {
    if (task.isOver || task.cancelled !== undefined) return
    task.cancelled = { reason, timedOut }
    if (this.#book.withdraw(task)) {
      task.owner.fail(task, new TaskCancelledError(task, 'queued'))
      return
    }
    const at = this.#book.askToEnd(task)
    if (at !== undefined && (at.isCooperative || (await this.#looks(task, at)))) {
      await this.#ended(task, this.#softMs)
    }
    if (!task.isOver && at !== undefined) await this.#abort(at)
    if (await this.#ended(task, this.#softMs)) return
    if (at !== undefined && !this.#hasLooked(at)) {
      // It began before anybody could know that it would have to be aborted, and its thread is stuck in it.
      await this.#replace(at.cpu)
      if (await this.#ended(task, this.#softMs)) return
    }
    // Asynchronous, and it goes on: others of its thread must not suffer for it.
    this.#book.abandon(task)
    task.owner.fail(task, new TaskCancelledError(task, 'abandoned'))
  }

  /** Whether a CPU comes to a safepoint: it takes the attention that it was asked for. */
  async #looks(task: Task, at: RunningAt): Promise<boolean> {
    const { platform } = this.#kernel.cpu
    const until = platform.now() + this.#lookMs
    for (;;) {
      if (task.isOver || this.#hasLooked(at)) return true
      if (platform.now() >= until) return false
      await new Promise<void>((resolve) => {
        platform.defer(resolve)
      })
    }
  }

  #hasLooked({ cpu }: RunningAt): boolean {
    return this.#kernel.cpu.memory.readCpu(cpu, CPU.attention) === 0
  }

  async #replace(cpu: number): Promise<void> {
    try {
      await this.#machine.replaceCpu(cpu, { timeoutMs: 0 })
    } catch (error) {
      this.#kernel.cpu.platform.publish('abort', { cpu, error })
    }
  }

  async #abort({ cpu, number }: RunningAt): Promise<void> {
    try {
      const outcome = await this.#machine.abortTask(cpu, number, { timeoutMs: this.#abortMs })
      // Something of the environment was interrupted half-way: that thread gets no more tasks.
      if (outcome === 'unsafe') await this.#machine.replaceCpu(cpu)
    } catch (error) {
      // It has died, or cannot be replaced: what becomes of the task is seen elsewhere.
      this.#kernel.cpu.platform.publish('abort', { cpu, error })
    }
  }

  /** Whether a task ends in time. */
  #ended(task: Task, timeoutMs: number): Promise<boolean> {
    return this.#kernel.waits
      .until(
        () => task.isOver,
        timeoutMs,
        () => undefined,
      )
      .then(
        () => true,
        () => task.isOver,
      )
  }
}

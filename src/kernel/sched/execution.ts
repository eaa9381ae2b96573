/**
 * Running one task: synchronous ones to their end, generators from yield to yield, asynchronous ones up
 * to their first await, and telling the submitter how it ended.
 */

import { isIpiError } from '../../base/errors.ts'
import { ATTENTION, CPU, TASK_SLOT } from '../../hardware/layout.ts'
import { isThenable } from '../idt.ts'
import type { Kernel } from '../kernel.ts'
import { describeError, runSharedFunction } from '../remote-error.ts'
import { RunningTask } from './running-task.ts'
import { pushTask } from './task-list.ts'
import type { TaskValues } from './task-values.ts'
import {
  cpuOf,
  movedTo,
  PRIORITIES,
  priorityOf,
  TASK_CONTROL,
  TASK_STATE,
  TASK_STATUS,
  taskState,
  type TaskMemory,
} from './task.ts'

/** Runs claimed tasks on one CPU. Its methods are called with interrupts off, tasks run with them on. */
export class Execution {
  readonly #kernel: Kernel
  readonly #tasks: TaskMemory
  readonly #values: TaskValues
  /** Generators that have yielded, by their tasks. */
  readonly #generators = new Map<number, Iterator<unknown>>()
  /** What has asked for itself, by its task. */
  readonly #running = new Map<number, RunningTask>()
  /** The tasks on the stack, the innermost last. */
  readonly #stack: number[] = []
  /** Asynchronous tasks that have begun and not ended, by priority, and of all. */
  readonly #begun: number[] = PRIORITIES.map(() => 0)
  #pending = 0
  /** A task waits until one of them has ended. */
  isHeldBack = false
  /** When the last task ended, on the platform's clock: the next begins then. */
  clock = 0
  /** A generator has yielded: it goes on when its turn comes. */
  onYield: (task: number, level: number) => void = () => undefined

  constructor(kernel: Kernel, tasks: TaskMemory, values: TaskValues) {
    this.#kernel = kernel
    this.#tasks = tasks
    this.#values = values
  }

  /** How many have begun here and are not on the stack: asynchronous ones, and those that have yielded. */
  get pending(): number {
    return this.#pending + this.#generators.size
  }

  /** How many of at least this priority have begun, and are neither ended nor on the stack. */
  begunFrom(priority: number): number {
    return this.#begun.reduce((sum, count, each) => (each < priority ? sum : sum + count), 0)
  }

  /** How many asynchronous tasks have begun and not ended. */
  get asyncCount(): number {
    return this.#pending
  }

  /** How many are on the stack. */
  get depth(): number {
    return this.#stack.length
  }

  /** The innermost task on the stack, or -1. */
  get top(): number {
    return this.#stack.at(-1) ?? -1
  }

  /** The task that runs, as it sees itself; undefined between tasks. */
  get current(): RunningTask | undefined {
    const task = this.top
    if (task < 0) return undefined
    let running = this.#running.get(task)
    if (running === undefined) {
      const { platform } = this.#kernel.cpu
      const level = priorityOf(this.#tasks.flags(task))
      const send = (id: number, value: unknown): void => this.#report(id, value)
      running = new RunningTask(this.#tasks, platform, task, level, send)
      this.#running.set(task, running)
    }
    return running
  }

  /** ATTENTION.tasks: somebody may want one of them to end. */
  heed(): void {
    for (const running of this.#running.values()) running.heed()
  }

  /** Runs a claimed task, or goes on with one that has yielded. */
  run(task: number): void {
    const generator = this.#generators.get(task)
    if (generator !== undefined) return this.#step(task, generator)
    const tasks = this.#tasks
    const { functions, cpu } = this.#kernel
    const { words } = tasks
    const at = tasks.at(task)
    const low = words[at + TASK_SLOT.function]!
    const high = words[at + TASK_SLOT.function + 1]!
    tasks.times[(at + TASK_SLOT.times) / 2 + 1] = this.clock
    if (this.#isCancelled(task)) return this.complete(task, TASK_STATUS.cancelled, undefined)
    const record = functions.find(low, high)
    if (record === undefined) return this.complete(task, TASK_STATUS.unknownFunction, undefined)
    let info: unknown
    try {
      info = this.#values.takeInfo(task)
    } catch (error) {
      return this.complete(task, TASK_STATUS.lost, error)
    }
    words[cpu.page + CPU.currentFunction] = low
    words[cpu.page + CPU.currentFunction + 1] = high
    this.#call(task, record.run, info)
  }

  /** Interrupts are on while it runs. */
  #call(task: number, run: (info: unknown) => unknown, info: unknown): void {
    const { cpu } = this.#kernel
    let result: unknown
    let status: number = TASK_STATUS.returned
    this.#stack.push(task)
    cpu.localIrqEnable()
    if (cpu.core.isRetired) return this.#giveBack(task)
    try {
      result = runSharedFunction(run, info)
    } catch (error) {
      status = TASK_STATUS.threw
      result = error
    }
    cpu.localIrqDisable()
    this.#stack.pop()
    this.clock = cpu.platform.now()
    if (typeof result !== 'object' || status !== TASK_STATUS.returned) {
      this.complete(task, status, result)
    } else if (isThenable(result)) this.#await(task, result)
    else if (isGenerator(result)) this.#step(task, result)
    else if (isAsyncGenerator(result)) this.#await(task, drain(result))
    else this.complete(task, status, result)
  }

  /** This CPU has left at the last moment: whoever has submitted the task finds it in a closed queue. */
  #giveBack(task: number): void {
    this.#stack.pop()
    const flags = this.#tasks.flags(task)
    if (taskState(flags) !== TASK_STATE.running) return
    this.#tasks.change(task, flags, movedTo(flags, TASK_STATE.queued, cpuOf(flags)))
  }

  /** An asynchronous task goes on by its event loop, among others. */
  #await(task: number, result: PromiseLike<unknown>): void {
    this.#pending++
    this.#begun[priorityOf(this.#tasks.flags(task))]!++
    result.then(
      (value) => this.#settle(task, TASK_STATUS.returned, value),
      (error: unknown) => this.#settle(task, TASK_STATUS.threw, error),
    )
  }

  #settle(task: number, status: number, value: unknown): void {
    const { cpu } = this.#kernel
    this.#pending--
    this.#begun[priorityOf(this.#tasks.flags(task))]!--
    const flags = cpu.localIrqSave()
    this.clock = cpu.platform.now()
    this.complete(task, status, value)
    cpu.localIrqRestore(flags)
    if (!this.isHeldBack) return
    this.isHeldBack = false
    this.#kernel.rescheduler.kick(cpu.id)
    this.#kernel.idle.leave()
  }

  /** A generator goes on to its next yield, or is led to its end if it shall end. */
  #step(task: number, generator: Iterator<unknown>): void {
    const { cpu } = this.#kernel
    const mustEnd = this.#isCancelled(task)
    let step: IteratorResult<unknown> | undefined
    let error: unknown
    this.#stack.push(task)
    cpu.localIrqEnable()
    try {
      step = mustEnd ? generator.return?.() : generator.next()
    } catch (thrown) {
      error = thrown
    }
    cpu.localIrqDisable()
    this.#stack.pop()
    this.clock = cpu.platform.now()
    if (step !== undefined && step.done !== true) {
      this.#generators.set(task, generator)
      this.onYield(task, priorityOf(this.#tasks.flags(task)))
      return
    }
    this.#generators.delete(task)
    if (step === undefined) this.complete(task, TASK_STATUS.threw, error)
    else if (mustEnd) this.complete(task, TASK_STATUS.cancelled, undefined)
    else this.complete(task, TASK_STATUS.returned, step.value)
  }

  #isCancelled(task: number): boolean {
    const control = this.#tasks.words[this.#tasks.at(task) + TASK_SLOT.control]!
    return (control & TASK_CONTROL.cancel) !== 0
  }

  /** The innermost task was aborted in front of everything that it had on the stack; gives which. */
  aborted(depth: number, isSafe: boolean): void {
    const task = this.#stack[depth]
    this.#stack.length = depth
    if (task === undefined) return
    this.clock = this.#kernel.cpu.platform.now()
    this.#generators.delete(task)
    this.complete(task, isSafe ? TASK_STATUS.aborted : TASK_STATUS.unsafe, undefined)
  }

  /**
   * Writes how a task ended, and tells its submitter. The status and the payload were written before: the
   * compare-and-swap publishes them to whoever loads `done` (TaskBook.takeCompletions).
   */
  complete(task: number, status: number, value: unknown): void {
    const tasks = this.#tasks
    if (this.#kernel.cpu.isBuried) return
    if (this.#running.size > 0) this.#endRunning(task)
    const at = tasks.at(task)
    tasks.times[(at + TASK_SLOT.times) / 2 + 2] = this.clock
    const ended =
      status === TASK_STATUS.threw && isAborted(value) && this.#isCancelled(task)
        ? TASK_STATUS.cancelled
        : status
    this.#answer(task, at, ended, value)
    for (;;) {
      const flags = tasks.flags(task)
      // Buried by mistake, or by another of this thread's last acts.
      if (taskState(flags) !== TASK_STATE.running || cpuOf(flags) !== this.#kernel.cpu.id) return
      if (tasks.change(task, flags, movedTo(flags, TASK_STATE.done, cpuOf(flags)))) break
    }
    this.announce(task)
  }

  #endRunning(task: number): void {
    this.#running.get(task)?.end()
    this.#running.delete(task)
  }

  #answer(task: number, at: number, status: number, value: unknown): void {
    const { words } = this.#tasks
    words[at + TASK_SLOT.status] = status
    if (status === TASK_STATUS.returned) {
      try {
        return this.#values.putResult(task, value)
      } catch (error) {
        words[at + TASK_SLOT.status] = TASK_STATUS.uncloneable
        value = error
      }
    }
    const { platform } = this.#kernel.cpu
    const description =
      value === undefined && status !== TASK_STATUS.threw
        ? undefined
        : describeError(value, (field) => platform.isCloneable(field))
    try {
      this.#values.putResult(task, description)
    } catch {
      // The submitter's thread is gone, and its port with it: nobody will read this.
      this.#values.putResult(task, undefined)
    }
  }

  #report(task: number, value: unknown): void {
    const { cpu } = this.#kernel
    const flags = cpu.localIrqSave()
    try {
      this.#values.sendReport(task, value)
      cpu.descriptors[this.#tasks.sourceOf(task)]!.attend(ATTENTION.tasks)
    } finally {
      cpu.localIrqRestore(flags)
    }
  }

  /** A task that was given up before anybody had begun it: its slot goes home. */
  drop(task: number): void {
    try {
      this.#values.takeInfo(task)
    } catch {
      // It went down with its sender, or was for another: there is nothing left to drop.
    }
    this.announce(task)
  }

  /** The first on the list tells its owner; whoever finds one on it relies on that. */
  announce(task: number): void {
    const source = this.#tasks.sourceOf(task)
    if (pushTask(this.#tasks, source, task) !== 'first') return
    this.#kernel.cpu.descriptors[source]!.attend(ATTENTION.tasks)
  }
}

function isAborted(error: unknown): boolean {
  return isIpiError(error) && error.code === 'IPI_ABORTED'
}

/** By what a generator object says of itself: an iterator that is none has another name, or none. */
function isGenerator(value: unknown): value is Iterator<unknown> {
  return tagOf(value) === 'Generator'
}

function isAsyncGenerator(value: unknown): value is AsyncIterator<unknown, unknown> {
  return tagOf(value) === 'AsyncGenerator'
}

function tagOf(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return undefined
  return (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag]
}

/** Runs an asynchronous generator to its end: each of its yields is a turn of the event loop. */
async function drain(generator: AsyncIterator<unknown, unknown>): Promise<unknown> {
  for (;;) {
    const step = await generator.next()
    if (step.done === true) return step.value
  }
}

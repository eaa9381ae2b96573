/**
 * A pool of the machine's CPUs: tasks with results, the urgent before the others. What it hands over,
 * the schedulers of the CPUs run (kernel/sched/); here is what people hold.
 */

import { Bag } from '../base/bag.ts'
import type { CpuMask } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { Events } from '../base/events.ts'
import { CPU, HEADER, SCHED } from '../hardware/layout.ts'
import { store } from '../hardware/memory.ts'
import type { Callable } from '../kernel/call.ts'
import { describe, type Kernel } from '../kernel/kernel.ts'
import type { Machine } from '../kernel/machine.ts'
import { BOOT_CPU } from '../kernel/protocol.ts'
import { CALL_MODULE, OPEN_RUN_QUEUE } from '../kernel/sched.ts'
import { Task, TaskLine, type TaskOwner } from '../kernel/sched/submission.ts'
import { TaskBook } from '../kernel/sched/task-book.ts'
import type { TaskResult } from '../kernel/sched/task-values.ts'
import { PRIORITIES, TASK_CONTROL, TASK_STATUS } from '../kernel/sched/task.ts'
import { Cancellation } from './pool/cancellation.ts'
import {
  closedError,
  diedError,
  fullError,
  rebuildTaskError,
  TaskCancelledError,
  TaskFailure,
} from './pool/failure.ts'
import { PoolHistogram } from './pool/histogram.ts'
import { pooledModule, type PooledModule } from './pool/module.ts'
import {
  checkAffinity,
  checkConcurrency,
  checkCpus,
  checkNumber,
  checkPriority,
  type CloseOptions,
  type PoolEvents,
  type PoolOptions,
  type PoolStats,
  type RunOptions,
} from './pool/options.ts'
import { onAll, resizeTo, Warmth } from './pool/cpus.ts'

/** For `run` without options: not a list of its own for each task. */
const NOTHING: readonly unknown[] = []
const NORMAL = PRIORITIES.indexOf('normal')
const REALTIME = PRIORITIES.indexOf('realtime')
/** How long CPUs have to open their run queues. */
const OPEN_MS = 10_000
const CLOSE_MS = 30_000

// One function for all promises: a closure for each would cost more than the rest of a submission.
let resolveLast: (value: unknown) => void
let rejectLast: (error: unknown) => void
const capture = (resolve: (value: unknown) => void, reject: (error: unknown) => void): void => {
  resolveLast = resolve
  rejectLast = reject
}

/**
 * Makes a pool of the CPUs of a machine. Several pools of a machine, and of several of its threads, share
 * the CPUs. Throws `IPI_INVALID_ARGUMENT`, `IPI_INVALID_CPU`.
 */
export function createPool(machine: Machine, options: PoolOptions = {}): Pool {
  return new Pool(machine, options)
}

/** A pool, as one thread holds it. */
export class Pool implements TaskOwner {
  readonly #machine: Machine
  readonly #kernel: Kernel
  readonly #book: TaskBook
  readonly #mask: CpuMask | undefined
  readonly #maxQueue: number
  readonly #waitsWhenFull: boolean
  /** How many may have begun on a CPU at once; 0: any number. */
  readonly #limit: number
  readonly #recordTiming: boolean
  readonly #cancellation: Cancellation
  readonly #warmth: Warmth
  readonly #events: Events<PoolEvents>
  /** All that are submitted and have not ended. */
  readonly #open = new Bag<Task>()
  /** Those that wait for a place among those that wait. */
  readonly #gate = new TaskLine()
  #completed = 0
  #failed = 0
  #wasFull = false
  #closing: Promise<void> | undefined
  #onIdle: (() => void) | undefined
  /** How long tasks waited, and ran. */
  readonly histogram: PoolHistogram = new PoolHistogram()
  /** Resolves when every CPU of the pool that was online at its making takes tasks. */
  readonly ready: Promise<void>

  /** @internal */
  constructor(machine: Machine, options: PoolOptions) {
    const { kernel } = machine
    this.#machine = machine
    this.#kernel = kernel
    this.#mask = options.cpus === undefined ? undefined : checkCpus(kernel, options.cpus)
    this.#maxQueue = checkNumber('maxQueue', options.maxQueue ?? Infinity)
    this.#limit = checkConcurrency(options.concurrency)
    this.#waitsWhenFull = options.whenFull === 'wait'
    this.#recordTiming = options.recordTiming !== false
    this.#events = new Events((event, error) =>
      kernel.cpu.platform.warn(
        `interprocessor: a listener of "${event}" threw: ${describe(error)}`,
      ),
    )
    kernel.sched.book ??= new TaskBook(kernel)
    this.#book = kernel.sched.book
    kernel.sched.look()
    this.#cancellation = new Cancellation(machine, this.#book, options.cancel)
    this.#warmth = new Warmth(machine, options)
    store(kernel.cpu.memory.words, HEADER.schedulerWanted, 1)
    this.ready = this.#begin()
    // Whoever awaits it hears of the error.
    this.ready.catch(() => undefined)
  }

  async #begin(): Promise<void> {
    await this.#warmth.begin()
    await this.#openQueues()
  }

  /** Has the CPUs of the pool open their run queues. */
  async #openQueues(): Promise<void> {
    const { cpu, sched, waits } = this.#kernel
    const closed = (): number[] =>
      this.#wanted().filter((id) => !this.#isOpen(id) && cpu.isOnline(id))
    const others = closed().filter((id) => id !== cpu.id)
    if (closed().includes(cpu.id)) sched.open()
    if (others.length > 0) await this.#machine.smpCallFunctionMany(others, OPEN_RUN_QUEUE)
    await waits.until(
      () => closed().length === 0,
      OPEN_MS,
      () => new IpiError('IPI_TIMEOUT', `CPU ${closed().join(', ')} did not open its run queue`),
    )
  }

  #wanted(): number[] {
    return [...this.#machine.onlineMask].filter((id) => this.#mask?.has(id) ?? id !== BOOT_CPU)
  }

  #isOpen(cpu: number): boolean {
    return this.#kernel.cpu.memory.readCpu(cpu, CPU.schedState) !== SCHED.closed
  }

  /**
   * Runs a shared function on one of the pool's CPUs; resolves with what it returned, or what its promise
   * gave. Rejects with what it threw, with a `TaskCancelledError` (`IPI_ABORTED`, `IPI_TIMEOUT`), and with
   * `IPI_UNKNOWN_FUNCTION`, `IPI_UNCLONEABLE`, `IPI_CPU_DIED`, `IPI_NO_CPU`, `IPI_QUEUE_FULL`,
   * `IPI_POOL_CLOSED`, `IPI_INVALID_ARGUMENT`, `IPI_INVALID_CPU`.
   */
  run<Info, Result>(
    fn: Callable<Info, Result>,
    info?: Info,
    options?: RunOptions,
  ): Promise<TaskResult<Result>> {
    let task: Task
    try {
      if (this.#closing !== undefined) throw closedError()
      task = this.#makeTask(fn, info, options)
      if (this.#maxQueue !== Infinity && !this.#waitsWhenFull && this.#isFull()) {
        throw fullError(this.#maxQueue)
      }
    } catch (error) {
      return Promise.reject(error)
    }
    const promise = new Promise(capture)
    task.resolve = resolveLast
    task.reject = rejectLast
    this.#submit(task, options)
    // The error is made anew in a job of the caller's promise, so that its stack has the caller's frames.
    return promise.then(undefined, rebuildTaskError) as Promise<TaskResult<Result>>
  }

  #makeTask(fn: unknown, info: unknown, options: RunOptions | undefined): Task {
    const record = this.#kernel.functions.resolve(fn)
    if (options === undefined) return new Task(this, record, info, NORMAL, this.#mask, NOTHING)
    const { priority = 'normal', transfer = NOTHING, timeoutMs } = options
    if (timeoutMs !== undefined) checkNumber('timeoutMs', timeoutMs)
    const level = checkPriority(priority)
    const task = new Task(
      this,
      record,
      info,
      level,
      checkAffinity(this.#kernel, this.#mask, options),
      transfer,
    )
    const { onReport } = options
    if (onReport !== undefined || this.#events.has('message')) {
      task.onReport = (value) => {
        this.#kernel.cpu.platform.defer(() => {
          onReport?.(value)
          this.#events.emit('message', value)
        })
      }
    }
    return task
  }

  #submit(task: Task, options: RunOptions | undefined): void {
    const mustWait = this.#maxQueue !== Infinity && (!this.#gate.isEmpty || this.#isFull())
    this.#open.add(task)
    task.control = this.#limit << TASK_CONTROL.limitShift
    if (options !== undefined) this.#cancellation.watch(task, options)
    if (task.isOver) return
    if (mustWait) {
      task.isHeld = true
      this.#gate.push(task)
      return
    }
    this.#book.submit(task)
    if (options !== undefined) this.#press(task, options)
  }

  /** What is urgent and safe is not kept waiting by a task without safepoints. */
  #press(task: Task, { forceAfterMs }: RunOptions): void {
    const afterMs = forceAfterMs ?? (task.priority === REALTIME ? 1 : Infinity)
    if (afterMs === Infinity || !task.record.interruptSafe || task.isOver) return
    const late = (): number[] => (this.#book.isWaiting(task) && task.cpu >= 0 ? [task.cpu] : [])
    task.overdue = this.#kernel.escalation.watch(late, afterMs)
  }

  /** How many tasks nobody has begun, with or without those that wait for a place. */
  #queued(held: boolean): number {
    let queued = 0
    for (const task of this.#open) {
      if (task.isHeld ? held : this.#book.isWaiting(task)) queued++
    }
    return queued
  }

  #isFull(): boolean {
    // Few are open: then few wait, and nobody need count them.
    const isFull = this.#open.size >= this.#maxQueue && this.#queued(false) >= this.#maxQueue
    this.#wasFull ||= isFull
    return isFull
  }

  /** Whether as many tasks wait as may: `drain` is told when none does. */
  get needsDrain(): boolean {
    return this.#maxQueue !== Infinity && this.#isFull()
  }

  /** @internal */
  settle(task: Task, value: unknown): void {
    if (this.#recordTiming) {
      this.histogram.record(task.startedAt - task.submittedAt, task.endedAt - task.startedAt)
    }
    if (task.status === TASK_STATUS.returned) {
      task.resolve(value)
      this.#ended(task)
    } else {
      this.fail(task, new TaskFailure(task, this.#kernel.cpu.id, value))
    }
  }

  /** @internal */
  fail(task: Task, error: unknown): void {
    this.#failed++
    task.reject(error)
    this.#ended(task)
    if (this.#events.has('error')) {
      const told = error instanceof TaskFailure ? error.rebuild() : error
      this.#kernel.cpu.platform.defer(() => this.#events.emit('error', told))
    }
  }

  /** @internal */
  died(task: Task, cpu: number): void {
    this.fail(
      task,
      task.cancelled === undefined
        ? diedError(task, cpu)
        : new TaskCancelledError(task, 'replaced'),
    )
  }

  #ended(task: Task): void {
    this.#completed++
    this.#open.delete(task)
    while (!this.#gate.isEmpty && !this.#isFull()) {
      const held = this.#gate.shift()!
      held.isHeld = false
      this.#book.submit(held)
    }
    if (this.#wasFull && this.#gate.isEmpty && this.#queued(true) === 0) {
      this.#wasFull = false
      this.#kernel.cpu.platform.defer(() => this.#events.emit('drain', undefined))
    }
    if (this.#open.size === 0) this.#onIdle?.()
  }

  /**
   * Runs a shared function as a task on every CPU that takes tasks of the pool; resolves with what each
   * returned, by CPU. Rejects with `IPI_CALL_FAILED`, the others' results in it, and `IPI_NO_CPU`.
   */
  async runOnAll<Info, Result>(
    fn: Callable<Info, Result>,
    info?: Info,
    options?: RunOptions,
  ): Promise<Map<number, TaskResult<Result>>> {
    await this.ready
    // One that has just come up may not have opened its own yet.
    await this.#openQueues()
    const cpus = this.#wanted().filter((cpu) => this.#isOpen(cpu))
    const name = typeof fn === 'string' ? fn : fn.sharedName
    return onAll(name, cpus, (cpu) => this.run(fn, info, { ...options, cpu }))
  }

  /**
   * The functions that a module exports, each run as a task: `pool.module<typeof import('./tasks.js')>(new
   * URL('./tasks.js', import.meta.url))`. Each CPU imports it when it is first asked.
   */
  module<Exports>(url: URL | string): PooledModule<Exports> {
    return pooledModule<Exports>(String(url), (call, options) =>
      this.run<unknown, unknown>(CALL_MODULE, call, options),
    )
  }

  /**
   * Brings CPUs up, or takes them down, until so many take tasks of the pool. One that is taken down ends
   * what it has begun first, within `timeoutMs` (default 30,000). CPU 0 only. Rejects as `cpuUp` and
   * `cpuDown` do.
   */
  async resize(count: number, { timeoutMs = CLOSE_MS }: CloseOptions = {}): Promise<void> {
    checkNumber('count', count, 1)
    await this.ready
    const wanted = (): number[] => this.#wanted()
    await resizeTo(this.#machine, count, { wanted, mask: this.#mask, timeoutMs })
    await this.#openQueues()
  }

  /** What the pool does now. */
  get stats(): PoolStats {
    return {
      open: this.#open.size,
      queued: this.#queued(true),
      completed: this.#completed,
      failed: this.#failed,
      cpus: this.#wanted().filter((cpu) => this.#isOpen(cpu)),
    }
  }

  /** Calls `listener` at every `event`. */
  on<E extends keyof PoolEvents>(event: E, listener: (details: PoolEvents[E]) => void): this {
    this.#events.on(event, listener)
    return this
  }

  /** Undoes `on`. */
  off<E extends keyof PoolEvents>(event: E, listener: (details: PoolEvents[E]) => void): this {
    this.#events.off(event, listener)
    return this
  }

  /**
   * Takes no more tasks, and lets those end that there are; after `timeoutMs` they are cancelled. The CPUs
   * stay: they are the machine's. Idempotent.
   */
  close({ timeoutMs = CLOSE_MS }: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close(timeoutMs)
    return this.#closing
  }

  async #close(timeoutMs: number): Promise<void> {
    checkNumber('timeoutMs', timeoutMs)
    const { platform } = this.#kernel.cpu
    await new Promise<void>((resolve) => {
      const timer = platform.startTimer(timeoutMs, () => this.#cancelAll())
      this.#onIdle = () => {
        timer.cancel()
        resolve()
      }
      if (timeoutMs === 0) this.#cancelAll()
      if (this.#open.size === 0) this.#onIdle()
    })
    await this.#warmth.end()
    this.#events.emit('close', undefined)
  }

  #cancelAll(): void {
    for (const task of this.#open) {
      void this.#cancellation.cancel(task, closedError(), false)
    }
  }

  /** `await using pool = createPool(machine)`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

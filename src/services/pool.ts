/**
 * A pool of the machine's CPUs: tasks with results, the urgent before the others. What it hands over,
 * the schedulers of the CPUs run (kernel/sched/); here is what people hold.
 */

import { CpuMask, type CpuSet } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { CPU, HEADER, SCHED } from '../hardware/layout.ts'
import { store } from '../hardware/memory.ts'
import type { Callable } from '../kernel/call.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { Machine } from '../kernel/machine.ts'
import { BOOT_CPU } from '../kernel/protocol.ts'
import { OPEN_RUN_QUEUE } from '../kernel/sched.ts'
import { Task, type TaskOwner } from '../kernel/sched/submission.ts'
import { TaskBook } from '../kernel/sched/task-book.ts'
import type { TaskResult } from '../kernel/sched/task-values.ts'
import { PRIORITIES, TASK_STATUS, type Priority } from '../kernel/sched/task.ts'
import { rebuildTaskError, TaskFailure } from './pool/failure.ts'

/** How a pool is made. */
export interface PoolOptions {
  /** The CPUs that run its tasks. Default: all that are online, now and later, but CPU 0. */
  readonly cpus?: CpuSet
}

/** How one task is run. */
export interface RunOptions {
  /** Default `normal`. What is more urgent overtakes; what is as urgent comes in order. */
  readonly priority?: Priority
  /** The one CPU that may run it. */
  readonly cpu?: number
  /** The CPUs that may run it. Default: those of the pool. */
  readonly affinity?: CpuSet
  /** What of the argument is moved to the other thread and not copied. */
  readonly transfer?: readonly unknown[]
}

/** For `run` without options: not a list of its own for each task. */
const NOTHING: readonly unknown[] = []
const NORMAL = PRIORITIES.indexOf('normal')

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
  readonly #kernel: Kernel
  readonly #book: TaskBook
  readonly #mask: CpuMask | undefined
  /** Resolves when every CPU of the pool that was online at its making takes tasks. */
  readonly ready: Promise<void>

  /** @internal */
  constructor(machine: Machine, options: PoolOptions) {
    const { kernel } = machine
    this.#kernel = kernel
    this.#mask = options.cpus === undefined ? undefined : checkCpus(kernel, options.cpus)
    kernel.sched.book ??= new TaskBook(kernel)
    this.#book = kernel.sched.book
    kernel.sched.look()
    store(kernel.cpu.memory.words, HEADER.schedulerWanted, 1)
    this.ready = this.#open(machine)
    // Whoever awaits it hears of the error.
    this.ready.catch(() => undefined)
  }

  /** Has the CPUs of the pool open their run queues. */
  async #open(machine: Machine): Promise<void> {
    const { cpu, sched, waits } = this.#kernel
    const { memory } = cpu
    const wanted = [...machine.onlineMask].filter((id) => this.#mask?.has(id) ?? id !== BOOT_CPU)
    const closed = (): number[] =>
      wanted.filter((id) => memory.readCpu(id, CPU.schedState) === SCHED.closed && cpu.isOnline(id))
    const others = closed().filter((id) => id !== cpu.id)
    if (closed().includes(cpu.id)) sched.open()
    if (others.length > 0) await machine.smpCallFunctionMany(others, OPEN_RUN_QUEUE)
    await waits.until(
      () => closed().length === 0,
      10_000,
      () => new IpiError('IPI_TIMEOUT', `CPU ${closed().join(', ')} did not open its run queue`),
    )
  }

  /**
   * Runs a shared function on one of the pool's CPUs; resolves with what it returned, or what its promise
   * gave. Rejects with what it threw, and with `IPI_UNKNOWN_FUNCTION`, `IPI_UNCLONEABLE`,
   * `IPI_CPU_DIED`, `IPI_NO_CPU`, `IPI_INVALID_ARGUMENT`.
   */
  run<Info, Result>(
    fn: Callable<Info, Result>,
    info?: Info,
    options?: RunOptions,
  ): Promise<TaskResult<Result>> {
    let task: Task
    try {
      task = this.#makeTask(fn, info, options)
    } catch (error) {
      return Promise.reject(error)
    }
    const promise = new Promise(capture)
    task.resolve = resolveLast
    task.reject = rejectLast
    this.#book.submit(task)
    // The error is made anew in a job of the caller's promise, so that its stack has the caller's frames.
    return promise.then(undefined, rebuildTaskError) as Promise<TaskResult<Result>>
  }

  #makeTask(fn: unknown, info: unknown, options: RunOptions | undefined): Task {
    const record = this.#kernel.functions.resolve(fn)
    if (options === undefined) return new Task(this, record, info, NORMAL, this.#mask, NOTHING)
    const { priority = 'normal', transfer = NOTHING } = options
    const level = PRIORITIES.indexOf(priority)
    if (level < 0) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        `priority is one of ${PRIORITIES.join(', ')}, got ${String(priority)}`,
      )
    }
    return new Task(this, record, info, level, this.#maskOf(options), transfer)
  }

  #maskOf({ cpu, affinity }: RunOptions): CpuMask | undefined {
    if (cpu !== undefined) return checkCpus(this.#kernel, [cpu])
    if (affinity !== undefined) return checkCpus(this.#kernel, affinity)
    return this.#mask
  }

  /** @internal */
  settle(task: Task, value: unknown): void {
    if (task.status === TASK_STATUS.returned) task.resolve(value)
    else task.reject(new TaskFailure(task, this.#kernel.cpu.id, value))
  }

  /** @internal */
  fail(task: Task, error: unknown): void {
    task.reject(error)
  }

  /** @internal */
  died(task: Task, cpu: number): void {
    task.reject(
      new IpiError(
        'IPI_CPU_DIED',
        `the thread of CPU ${cpu} ended while it ran "${task.record.name}"`,
        { cpu, functionName: task.record.name },
      ),
    )
  }
}

function checkCpus({ cpu }: Kernel, cpus: CpuSet): CpuMask {
  const mask = CpuMask.from(cpus)
  const { cpuCount } = cpu.memory
  for (const id of mask) {
    if (id < cpuCount) continue
    throw new IpiError(
      'IPI_INVALID_CPU',
      `this machine has no CPU ${id}: its CPUs are 0 to ${cpuCount - 1}`,
      { cpu: id },
    )
  }
  if (!mask.isEmpty) return mask
  throw new IpiError('IPI_INVALID_ARGUMENT', 'a set of CPUs that is empty can run nothing')
}

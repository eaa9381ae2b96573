/** What a pool and a task can be told, and what is wrong with bad options. */

import { CpuMask, type CpuSet } from '../../base/cpu-mask.ts'
import { IpiError } from '../../base/errors.ts'
import type { SharedFunction } from '../../kernel/functions.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { BOOT_CPU } from '../../kernel/protocol.ts'
import { PRIORITIES, type Priority } from '../../kernel/sched/task.ts'
import type { AbortSignalLike } from '../../kernel/suspended-wait.ts'

/** How long a task that is cancelled has for each step. */
export interface CancelOptions {
  /** How long a task has to come to a safepoint, in milliseconds. Default 0.2. One that polls does. */
  readonly lookMs?: number
  /**
   * How long a task has then to end by itself, in milliseconds, if it has come to one, has asked for itself
   * (`thisTask`), or is asynchronous. Default 100. Others are aborted at once.
   */
  readonly softMs?: number
  /** How long the abort has then, before the thread is replaced, in milliseconds. Default 2,500. */
  readonly abortMs?: number
}

/** How a pool is made. */
export interface PoolOptions {
  /** The CPUs that run its tasks. Default: all that are online, now and later, but CPU 0. */
  readonly cpus?: CpuSet
  /** How many of its tasks may wait to be begun. Default Infinity. */
  readonly maxQueue?: number
  /** What becomes of a task when so many wait: `reject`, with `IPI_QUEUE_FULL`, or it waits for a place. */
  readonly whenFull?: 'reject' | 'wait'
  /**
   * How many asynchronous tasks of the pool may have begun on one CPU and not ended. More urgent ones do
   * not wait for less urgent ones. Default Infinity.
   */
  readonly concurrency?: number
  /** Runs on each of the machine's CPUs, also on those that come later, before their first task. */
  readonly warmUp?: SharedFunction<never> | string
  /** Runs on each CPU that leaves, and on all when the pool closes. */
  readonly teardown?: SharedFunction<never> | string
  /** How tasks are cancelled. */
  readonly cancel?: CancelOptions
  /** Whether wait and run times are recorded. Default true. */
  readonly recordTiming?: boolean
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
  /** Cancels it. */
  readonly signal?: AbortSignalLike
  /** Cancels it when so many milliseconds have passed since its submission. Default Infinity. */
  readonly timeoutMs?: number
  /** Called with what it reports (`thisTask().report`). */
  readonly onReport?: (value: unknown) => void
  /**
   * After how many milliseconds a CPU that does not come to the task is entered by force, if the task is
   * more urgent than what runs there and its function is declared interrupt-safe. Default 1 for
   * `realtime`, else Infinity.
   */
  readonly forceAfterMs?: number
}

/** How a pool closes. */
export interface CloseOptions {
  /** How long tasks have to end before they are cancelled, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number
}

/** What a pool tells those who listen. */
export interface PoolEvents {
  /** Nothing waits any more; told once after `needsDrain` was true. */
  drain: undefined
  /** A task reports of itself. */
  message: unknown
  /** A task has failed, and its promise is rejected with this. */
  error: unknown
  /** The pool takes no more tasks, and all have ended. */
  close: undefined
}

/** What a pool does now. */
export interface PoolStats {
  /** Tasks that were submitted and have not ended. */
  readonly open: number
  /** Those of them that nobody has begun. */
  readonly queued: number
  /** Tasks that have ended, well or not. */
  readonly completed: number
  /** Those of them that have failed, cancelled ones too. */
  readonly failed: number
  /** CPUs that take its tasks now. */
  readonly cpus: readonly number[]
}

/** The number of a priority. Throws `IPI_INVALID_ARGUMENT`. */
export function checkPriority(priority: Priority): number {
  const level = PRIORITIES.indexOf(priority)
  if (level >= 0) return level
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `priority is one of ${PRIORITIES.join(', ')}, got ${String(priority)}`,
  )
}

/** A set of CPUs that the machine can have. Throws `IPI_INVALID_CPU`, `IPI_INVALID_ARGUMENT`. */
export function checkCpus({ cpu }: Kernel, cpus: CpuSet): CpuMask {
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

/** A number of milliseconds, or of tasks. Throws `IPI_INVALID_ARGUMENT`. */
export function checkNumber(name: string, value: number, least = 0): number {
  if (typeof value === 'number' && value >= least) return value
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `${name} is a number >= ${least}, got ${String(value)}`,
  )
}

/** The CPUs that may run a task of a pool whose CPUs are `mask`. Throws as `checkCpus`. */
export function checkAffinity(
  kernel: Kernel,
  mask: CpuMask | undefined,
  { cpu, affinity }: RunOptions,
): CpuMask | undefined {
  const wanted = cpu === undefined ? affinity : [cpu]
  if (wanted === undefined) return mask
  const asked = checkCpus(kernel, wanted)
  const may = mask === undefined ? asked.without(BOOT_CPU) : asked.and(mask)
  if (!may.isEmpty) return may
  throw new IpiError(
    'IPI_INVALID_CPU',
    `CPU ${[...asked].join(', ')} runs no tasks of this pool: name it in \`cpus\` of createPool`,
    { cpus: [...asked] },
  )
}

const CONCURRENCY_MAX = 0x7fff

/** A limit as shared memory has it: 0 is none. Throws `IPI_INVALID_ARGUMENT`. */
export function checkConcurrency(concurrency = Infinity): number {
  if (concurrency === Infinity) return 0
  if (Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= CONCURRENCY_MAX) {
    return concurrency
  }
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `concurrency is an integer from 1 to ${CONCURRENCY_MAX}, or Infinity, got ${String(concurrency)}`,
  )
}

/** How tasks fail: what their submitter is told, with the stacks of both sides. */

import { IpiError } from '../../base/errors.ts'
import type { Task } from '../../kernel/sched/submission.ts'
import { TASK_STATUS } from '../../kernel/sched/task.ts'
import { rebuildError, type ErrorDescription } from '../../kernel/remote-error.ts'

/**
 * How a task came to its end that was cancelled. `queued`: nobody had begun it. `soft`: it was asked and
 * has ended, its `finally` run. `aborted`, `unsafe`: it was aborted, no `finally` run; `unsafe` in code of
 * the environment, and its thread is replaced. `replaced`: it ended with its thread. `abandoned`: it is
 * asynchronous and goes on, and nobody waits for it.
 */
export type CancelOutcome = 'queued' | 'soft' | 'aborted' | 'unsafe' | 'replaced' | 'abandoned'

/** The error of a task that was cancelled; `cause` is why. */
export class TaskCancelledError extends IpiError {
  override readonly name: string
  declare readonly outcome: CancelOutcome

  /** @internal */
  constructor({ record, cancelled, ranOn }: Task, outcome: CancelOutcome) {
    const timedOut = cancelled?.timedOut === true
    super(
      timedOut ? 'IPI_TIMEOUT' : 'IPI_ABORTED',
      `"${record.name}" was cancelled${timedOut ? ': its time was over' : ''} (${outcome})`,
      {
        functionName: record.name,
        outcome,
        ...(ranOn < 0 ? {} : { cpu: ranOn }),
        ...(timedOut ? {} : { cause: cancelled?.reason }),
      },
    )
    this.name = timedOut ? 'TimeoutError' : 'AbortError'
  }
}

/** A failure on its way to the promise of its caller, where the error is made. */
export class TaskFailure {
  readonly #task: Task
  readonly #caller: number
  readonly #description: ErrorDescription | undefined

  constructor(task: Task, caller: number, value: unknown) {
    this.#task = task
    this.#caller = caller
    this.#description = value as ErrorDescription | undefined
  }

  /** Makes the error. Its stack ends in the frames of whoever calls this. */
  rebuild(): unknown {
    const { status, ranOn: cpu, record } = this.#task
    const facts = { cpu, functionName: record.name }
    if (this.#task.cancelled !== undefined) {
      return new TaskCancelledError(this.#task, OUTCOMES.get(status) ?? 'soft')
    }
    switch (status) {
      case TASK_STATUS.unknownFunction:
        return new IpiError(
          'IPI_UNKNOWN_FUNCTION',
          `CPU ${cpu} knows no shared function "${record.name}"; import the module that defines it ` +
            'in the entry module of that thread',
          facts,
        )
      case TASK_STATUS.uncloneable:
        return new IpiError(
          'IPI_UNCLONEABLE',
          `what "${record.name}" returned on CPU ${cpu} cannot be cloned: ` +
            `${this.#description?.message ?? ''}`,
          facts,
        )
      default: {
        const description = this.#description
        if (description === undefined) {
          return new IpiError('IPI_CPU_DIED', `the error of "${record.name}" was lost`, facts)
        }
        const where = `at CPU ${cpu} ("${record.name}", task of CPU ${this.#caller})`
        return rebuildError(description, where, new Error().stack ?? '')
      }
    }
  }
}

const OUTCOMES: ReadonlyMap<number, CancelOutcome> = new Map([
  [TASK_STATUS.aborted, 'aborted'],
  [TASK_STATUS.unsafe, 'unsafe'],
])

/** A promise's reaction: throws what the failure was, with this job's stack. */
export function rebuildTaskError(reason: unknown): never {
  throw reason instanceof TaskFailure ? reason.rebuild() : reason
}

/** A pool that is closed. */
export function closedError(): IpiError {
  return new IpiError('IPI_POOL_CLOSED', 'the pool was closed; create another')
}

/** A queue that is full. */
export function fullError(maxQueue: number): IpiError {
  return new IpiError(
    'IPI_QUEUE_FULL',
    `${maxQueue} tasks wait already; wait for the event "drain", raise maxQueue, or set whenFull: 'wait'`,
  )
}

/** A CPU that is gone. */
export function diedError({ record }: Task, cpu: number): IpiError {
  return new IpiError(
    'IPI_CPU_DIED',
    `the thread of CPU ${cpu} ended while it ran "${record.name}"`,
    { cpu, functionName: record.name },
  )
}

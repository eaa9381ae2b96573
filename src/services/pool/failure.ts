/** How tasks fail: what their submitter is told, with the stacks of both sides. */

import { IpiError } from '../../base/errors.ts'
import type { Task } from '../../kernel/sched/submission.ts'
import { TASK_STATUS } from '../../kernel/sched/task.ts'
import { rebuildError, type ErrorDescription } from '../../kernel/remote-error.ts'

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

/** A promise's reaction: throws what the failure was, with this job's stack. */
export function rebuildTaskError(reason: unknown): never {
  throw reason instanceof TaskFailure ? reason.rebuild() : reason
}

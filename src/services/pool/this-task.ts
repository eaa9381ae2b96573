/** The task that runs, as its function sees it. */

import { IpiError } from '../../base/errors.ts'
import { thisMachine } from '../../kernel/attach.ts'
import type { RunningTask } from '../../kernel/sched/running-task.ts'

/**
 * The task that runs: its signal, its safepoint, its reports. An asynchronous function calls it before
 * its first await and keeps what it gives. Throws `IPI_NOT_BOOTED` outside a machine, and
 * `IPI_INVALID_ARGUMENT` outside tasks.
 */
export function thisTask(): RunningTask {
  const task = thisMachine().kernel.sched.scheduler?.execution.current
  if (task !== undefined) return task
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    'thisTask() is for functions that a pool runs; an asynchronous one calls it before its first await',
  )
}

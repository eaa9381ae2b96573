/** Who chooses the thread of a task, and what is known of the threads. */

import type { HistogramSummary } from '../pool/histogram.ts'
import type { PiscinaTask } from './task-queues.ts'

/** A thread, as a load balancer and the events see it. */
export interface PiscinaWorker {
  /** The `threadId` of the worker. */
  readonly id: number
  /** How many tasks it has; Infinity with one that can be aborted, for that one is not to share it. */
  readonly currentUsage: number
  readonly isRunningAbortableTask: boolean
  /** Its run times in milliseconds, with `workerHistogram`. */
  readonly histogram: HistogramSummary | null
  readonly terminating: boolean
  readonly destroyed: boolean
}

/** Chooses one of the threads that are ready, or null: then the task waits. */
export type LoadBalancer = (
  task: PiscinaTask,
  workers: PiscinaWorker[],
) => PiscinaWorker | null | undefined

/** The least busy one; tasks that can be aborted have a thread for themselves. */
export function leastBusy(tasksMax: number): LoadBalancer {
  return (task, workers) => {
    let best: PiscinaWorker | null = null
    let least = task.isAbortable ? 1 : tasksMax
    for (const worker of workers) {
      const usage = worker.currentUsage
      if (usage >= least) continue
      best = worker
      least = usage
      if (usage === 0) break
    }
    return best
  }
}

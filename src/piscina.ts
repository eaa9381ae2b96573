/**
 * `interprocessor/piscina`: the API of piscina 5 on this library's threads. docs/piscina.md says what is
 * the same, what is better and what is missing.
 */

import { createMachine, isIpiError, thisMachine } from './index.ts'
import type { Machine } from './kernel/machine.ts'
import { Ground } from './services/piscina/ground.ts'
import type { PiscinaOptions } from './services/piscina/options.ts'
import { PiscinaOn } from './services/piscina/piscina.ts'
import { threadRole } from './services/piscina/thread-role.ts'

const ground = new Ground({
  createMachine,
  findMachine,
  threadScript: new URL('./piscina-thread.js', import.meta.url),
})

function findMachine(): Machine | undefined {
  try {
    return thisMachine()
  } catch (error) {
    if (isIpiError(error) && error.code === 'IPI_NOT_BOOTED') return undefined
    throw error
  }
}

/**
 * A pool of threads that run the handlers of a file. The types of tasks and results are `any`, as in
 * piscina, so that a program changes one import and nothing else.
 */
// oxlint-disable-next-line typescript/no-explicit-any
export class Piscina<Task = any, Result = any> extends PiscinaOn<Task, Result> {
  constructor(options: PiscinaOptions = {}) {
    super(ground, options)
  }

  static get Piscina(): typeof Piscina {
    return Piscina
  }
}

// `import Piscina from` and `const Piscina = require(…)` are how most programs name it.
// oxlint-disable-next-line import/no-default-export
export { Piscina as default, Piscina as 'module.exports' }

/** Whether this thread is one of a Piscina. */
export const isWorkerThread: boolean = threadRole.isWorkerThread
/** The `workerData` of the Piscina whose thread this is. */
// oxlint-disable-next-line typescript/no-explicit-any
export const workerData: any = threadRole.workerData

export type { LoadBalancer, PiscinaWorker } from './services/piscina/balancer.ts'
export type { PiscinaHistogram } from './services/piscina/histogram.ts'
export type { HistogramSummary } from './services/pool/histogram.ts'
export {
  move,
  transferableSymbol,
  valueSymbol,
  type Transferable,
} from './services/piscina/movable.ts'
export type { FilledOptions, PiscinaOptions } from './services/piscina/options.ts'
export {
  version,
  type PiscinaCloseOptions,
  type PiscinaRunOptions,
} from './services/piscina/piscina.ts'
export {
  ArrayTaskQueue,
  FixedQueue,
  queueOptionsSymbol,
  type PiscinaTask,
  type Task,
  type TaskQueue,
} from './services/piscina/task-queues.ts'

/** The same tasks as poolifier wants them; a priority is that of a function there. */

import { ThreadWorker } from 'poolifier'
import { compute, echo, increment, type Busy } from './pool-tasks.ts'

export const worker = new ThreadWorker<unknown, unknown>({
  increment: { taskFunction: (value) => increment(value as number), priority: -20 },
  echo: { taskFunction: echo },
  compute: { taskFunction: (busy) => compute(busy as Busy), priority: 19 },
})

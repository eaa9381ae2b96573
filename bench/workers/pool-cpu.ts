/** The same tasks as shared functions: what every CPU of our pool imports. */

import { sharedFunction, thisMachine } from 'interprocessor'
import { spinFor } from '../support/scratch.ts'
import * as tasks from './pool-tasks.ts'

export const increment = sharedFunction('bench.pool.increment', tasks.increment)
export const echo = sharedFunction('bench.pool.echo', tasks.echo)
export const runAway = sharedFunction('bench.pool.runAway', tasks.runAway)
export const nothing = sharedFunction('bench.pool.nothing', () => undefined)

/** Computes for as long, with a safepoint every 20 µs. */
export const compute = sharedFunction('bench.pool.compute', ({ buffer, ms }: tasks.Busy) => {
  const { cpu } = thisMachine()
  tasks.arrive(buffer)
  for (const until = performance.now() + ms; performance.now() < until;) {
    spinFor(20)
    cpu.poll()
  }
})

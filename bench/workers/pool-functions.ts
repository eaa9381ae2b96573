/** The tasks of our pool: shared by whichever copy of the library a thread has. */

import type * as library from '../../src/index.ts'
import { spinFor } from '../support/scratch.ts'
import * as tasks from './pool-tasks.ts'

/** What a copy has to offer. */
type Library = Pick<typeof library, 'sharedFunction' | 'thisMachine'>

/** Shares the tasks. */
export function shareTasks({ sharedFunction, thisMachine }: Library) {
  return {
    increment: sharedFunction('bench.pool.increment', tasks.increment),
    echo: sharedFunction('bench.pool.echo', tasks.echo),
    runAway: sharedFunction('bench.pool.runAway', tasks.runAway),
    nothing: sharedFunction('bench.pool.nothing', () => undefined),
    /** Computes for as long, with a safepoint every 20 µs. */
    compute: sharedFunction('bench.pool.compute', ({ buffer, ms }: tasks.Busy) => {
      const { cpu } = thisMachine()
      tasks.arrive(buffer)
      for (const until = performance.now() + ms; performance.now() < until;) {
        spinFor(20)
        cpu.poll()
      }
    }),
  }
}

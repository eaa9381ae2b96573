/** What the calls of the demonstration run: the bundled tasks, or a function of the user's. */

import { inspect } from 'node:util'
import { verify } from '../failure.ts'
import { shorten } from '../print.ts'
import { countPrimes, countWords, reload } from '../tasks.ts'
import type { UserFunction } from '../user-module.ts'

/** One function to be called, and what must come of it. */
export interface Job {
  /** Its shared name. */
  readonly name: string
  readonly info: unknown
  /** Says what came of it; throws a `DemoFailure` if that is wrong. */
  readonly judge: (results: ReadonlyMap<number, unknown>) => string[]
}

/** The three calls of the demonstration. */
export interface Work {
  /** By smpCallFunction: on every other CPU. */
  readonly others: Job
  /** By onEachCpu. */
  readonly each: Job
  /** By smpCallFunctionSingle, from one worker thread to another. */
  readonly single: Job
}

/** How much of a result is shown, in characters. */
const RESULT_WIDTH = 50

const PRIMES_BELOW = 200_000
/** How many primes there are below that. */
const PRIME_COUNT = 17_984
const TEXT = 'the sender writes its request first and rings only then'
const TEXT_WORDS = 10

/** The bundled tasks, for a machine of `cpus` CPUs. */
export function bundledWork(cpus: number): Work {
  return {
    others: {
      name: reload.sharedName,
      info: { version: 2, logLevel: 'debug' },
      judge: (versions) => {
        verify(
          [...versions.values()].every((version) => version === 1),
          `reload replaced the versions ${inspect(versions)} where version 1 was expected`,
        )
        return ['each of them has replaced version 1 of the configuration by version 2']
      },
    },
    each: {
      name: countPrimes.sharedName,
      info: { below: PRIMES_BELOW, shares: cpus },
      judge: (counts) => {
        const total = [...counts.values()].reduce<number>((sum, count) => sum + Number(count), 0)
        verify(total === PRIME_COUNT, `countPrimes found ${total} primes, there are ${PRIME_COUNT}`)
        const parts = [...counts.values()].join(' + ')
        return [`${parts} = ${total} primes below ${PRIMES_BELOW}`]
      },
    },
    single: {
      name: countWords.sharedName,
      info: TEXT,
      judge: (counts) => {
        const [count] = counts.values()
        verify(count === TEXT_WORDS, `countWords counted ${inspect(count)}, not ${TEXT_WORDS}`)
        return []
      },
    },
  }
}

/** The user's function, in all three calls, without an argument. */
export function usersWork({ sharedName }: UserFunction): Work {
  const job = (judge: Job['judge']): Job => ({ name: sharedName, info: undefined, judge })
  const silent = job(() => [])
  return {
    others: silent,
    each: job((results) =>
      [...results].map(
        ([cpu, result]) => `CPU ${cpu} returned ${shorten(inspect(result), RESULT_WIDTH)}`,
      ),
    ),
    single: silent,
  }
}

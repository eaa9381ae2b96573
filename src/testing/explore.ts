/** Runs a scenario under the schedules of a strategy, until one fails or there are no more. */

import { Execution, type Choice, type Event } from './execution.ts'
import type { Failure, Scenario } from './scenario.ts'
import { shrink } from './shrink.ts'
import type { Strategy } from './strategy.ts'
import { encodeSchedule, Replay } from './strategies/replay.ts'

/** When to stop, and whom to tell. */
export interface ExploreOptions {
  /** How long to go on, in milliseconds. Default: until the strategy has no more schedules. */
  readonly budgetMs?: number
  /** Called every second or so. */
  readonly onProgress?: (progress: { readonly runs: number; readonly steps: number }) => void
}

/** A schedule that fails: the shortest that could be made of the one that was found. */
export interface FoundFailure extends Failure {
  /** The schedule as one line, for `replay`. */
  readonly schedule: string
  /** What happened in it. */
  readonly events: readonly Event[]
}

/** What an exploration has seen. */
export interface Exploration {
  readonly scenario: string
  readonly strategy: string
  /** The bounds and what was seen within them, in words. */
  readonly bounds: string
  /** How many schedules ran, whole or until they met what was seen before. */
  readonly runs: number
  /** How many accesses they made. */
  readonly steps: number
  readonly elapsedMs: number
  /** Whether there is no schedule within the bounds that was not covered. */
  readonly exhausted: boolean
  readonly failure: FoundFailure | undefined
}

const PROGRESS_MS = 1000
/** Runs between two looks at the clock. */
const RUNS_PER_LOOK = 64

/** Explores. Gives what was seen; never throws because of what the scenario does. */
export function explore(
  scenario: Scenario,
  strategy: Strategy,
  options: ExploreOptions = {},
): Exploration {
  const { budgetMs = Infinity, onProgress } = options
  const start = now()
  let told = start
  let runs = 0
  let steps = 0
  let failure: FoundFailure | undefined
  let more = strategy.nextRun()
  while (more && failure === undefined) {
    const { execution, schedule } = run(scenario, strategy, false)
    runs++
    steps += execution.steps
    if (execution.failure !== undefined) failure = shortest(scenario, schedule, execution.failure)
    if (runs % RUNS_PER_LOOK === 0) {
      const time = now()
      if (time - start >= budgetMs) break
      if (time - told >= PROGRESS_MS) {
        told = time
        onProgress?.({ runs, steps })
      }
    }
    more = strategy.nextRun()
  }
  return {
    scenario: scenario.name,
    strategy: strategy.name,
    bounds: strategy.describe(),
    runs,
    steps,
    elapsedMs: now() - start,
    exhausted: !more && strategy.exhausted,
    failure,
  }
}

/** The failure with the shortest schedule that can be made of this one. */
function shortest(
  scenario: Scenario,
  found: readonly Choice[],
  { kind }: Failure,
): FoundFailure | undefined {
  const schedule = shrink(found, (strategy) => {
    const { execution, schedule: choices } = run(scenario, strategy, false)
    return execution.failure?.kind === kind ? choices : undefined
  })
  return replay(scenario, schedule)
}

/**
 * Runs one schedule, as a failure has it. Gives how it fails, with everything that happened, or
 * undefined. Throws `IPI_INVALID_ARGUMENT` if it does not fit the scenario.
 */
export function replay(
  scenario: Scenario,
  schedule: string | readonly Choice[],
): FoundFailure | undefined {
  const strategy = new Replay(schedule)
  strategy.nextRun()
  const { execution, schedule: choices } = run(scenario, strategy, true)
  const { failure, events = [] } = execution
  return failure && { ...failure, schedule: encodeSchedule(choices), events }
}

function run(
  scenario: Scenario,
  strategy: Strategy,
  record: boolean,
): { readonly execution: Execution; readonly schedule: Choice[] } {
  const execution = new Execution(scenario, record)
  const schedule: Choice[] = []
  let last = -1
  for (;;) {
    const choices = execution.choices()
    if (choices.length === 0) break
    const way = strategy.choose(execution, choices, last)
    if (way < 0) break
    const choice = choices[way]!
    schedule.push(choice)
    execution.apply(choice)
    last = choice.cpu
  }
  return { execution, schedule }
}

function now(): number {
  return performance.now()
}

/** How schedules are chosen: what every strategy is to the explorer. */

import type { Choice, Execution } from './execution.ts'

/** Chooses the schedules of an exploration, one run after the other. */
export interface Strategy {
  readonly name: string
  /** Prepares another run; false if there is nothing more to see, or no more was asked for. */
  nextRun(): boolean
  /**
   * Chooses what happens next, as a place in `choices`, of which there is at least one, the steps before
   * everything else; -1 ends the
   * run here, because what comes was seen before or is out of bounds. `last` is the CPU that made
   * the last step, or -1.
   */
  choose(execution: Execution, choices: readonly Choice[], last: number): number
  /** Whether every schedule within the bounds was seen. Asked when `nextRun` has given false. */
  readonly exhausted: boolean
  /** The bounds, in words, and what was seen: for the report. */
  describe(): string
}

/** Whether a choice takes the processor from a CPU that could go on. */
export function isPreemption(choice: Choice, choices: readonly Choice[], last: number): boolean {
  if (choice.cpu === last || choice.kind !== 'step') return false
  return choices.some(({ kind, cpu }) => kind === 'step' && cpu === last)
}

/** How many of the choices are steps: they come first. */
export function countSteps(choices: readonly Choice[]): number {
  const other = choices.findIndex(({ kind }) => kind !== 'step')
  return other < 0 ? choices.length : other
}

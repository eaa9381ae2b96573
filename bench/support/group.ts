/** What a group of benchmarks is. */

import type { Plan, Row } from './measure.ts'

/** How thorough a run is. */
export type Pace = 'quick' | 'full'

/** A file of benchmarks: measured in a process of its own. */
export interface Group {
  /** One sentence, printed above the rows. */
  readonly about: string
  readonly measure: (pace: Pace) => Promise<Row[]>
}

/** The longest time that one comparison takes, in milliseconds; a run has some sixteen of them. */
const BUDGET_MS: Readonly<Record<Pace, number>> = { quick: 2_000, full: 9_000 }

/** The plan of a pace: a quick one takes fewer rounds, never smaller ones. */
export function plan(pace: Pace, rounds: number, perRound: number, warmUp = perRound): Plan {
  const share = pace === 'quick' ? 6 : 1
  return { rounds: Math.ceil(rounds / share), perRound, warmUp, budgetMs: BUDGET_MS[pace] }
}

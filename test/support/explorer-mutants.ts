/** Copies of the code with a fault in each, instrumented like the rest, and who finds it. */

import {
  Exhaustive,
  explore,
  Pct,
  type Exploration,
  type Scenario,
  type Strategy,
} from '../../src/testing.ts'
import { MUTANTS, type Edit, type Mutant } from '../explorer/mutants.ts'
import type { KernelScenario } from '../explorer/scenario.ts'
import { SCENARIOS } from '../explorer/scenarios.ts'
import { loadRooms, type Rooms } from './explorer-machine.ts'

/** Writes a copy of the code to a folder below `build`. */
interface Instrumenter {
  readonly instrument: (
    folder: string,
    how: { readonly boundaries: boolean; readonly changes: readonly Edit[] },
  ) => void
}

const script = new URL('../../../scripts/instrument.mjs', import.meta.url)
const { instrument } = (await import(script.href)) as Instrumenter

/** How long each strategy looks at first, and how many times as long when its turn comes again. */
const FIRST_LOOK_MS = 60
const GROWTH = 4
/** After the name of a scenario: with a boundary at each method and turn of a loop. */
const ANYWHERE = ', anywhere'

/** The scenarios of a name, or part of one. Throws if there is none. */
export function scenariosOf(found: string): readonly KernelScenario[] {
  const part = found.replace(ANYWHERE, '')
  const scenarios = SCENARIOS.filter(({ name }) => name.includes(part))
  if (scenarios.length === 0) throw new Error(`no scenario is called "${found}"`)
  return scenarios
}

/** Loads the copy with the fault. Throws if the text to change is not there. */
function loadMutant({ name, edits }: Mutant, boundaries: boolean): Promise<Rooms> {
  const number = MUTANTS.findIndex((mutant) => mutant.name === name)
  const folder = `mutants/${number}${boundaries ? '-anywhere' : ''}`
  instrument(folder, { boundaries, changes: edits })
  return loadRooms(folder)
}

/**
 * Lets scenarios look for a fault; gives the first that fails. No strategy finds every fault soon, and
 * each finds most in an instant: so they take turns, and each goes on where it was, for longer every
 * time, and for at most `budgetMs` at once.
 */
export async function findFault(
  mutant: Mutant,
  found: string,
  budgetMs: number,
  among = scenariosOf(found),
): Promise<Exploration | undefined> {
  const rooms = await loadMutant(mutant, found.endsWith(ANYWHERE))
  const scenarios = among.map(({ on }) => on(rooms))
  const each = (strategy: () => Strategy): Search[] =>
    scenarios.map((scenario) => ({ scenario, strategy: strategy() }))
  const { preemptions } = mutant
  if (preemptions !== undefined) {
    return firstToFail(
      each(() => new Exhaustive({ preemptions })),
      budgetMs,
    )
  }
  const searches = [
    ...each(() => new Exhaustive({ preemptions: 0 })),
    ...each(() => new Pct({ seed: 1, runs: Infinity })),
    ...each(() => new Exhaustive({ preemptions: 1 })),
    ...each(() => new Exhaustive({ preemptions: 2 })),
  ]
  for (let ms = FIRST_LOOK_MS; ms < GROWTH * budgetMs; ms *= GROWTH) {
    const seen = firstToFail(searches, Math.min(ms, budgetMs))
    if (seen !== undefined) return seen
  }
  return undefined
}

interface Search {
  readonly scenario: Scenario
  readonly strategy: Strategy
}

function firstToFail(searches: readonly Search[], budgetMs: number): Exploration | undefined {
  for (const { scenario, strategy } of searches) {
    const seen = explore(scenario, strategy, { budgetMs })
    if (seen.failure !== undefined) return seen
  }
  return undefined
}

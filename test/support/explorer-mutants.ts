/** Copies of the code with a fault in each, instrumented like the rest, and who finds it. */

import { Exhaustive, explore, Pct, type Exploration, type Strategy } from '../../src/testing.ts'
import { MUTANTS, type Edit, type Mutant } from '../explorer/mutants.ts'
import type { KernelScenario } from '../explorer/scenario.ts'
import { SCENARIOS } from '../explorer/scenarios.ts'
import { loadRooms } from './explorer-machine.ts'

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
const FIRST_LOOK_MS = 250
const GROWTH = 4
/** After the name of a scenario: with a boundary at each method and turn of a loop. */
const ANYWHERE = ', anywhere'

/** Whether a scenario is one of those that a mutant names. */
export function isAbout({ found }: Mutant): (scenario: KernelScenario) => boolean {
  const wanted = found.replace(ANYWHERE, '')
  return ({ name }) => name.includes(wanted)
}

/** Makes the copy; gives its folder below `build`. Throws if the text to change is not there. */
function instrumentMutant({ name, edits, found }: Mutant): string {
  const folder = `mutants/${MUTANTS.findIndex((mutant) => mutant.name === name)}`
  instrument(folder, { boundaries: found.endsWith(ANYWHERE), changes: edits })
  return folder
}

/**
 * Lets the scenarios that a mutant names look for it; gives the first that fails. No strategy finds
 * every fault soon, and each finds most in an instant: so they take turns, and each goes on where it was,
 * for longer every time, and for at most `budgetMs` at once. Throws if it names no scenario.
 */
export async function findFault(
  mutant: Mutant,
  budgetMs: number,
): Promise<Exploration | undefined> {
  const rooms = await loadRooms(instrumentMutant(mutant))
  const scenarios = SCENARIOS.filter(isAbout(mutant)).map(({ on }) => on(rooms))
  if (scenarios.length === 0) throw new Error(`no scenario is called "${mutant.found}"`)
  const inTurn = (strategy: () => Strategy) => scenarios.map((each) => [each, strategy()] as const)
  const searches = [
    ...inTurn(() => new Exhaustive({ preemptions: 0 })),
    ...inTurn(() => new Pct({ seed: 1, runs: Infinity })),
    ...inTurn(() => new Exhaustive({ preemptions: 1 })),
    ...inTurn(() => new Exhaustive({ preemptions: 2 })),
  ]
  for (let ms = FIRST_LOOK_MS; ms < GROWTH * budgetMs; ms *= GROWTH) {
    for (const [scenario, strategy] of searches) {
      const seen = explore(scenario, strategy, { budgetMs: Math.min(ms, budgetMs) })
      if (seen.failure !== undefined) return seen
    }
  }
  return undefined
}

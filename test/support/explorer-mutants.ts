/** Copies of the code with a fault in each, instrumented like the rest, and who finds it. */

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Exhaustive, explore, Pct, type Exploration, type Strategy } from '../../src/testing.ts'
import { MUTANTS, type Mutant } from '../explorer/mutants.ts'
import type { KernelScenario } from '../explorer/scenario.ts'
import { SCENARIOS } from '../explorer/scenarios.ts'
import { loadRooms } from './explorer-machine.ts'

const script = fileURLToPath(new URL('../../../scripts/instrument.mjs', import.meta.url))

/** How long to look without preemptions, which find most, before chance has its turn. */
const FIRST_LOOK_MS = 1500
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
  const changes = edits.flatMap(({ file, from, to }) => [file, from, to])
  const how = found.endsWith(ANYWHERE) ? ['--boundaries'] : []
  execFileSync(process.execPath, [script, ...how, folder, ...changes], { stdio: 'inherit' })
  return folder
}

/**
 * Lets the scenarios that a mutant names look for it, each strategy for at most `budgetMs`; gives the
 * first that fails. Without preemptions first; then by chance, which is quick where it takes one or two;
 * then everything. Throws if it names no scenario.
 */
export async function findFault(
  mutant: Mutant,
  budgetMs: number,
): Promise<Exploration | undefined> {
  const rooms = await loadRooms(instrumentMutant(mutant))
  const scenarios = SCENARIOS.filter(isAbout(mutant))
  if (scenarios.length === 0) throw new Error(`no scenario is called "${mutant.found}"`)
  const strategies: readonly (readonly [ms: number, strategy: () => Strategy])[] = [
    [FIRST_LOOK_MS, () => new Exhaustive({ preemptions: 0 })],
    [budgetMs, () => new Pct({ seed: 1, runs: 10_000 })],
    [budgetMs, () => new Exhaustive({ preemptions: 1 })],
    [budgetMs, () => new Exhaustive({ preemptions: 2 })],
  ]
  for (const [ms, strategy] of strategies) {
    for (const { on } of scenarios) {
      const seen = explore(on(rooms), strategy(), { budgetMs: ms })
      if (seen.failure !== undefined) return seen
    }
  }
  return undefined
}

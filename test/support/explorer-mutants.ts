/** Copies of the code with a fault in each, instrumented like the rest, and who finds it. */

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Exhaustive, explore, type Exploration } from '../../src/testing.ts'
import { MUTANTS, type Mutant } from '../explorer/mutants.ts'
import { SCENARIOS } from '../explorer/scenarios.ts'
import { loadRooms } from './explorer-machine.ts'

const script = fileURLToPath(new URL('../../../scripts/instrument.mjs', import.meta.url))

/** Makes the copy; gives its folder below `build`. Throws if the text to change is not there. */
function instrumentMutant({ name, file, from, to }: Mutant): string {
  const folder = `mutants/${MUTANTS.findIndex((mutant) => mutant.name === name)}`
  execFileSync(process.execPath, [script, folder, file, from, to], { stdio: 'inherit' })
  return folder
}

/**
 * Lets the scenarios that a mutant names look for it, each for at most `budgetMs`; gives the first that
 * fails. From no preemption on: the first failure has then the fewest. Throws if it names none.
 */
export async function findFault(
  mutant: Mutant,
  budgetMs: number,
): Promise<Exploration | undefined> {
  const rooms = await loadRooms(instrumentMutant(mutant))
  const scenarios = SCENARIOS.filter(({ name }) => name.includes(mutant.found))
  if (scenarios.length === 0) throw new Error(`no scenario is called "${mutant.found}"`)
  for (const preemptions of [0, 1, 2]) {
    for (const { on } of scenarios) {
      const seen = explore(on(rooms), new Exhaustive({ preemptions }), { budgetMs })
      if (seen.failure !== undefined) return seen
    }
  }
  return undefined
}

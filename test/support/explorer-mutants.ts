/** Copies of the code with a fault in each, instrumented like the rest. */

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { MUTANTS, type Mutant } from '../explorer/mutants.ts'

const script = fileURLToPath(new URL('../../../scripts/instrument.mjs', import.meta.url))

/** Makes the copy; gives its folder below `build`. Throws if the text to change is not there. */
export function instrumentMutant({ name, file, from, to }: Mutant): string {
  const folder = `mutants/${MUTANTS.findIndex((mutant) => mutant.name === name)}`
  execFileSync(process.execPath, [script, folder, file, from, to], { stdio: 'inherit' })
  return folder
}

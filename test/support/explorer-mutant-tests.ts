/** A test for each mutant of some scenarios. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MUTANTS } from '../explorer/mutants.ts'
import type { KernelScenario } from '../explorer/scenario.ts'
import { findFault, isAbout } from './explorer-mutants.ts'

const BUDGET_MS = 20_000

/** Tests that those which name one of the scenarios are found. */
export function testMutants(scenarios: readonly KernelScenario[]): void {
  for (const mutant of MUTANTS.filter((each) => scenarios.some(isAbout(each)))) {
    test(`it ${mutant.name}`, async (t) => {
      const found = await findFault(mutant, BUDGET_MS)
      assert.ok(found !== undefined, 'nobody has found it')
      const { scenario, bounds, runs, failure } = found
      t.diagnostic(
        `${failure!.kind} in ${scenario}, ${bounds}, ${runs} schedules: ${failure!.message}`,
      )
    })
  }
}

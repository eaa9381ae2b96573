/** Each deliberate fault is found by the scenarios that it names: none of them is there for show. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findFault } from '../support/explorer-mutants.ts'
import { MUTANTS } from './mutants.ts'

for (const mutant of MUTANTS) {
  test(`it ${mutant.name}`, async (t) => {
    const found = await findFault(mutant, 20_000)
    assert.ok(found !== undefined, 'nobody has found it')
    const { scenario, bounds, runs, failure } = found
    t.diagnostic(
      `${failure!.kind} in ${scenario}, ${bounds}, ${runs} schedules: ${failure!.message}`,
    )
  })
}

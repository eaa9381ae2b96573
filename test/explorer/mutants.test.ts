/** Each deliberate fault is found by the scenarios that it names: none of them is there for show. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Exhaustive, explore } from '../../src/testing.ts'
import { loadRooms } from '../support/explorer-machine.ts'
import { instrumentMutant } from '../support/explorer-mutants.ts'
import { MUTANTS } from './mutants.ts'
import { SCENARIOS } from './scenarios.ts'

for (const mutant of MUTANTS) {
  test(`it ${mutant.name}`, async (t) => {
    const rooms = await loadRooms(instrumentMutant(mutant))
    const candidates = SCENARIOS.filter(({ name }) => name.includes(mutant.found))
    assert.notEqual(candidates.length, 0)
    // From no preemption on: the first failure has then the fewest.
    for (const preemptions of [0, 1, 2]) {
      for (const { on } of candidates) {
        const scenario = on(rooms)
        const strategy = new Exhaustive({ preemptions })
        const { failure, runs } = explore(scenario, strategy, { budgetMs: 20_000 })
        if (failure === undefined) continue
        t.diagnostic(
          `${failure.kind} in ${scenario.name}, ${preemptions} preemptions, ${runs} schedules: ` +
            failure.message,
        )
        return
      }
    }
    assert.fail('nobody has found it')
  })
}

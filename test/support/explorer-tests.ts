/** What is tested of some scenarios: that the code is right in them, and that they find its faults. */

import assert from 'node:assert/strict'
import { before, test, type TestContext } from 'node:test'
import { Exhaustive, explore, formatFailure, type Scenario } from '../../src/testing.ts'
import { MUTANTS } from '../explorer/mutants.ts'
import type { KernelScenario } from '../explorer/scenario.ts'
import { loadRooms, type Rooms } from './explorer-machine.ts'
import { findFault, scenariosOf } from './explorer-mutants.ts'

/** How long a strategy may look on a machine that is busy with something else. */
const BUDGET_MS = 60_000

/**
 * Tests each scenario within its bounds, and that every fault which names one of them first is found:
 * none of them is there for show.
 */
export function testScenarios(scenarios: readonly KernelScenario[]): void {
  let rooms: Rooms
  /** The same with a boundary at each method and each turn of a loop. */
  let interrupted: Rooms
  before(async () => {
    rooms = await loadRooms()
    interrupted = await loadRooms('interrupted')
  })

  for (const { ids, name, preemptions, forced, on } of scenarios) {
    const title = `${ids.join(', ')} ${name}`
    test(title, (t) => exploreAll(on(rooms), preemptions, t))
    if (forced) test(`${title}, anywhere`, (t) => exploreAll(on(interrupted), 0, t))
  }
  for (const mutant of MUTANTS) {
    if (!scenariosOf(mutant.found[0]!).some((each) => scenarios.includes(each))) continue
    test(`it ${mutant.name}`, async (t) => {
      for (const found of mutant.found) {
        const seen = await findFault(mutant, found, BUDGET_MS)
        assert.ok(seen !== undefined, `nobody has found it: ${found}`)
        const { scenario, bounds, runs, failure } = seen
        t.diagnostic(
          `${failure!.kind} in ${scenario}, ${bounds}, ${runs} schedules: ${failure!.message}`,
        )
      }
    })
  }
}

function exploreAll(scenario: Scenario, preemptions: number, t: TestContext): void {
  const seen = explore(scenario, new Exhaustive({ preemptions }))
  assert.ok(
    seen.failure === undefined,
    seen.failure === undefined ? '' : formatFailure(scenario, seen.failure),
  )
  assert.ok(seen.exhausted)
  t.diagnostic(`${seen.bounds}, ${seen.runs} schedules, ${seen.steps} accesses`)
}

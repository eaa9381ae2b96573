/** The scenarios within the bounds that take seconds. More: `npm run explore -- --seconds 60`. */

import assert from 'node:assert/strict'
import { before, test, type TestContext } from 'node:test'
import { Exhaustive, explore, formatFailure, type Scenario } from '../../src/testing.ts'
import { loadRooms, type Rooms } from '../support/explorer-machine.ts'
import { SCENARIOS } from './scenarios.ts'

let rooms: Rooms
/** The same with a boundary at each method and each turn of a loop. */
let interrupted: Rooms
before(async () => {
  rooms = await loadRooms()
  interrupted = await loadRooms('interrupted')
})

function exploreAll(scenario: Scenario, preemptions: number, t: TestContext): void {
  const seen = explore(scenario, new Exhaustive({ preemptions }))
  assert.ok(
    seen.failure === undefined,
    seen.failure === undefined ? '' : formatFailure(scenario, seen.failure),
  )
  assert.ok(seen.exhausted)
  t.diagnostic(`${seen.bounds}, ${seen.runs} schedules, ${seen.steps} accesses`)
}

for (const { ids, name, preemptions, forced, on } of SCENARIOS) {
  test(`${ids.join(', ')} ${name}`, (t) => exploreAll(on(rooms), preemptions, t))
  if (forced) test(`${ids.join(', ')} ${name}, anywhere`, (t) => exploreAll(on(interrupted), 0, t))
}

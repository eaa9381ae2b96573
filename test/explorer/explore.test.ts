/** The scenarios within the bounds that take seconds. More: `npm run explore -- --seconds 60`. */

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { Exhaustive, explore, formatFailure } from '../../src/testing.ts'
import { loadRooms, type Rooms } from '../support/explorer-machine.ts'
import { SCENARIOS } from './scenarios.ts'

let rooms: Rooms
before(async () => {
  rooms = await loadRooms()
})

for (const { ids, name, preemptions, on } of SCENARIOS) {
  test(`${ids.join(', ')} ${name}`, (t) => {
    const scenario = on(rooms)
    const seen = explore(scenario, new Exhaustive({ preemptions }))
    assert.ok(
      seen.failure === undefined,
      seen.failure === undefined ? '' : formatFailure(scenario, seen.failure),
    )
    assert.ok(seen.exhausted)
    t.diagnostic(`${seen.bounds}, ${seen.runs} schedules, ${seen.steps} accesses`)
  })
}

// What a task gives away with its result: moved, not copied, and refused where it cannot be moved.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { boot, createPool } from 'interprocessor'
import { giveAway, giveAwayTwice, left } from '../support/pool-moved-tasks.ts'

const entry = new URL('../support/pool-moved-tasks.js', import.meta.url)

test('a result is moved where its task says so', async () => {
  await using machine = await boot({ cpus: 2, entry })
  const pool = createPool(machine)
  const { size, given } = await pool.run(giveAway, 70_000)
  assert.equal(size, 70_000)
  assert.equal(given.byteLength, 70_000)
  assert.equal(await pool.run(left), 0)
})

test('a result that cannot be moved fails its task and no other', async () => {
  await using machine = await boot({ cpus: 2, entry })
  const pool = createPool(machine)
  await assert.rejects(pool.run(giveAwayTwice, 16), { code: 'IPI_UNCLONEABLE' })
  assert.equal((await pool.run(giveAway, 16)).given.byteLength, 16)
})

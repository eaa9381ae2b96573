/**
 * Threads are ended at random moments while everybody calls everybody: every call settles with an
 * answer that is right or with the death that explains its failure, and afterwards the books balance.
 * A failing run is repeated with MACHINE_SEED=n, as far as threads repeat anything.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { settled } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { withAdopted } from '../support/machine-harness.ts'
import { PROGRESS, STOP, useSpace, work } from '../support/machine-load-tasks.ts'
import { startTask, whoAmI } from '../support/machine-tasks.ts'
import { mulberry32 } from '../../src/testing/strategies/random.ts'

const entry = new URL('../support/machine-load-tasks.js', import.meta.url)
const seed = Number(process.env['MACHINE_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const CPUS = 4

describe(`threads end at random while all work (MACHINE_SEED=${seed})`, () => {
  for (const [callDriver, kills] of [
    ['queue', 6],
    ['callData', 4],
  ] as const) {
    test(`${kills} deaths, ${callDriver}: whoever lives goes on`, async (t) => {
      const options = { cpus: CPUS, tasks: entry, callDriver, slotCount: 16 }
      await withAdopted(options, async ({ machine, board, kill, adopt }) => {
        const draw = mulberry32(seed)
        const working = new Map<number, Promise<number>>()
        const start = async (cpu: number): Promise<void> => {
          const info = { seed: seed + cpu, mayBlock: cpu !== 0 }
          working.set(cpu, (await startTask(cpu, work, info)).result)
        }
        await machine.onEachCpu(useSpace)
        for (let cpu = 0; cpu < CPUS; cpu++) await start(cpu)
        for (let killed = 0; killed < kills; killed++) {
          await board.reached(PROGRESS, board.get(PROGRESS) + Math.floor(draw() * 200))
          const victim = 1 + Math.floor(draw() * (CPUS - 1))
          await kill(victim)
          working.delete(victim)
          await adopt(victim)
          await start(victim)
        }
        await board.reached(PROGRESS, board.get(PROGRESS) + 200)
        board.set(STOP, 1)
        const operations = await settled(Promise.all(working.values()), 'the last operations')
        t.diagnostic(`${board.get(PROGRESS)} operations, seed ${seed}`)
        assert.ok(operations.every((count) => count > 0))
        assert.deepEqual([...machine.onlineMask], [0, 1, 2, 3])
        for (let cpu = 1; cpu < CPUS; cpu++) {
          assert.equal(await settled(machine.smpCallFunctionSingle(cpu, whoAmI), 'a call'), cpu)
        }
        await expectBalancedBooks(machine, [1, 2, 3])
      })
    })
  }
})

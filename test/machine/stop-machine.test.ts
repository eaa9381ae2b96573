/** Operations on the whole machine while it is short of something, or somebody dies. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WORD, settled } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { deafHold } from '../support/machine-death-tasks.ts'
import { withAdopted, withMachine } from '../support/machine-harness.ts'
import { echo } from '../support/machine-tasks.ts'

const tasks = new URL('../support/machine-death-tasks.js', import.meta.url)

describe('who stands still can wait for nothing else', () => {
  for (const callDriver of ['queue', 'callData'] as const) {
    test(`stopMachine while all slots are out, ${callDriver}`, async () => {
      const options = { cpus: 3, maxCpus: 3, slotCount: 3, callDriver, timeoutMs: 5000 }
      await withMachine(options, async ({ machine }) => {
        const calls = Array.from({ length: 6 }, (_, n) => machine.smpCallFunctionSingle(1, echo, n))
        assert.equal(await machine.stopMachine(() => 'stopped'), 'stopped')
        assert.deepEqual(await Promise.all(calls), [0, 1, 2, 3, 4, 5])
        await expectBalancedBooks(machine)
      })
    })
  }
})

describe('one dies, and the others have done it', () => {
  test('flushTlbAll: the dead hold no translations', async () => {
    await withAdopted({ cpus: 3, tasks }, async ({ machine, board, kill }) => {
      const held = machine.smpCallFunctionSingle(1, deafHold)
      held.catch(() => undefined)
      await board.reached(WORD.entered)
      const flushed = machine.flushTlbAll()
      await kill(1)
      await settled(flushed, 'the flush')
      await assert.rejects(held, { code: 'IPI_CPU_DIED' })
    })
  })

  test('stopMachine: a bystander that dies takes no result with it', async () => {
    await withAdopted({ cpus: 3, tasks }, async ({ machine, adopted }) => {
      const { worker } = adopted[0]!
      const run = (): string => {
        void worker.terminate()
        while (worker.performance.eventLoopUtilization().idle >= 0);
        return 'ran'
      }
      assert.equal(await settled(machine.stopMachine(run), 'stopMachine'), 'ran')
    })
  })
})

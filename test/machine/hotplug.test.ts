/**
 * CPUs come and go under load (reference C16, rows D-181 and D-182): what was sent to a CPU while it
 * was online runs, once; what comes later is refused; and the next thread of the number has what the
 * others have.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { settled, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { withAdopted, withMachine } from '../support/machine-harness.ts'
import {
  attachAgainAfterLeaving,
  callAfterLeaving,
  pester,
  pollUntilReleased,
  stateDown,
  stateUp,
  takeDiary,
} from '../support/machine-hotplug-tasks.ts'
import { echo, startTask, threadOf, whoAmI } from '../support/machine-tasks.ts'

const entry = new URL('../support/machine-hotplug-tasks.js', import.meta.url)

describe('what all CPUs have, late joiners have before they are online', () => {
  test('in the order in which it was set up, with interrupts off', async () => {
    await withMachine({ cpus: 2, maxCpus: 4, entry }, async ({ machine }) => {
      for (const name of ['a', 'b', 'c', 'd']) {
        await machine.cpuhpSetupState(name, { startup: stateUp, teardown: stateDown }, { name })
      }
      await machine.cpuhpRemoveState('b')
      await machine.cpuhpSetupState('c', { startup: stateUp }, { name: 'c again' })
      assert.equal(await machine.cpuUp(), 2)
      const early = { online: false, irqsDisabled: true }
      assert.deepEqual(await machine.smpCallFunctionSingle(2, takeDiary), [
        { what: 'a up', ...early },
        { what: 'c again up', ...early },
        { what: 'd up', ...early },
      ])
      const whats = (await machine.smpCallFunctionSingle(1, takeDiary)).map(({ what }) => what)
      assert.deepEqual(whats, ['a up', 'b up', 'c up', 'd up', 'b down', 'c again up'])
      await expectBalancedBooks(machine)
    })
  })

  test('and tear down when they leave, the last first, before they are offline', async () => {
    await withAdopted({ cpus: 2, tasks: entry }, async ({ machine, board }) => {
      for (const name of ['a', 'b']) {
        await machine.cpuhpSetupState(name, { startup: stateUp, teardown: stateDown }, { name })
      }
      await machine.smpCallFunctionSingle(1, takeDiary)
      await startTask(1, attachAgainAfterLeaving)
      await board.reached(WORD.entered)
      await machine.cpuDown(1)
      assert.equal(board.get(WORD.done), 2, 'two teardowns ran')
      await expectBalancedBooks(machine)
    })
  })

  test('interrupts reach the late joiner, and nobody who has left', async () => {
    await withMachine({ cpus: 3, maxCpus: 4, entry }, async ({ machine }) => {
      await machine.cpuDown(1)
      await machine.cpuUp(3)
      assert.deepEqual([...machine.onlineMask], [0, 2, 3])
      assert.deepEqual([...(await machine.smpCallFunction(whoAmI)).keys()], [2, 3])
      machine.sendIpiAllButSelf(0xfc)
      machine.sendIpiMask([2, 3], 0xfc)
      await machine.smpCallFunction(echo, 'behind the vectors')
      const table = machine.interrupts()
      assert.deepEqual(table.cpus, [0, 2, 3])
      assert.ok(table.count('RES', 2) >= 1 && table.count('RES', 3) >= 1)
      assert.equal(table.count('RES', 0), 0)
      await expectBalancedBooks(machine)
    })
  })
})

describe('a CPU goes down and up while everybody calls it', () => {
  for (const callDriver of ['queue', 'callData'] as const) {
    test(`each call runs once, or is refused because the CPU is offline (${callDriver})`, async () => {
      await withMachine({ cpus: 3, entry, callDriver, slotCount: 16 }, async (bench) => {
        const { machine, board } = bench
        const words = [WORD.free, WORD.free + 1]
        const info = (word: number) => ({ target: 1, word, inFlight: 5 })
        const pesterers = [
          (await startTask(0, pester, info(words[0]!))).result,
          (await startTask(2, pester, info(words[1]!))).result,
        ]
        for (let round = 0; round < 4; round++) {
          await board.reached(WORD.sent, board.get(WORD.sent) + 50)
          await settled(machine.cpuDown(1), `cpuDown ${round}`)
          await board.reached(WORD.sent, board.get(WORD.sent) + 5)
          assert.equal(await settled(machine.cpuUp(), `cpuUp ${round}`), 1)
        }
        board.set(WORD.release, 1)
        const outcomes = await settled(Promise.all(pesterers), 'the callers')
        for (const [i, outcome] of outcomes.entries()) {
          assert.deepEqual(Object.keys(outcome).sort(), ['IPI_CPU_OFFLINE', 'answered'])
          assert.equal(board.get(words[i]!), outcome['answered'], 'as many ran as were answered')
        }
        await expectBalancedBooks(machine, [1])
      })
    })
  }

  test('every number is used again, any number of times', async () => {
    await withMachine({ cpus: 4, maxCpus: 4, entry }, async ({ machine }) => {
      const threads = new Set<number>()
      for (const cpu of [1, 2, 3, 2, 1]) {
        await machine.cpuDown(cpu)
        assert.equal(machine.onlineMask.has(cpu), false)
        assert.equal(await machine.cpuUp(), cpu)
        threads.add(await machine.smpCallFunctionSingle(cpu, threadOf))
      }
      assert.equal(threads.size, 5)
      const answers = await machine.smpCallFunction(whoAmI)
      assert.deepEqual(
        [...answers],
        [
          [1, 1],
          [2, 2],
          [3, 3],
        ],
      )
      await expectBalancedBooks(machine, [1, 2, 3])
    })
  })
})

describe('a thread of the application that was a CPU', () => {
  test('serves nothing any more, however often it looks', async () => {
    await withAdopted({ cpus: 2, tasks: entry }, async ({ machine, board, adopt }) => {
      const { result } = await startTask(1, pollUntilReleased)
      await board.reached(WORD.entered)
      await settled(machine.cpuDown(1), 'cpuDown')
      const successor = await adopt(1)
      assert.equal(successor.cpu, 1)
      for (let i = 0; i < 200; i++) {
        const thread = machine.smpCallFunctionSingle(1, threadOf)
        assert.equal(await settled(thread, `call ${i}`), successor.worker.threadId)
      }
      board.set(WORD.release, 1)
      assert.notEqual(await settled(result, 'the task'), successor.worker.threadId)
      await expectBalancedBooks(machine, [1])
    })
  })

  test('is told so when it calls', async () => {
    await withAdopted({ cpus: 2, tasks: entry }, async ({ machine, board }) => {
      const { result } = await startTask(1, callAfterLeaving)
      await board.reached(WORD.entered)
      await machine.cpuDown(1)
      board.set(WORD.release, 1)
      const closed = 'IPI_MACHINE_CLOSED'
      assert.deepEqual(await settled(result, 'the calls'), [closed, closed, closed])
      await expectBalancedBooks(machine)
    })
  })

  test('may attach again', async () => {
    await withAdopted({ cpus: 2, tasks: entry }, async ({ machine, board, adopted }) => {
      const { result } = await startTask(1, attachAgainAfterLeaving)
      await board.reached(WORD.entered)
      await machine.cpuDown(1)
      board.set(WORD.release, 1)
      const { worker } = adopted[0]!
      assert.equal(await settled(machine.bringUp(worker, 3), 'bringUp'), 3)
      assert.equal(await settled(result, 'attach'), 3)
      assert.equal(await machine.smpCallFunctionSingle(3, threadOf), worker.threadId)
      await expectBalancedBooks(machine)
    })
  })
})

test('a call made while its target is on its way down is not forgotten', async () => {
  await withMachine({ cpus: 2, entry }, async ({ machine }) => {
    for (let round = 0; round < 3; round++) {
      const down = machine.cpuDown(1)
      const calls = Array.from({ length: 20 }, (_, n) => machine.smpCallFunctionSingle(1, echo, n))
      const outcomes = await settled(Promise.allSettled(calls), 'the calls')
      await settled(down, 'cpuDown')
      for (const [n, outcome] of outcomes.entries()) {
        if (outcome.status === 'fulfilled') assert.equal(outcome.value, n)
        else assert.equal(outcome.reason.code, 'IPI_CPU_OFFLINE')
      }
      assert.equal(await machine.cpuUp(1), 1)
    }
    await expectBalancedBooks(machine, [1])
  })
})

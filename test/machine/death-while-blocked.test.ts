/**
 * A thread that blocks has no event loop to tell it of a death, and its answer may be what everybody
 * waits for. So a blocked wait looks around by itself: no turn of this loop is needed.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Machine, SmpCallError } from '../../src/index.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import {
  ADDRESS,
  callOther,
  callThenRelease,
  deaf,
  endInHandler,
  SPACE,
  useSpace,
  type Ending,
} from '../support/machine-death-tasks.ts'
import { died, started, withAdopted, withMachine } from '../support/machine-harness.ts'
import { echo, hold, startTask, whoAmI } from '../support/machine-tasks.ts'

const entry = new URL('../support/machine-death-tasks.js', import.meta.url)
const small = { resourceLimits: { maxOldGenerationSizeMb: 24, maxYoungGenerationSizeMb: 4 } }
/** So late that a call which ends sooner was not ended by its deadline. */
const timeoutMs = 15_000
const DIED = { code: 'IPI_CPU_DIED', cpu: 1 }

/** Runs something that blocks, and proves that the event loop did not turn meanwhile. */
function withoutATurn(block: () => void): void {
  let turned = false
  setImmediate(() => (turned = true))
  setTimeout(() => (turned = true), 0)
  block()
  assert.equal(turned, false)
}

/** Afterwards the machine goes on, without the dead. */
async function expectWithout(machine: Machine, cpu: number): Promise<void> {
  await settled(
    (async () => {
      while (machine.presentMask.has(cpu)) await new Promise((resolve) => setTimeout(resolve, 1))
    })(),
    'the burial',
  )
  const others = [...machine.onlineMask.without(0)]
  assert.ok(!others.includes(cpu))
  assert.deepEqual([...machine.smpCallFunctionSync(whoAmI).keys()], others)
  await expectBalancedBooks(machine)
}

describe('this thread is blocked in a call to a thread that ends', () => {
  for (const callDriver of ['queue', 'callData'] as const) {
    for (const how of ['exit', 'out of memory'] as Ending[]) {
      test(`by itself, in the handler: ${how} (${callDriver})`, async () => {
        const options = { cpus: 3, entry, callDriver, workerOptions: small }
        await withMachine(options, async ({ machine }) => {
          withoutATurn(() => {
            const fatal = (): unknown =>
              machine.smpCallFunctionSingleSync(1, endInHandler, { cpu: 1, how }, { timeoutMs })
            assert.throws(fatal, DIED)
          })
          await expectWithout(machine, 1)
        })
      })
    }

    test(`from outside, in the handler (${callDriver})`, async () => {
      await withAdopted({ cpus: 3, tasks: entry, callDriver }, async ({ machine, adopted }) => {
        // The promise of terminate() needs this thread's loop; the end of the thread does not.
        const gone = adopted[0]!.worker.terminate()
        withoutATurn(() => {
          assert.throws(() => machine.smpCallFunctionSingleSync(1, hold, {}, { timeoutMs }), DIED)
        })
        await gone
        await expectWithout(machine, 1)
      })
    })
  }

  test('from outside, its queue unserved: interrupts are off there', async () => {
    await withAdopted({ cpus: 3, tasks: entry }, async ({ machine, board, adopted }) => {
      await startTask(1, deaf)
      await board.reached(WORD.entered)
      const gone = adopted[0]!.worker.terminate()
      withoutATurn(() => {
        assert.throws(() => machine.smpCallFunctionSingleSync(1, echo, 1, { timeoutMs }), DIED)
      })
      await gone
      await expectWithout(machine, 1)
    })
  })

  test('from outside, a worker that ran long before it became a CPU', async () => {
    await withAdopted({ cpus: 1, tasks: entry }, async ({ machine, makeWorker, board }) => {
      const worker = makeWorker()
      await started(worker)
      assert.equal(await machine.bringUp(worker), 1)
      await startTask(1, deaf)
      await board.reached(WORD.entered)
      const gone = worker.terminate()
      withoutATurn(() => {
        assert.throws(() => machine.smpCallFunctionSingleSync(1, echo, 1, { timeoutMs }), DIED)
      })
      await gone
      await expectWithout(machine, 1)
    })
  })

  test('one of several: the answers of the others are not lost', async () => {
    await withMachine({ cpus: 4, entry }, async ({ machine }) => {
      const fatal = (): unknown =>
        machine.smpCallFunctionSync(endInHandler, { cpu: 1, how: 'exit' }, { timeoutMs })
      assert.throws(fatal, (error: SmpCallError) => {
        assert.equal(error.code, 'IPI_CALL_FAILED')
        assert.deepEqual([...error.results.keys()], [2, 3])
        assert.equal((error.errors.get(1) as { code: string }).code, 'IPI_CPU_DIED')
        return true
      })
      await expectWithout(machine, 1)
    })
  })
})

describe('others wait for the dead while this thread is blocked', () => {
  test('in a call: it notices, and everybody goes on', async () => {
    await withAdopted({ cpus: 4, tasks: entry }, async ({ machine, board, adopted }) => {
      // CPU 2 waits for CPU 1. It will let CPU 3 go, for which this thread waits.
      const call = { target: 1, name: 'machine.deafHold' }
      const { result } = await startTask(2, callThenRelease, call)
      await board.reached(WORD.entered)
      const gone = adopted[0]!.worker.terminate()
      withoutATurn(() => {
        assert.equal(machine.smpCallFunctionSingleSync(3, hold, {}, { timeoutMs }), 3)
      })
      assert.equal(await settled(result, 'the call of CPU 2'), 'IPI_CPU_DIED')
      await gone
      await expectWithout(machine, 1)
    })
  })

  test('in a flush of which the dead was asked', async () => {
    await withAdopted(
      { cpus: 3, tasks: entry, tlbDriver: 'tlbstate' },
      async ({ machine, board, adopted }) => {
        await machine.smpCallFunction(useSpace)
        await startTask(1, deaf)
        await board.reached(WORD.entered)
        const space = machine.addressSpace(SPACE)
        const gone = adopted[0]!.worker.terminate()
        withoutATurn(() => space.flushTlbPageSync(ADDRESS))
        assert.equal(space.cpuMask.has(1), false)
        await gone
        await expectWithout(machine, 1)
      },
    )
  })

  test('a worker blocked in a call learns of a death from this thread', async () => {
    await withAdopted({ cpus: 3, tasks: entry }, async ({ machine, board, kill }) => {
      const call = { target: 1, name: 'machine.hold', blocking: true }
      const { result } = await startTask(2, callOther, call)
      await board.reached(WORD.entered)
      await kill(1)
      await assert.rejects(settled(result, 'the call of CPU 2'), { code: 'IPI_CPU_DIED' })
      await expectWithout(machine, 1)
    })
  })
})

test('whoever is told twice of a death is not told two deaths', async () => {
  await withMachine({ cpus: 3, entry }, async ({ machine }) => {
    const deaths: number[] = []
    machine.on('died', ({ cpu }) => deaths.push(cpu))
    const buried = died(machine, 1)
    const fatal = (): unknown =>
      machine.smpCallFunctionSingleSync(1, endInHandler, { cpu: 1, how: 'exit' }, { timeoutMs })
    assert.throws(fatal, DIED)
    await buried
    await expectWithout(machine, 1)
    assert.deepEqual(deaths, [1])
  })
})

/**
 * A thread that ends is a CPU that answers nothing any more: every request addressed to it settles,
 * what it held comes back, and its number can live again (reference 0.9, users' pitfall P17).
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { SmpCallError } from '../../src/index.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import {
  ADDRESS,
  callMain,
  callOther,
  deaf,
  endIdle,
  endInHandler,
  endWhileStopped,
  flushSpace,
  holdsTranslation,
  SPACE,
  useSpace,
  type Ending,
} from '../support/machine-death-tasks.ts'
import {
  died,
  withAdopted,
  withMachine,
  type AdoptedBench,
  type Bench,
} from '../support/machine-harness.ts'
import { echo, runTask, startTask, whoAmI } from '../support/machine-tasks.ts'

const entry = new URL('../support/machine-death-tasks.js', import.meta.url)
const small = { resourceLimits: { maxOldGenerationSizeMb: 24, maxYoungGenerationSizeMb: 4 } }
const SLOTS = 8
const DIED = { code: 'IPI_CPU_DIED' }

/** The dead number lives again, calls and is called, and everything is where it belongs. */
async function expectRebirth({ machine }: Bench, cpu: number, up: Promise<number>): Promise<void> {
  assert.equal(await settled(up, `CPU ${cpu} again`), cpu)
  assert.ok(machine.onlineMask.has(cpu))
  assert.equal(machine.smpCallFunctionSingleSync(cpu, whoAmI), cpu)
  const calls = Array.from({ length: 4 * SLOTS }, (_, n) =>
    machine.smpCallFunctionSingle(cpu, echo, n),
  )
  const answers = await settled(Promise.all(calls), 'calls to the reborn')
  assert.deepEqual(answers, [...answers.keys()])
  assert.equal(await settled(runTask(cpu, callMain, 4 * SLOTS), 'calls of the reborn'), true)
  await expectBalancedBooks(machine, [cpu])
}

describe('a thread that ends by itself', () => {
  const endings: readonly Ending[] = ['exit', 'out of memory']
  for (const how of endings) {
    test(`in a handler (${how}): its caller is told, the others answer`, async () => {
      const options = { cpus: 4, entry, slotCount: SLOTS, workerOptions: small }
      await withMachine(options, async (bench) => {
        const { machine } = bench
        const buried = died(machine, 2)
        const call = machine.smpCallFunction(endInHandler, { cpu: 2, how })
        await assert.rejects(settled(call, 'the call'), (error) => {
          assert.ok(error instanceof SmpCallError)
          assert.deepEqual(
            [...error.results],
            [
              [1, 1],
              [3, 3],
            ],
          )
          assert.deepEqual([...error.errors.keys()], [2])
          const { code, cpu } = error.errors.get(2) as { code: string; cpu: number }
          assert.deepEqual({ code, cpu }, { code: 'IPI_CPU_DIED', cpu: 2 })
          return true
        })
        const cause = await buried
        if (how === 'out of memory') {
          assert.equal((cause as { code?: string }).code, 'ERR_WORKER_OUT_OF_MEMORY')
        }
        assert.deepEqual([...machine.onlineMask], [0, 1, 3])
        await expectBalancedBooks(machine)
        await expectRebirth(bench, 2, machine.cpuUp(2))
      })
    })
  }

  for (const how of ['exit', 'throw'] as const) {
    test(`while idle (${how}): the masks are true again, and it is said`, async () => {
      await withMachine({ cpus: 3, entry, slotCount: SLOTS }, async (bench) => {
        const { machine } = bench
        const buried = died(machine, 1)
        await machine.smpCallFunctionSingle(1, endIdle, how)
        const cause = await buried
        if (how === 'throw') assert.equal((cause as Error).message, 'nobody catches this')
        assert.deepEqual([...machine.onlineMask], [0, 2])
        assert.deepEqual([...machine.presentMask], [0, 2])
        const offline = { code: 'IPI_CPU_OFFLINE', cpu: 1 }
        await assert.rejects(machine.smpCallFunctionSingle(1, echo, 1), offline)
        assert.throws(() => machine.smpCallFunctionSingleSync(1, echo, 1), offline)
        assert.throws(() => machine.sendIpiMask([1], 0x50), offline)
        assert.deepEqual([...(await machine.smpCallFunction(whoAmI))], [[2, 2]])
        await expectBalancedBooks(machine)
        await expectRebirth(bench, 1, machine.cpuUp())
      })
    })
  }

  test('its number is free for whoever is told of the death', async () => {
    await withMachine({ cpus: 2, entry, slotCount: SLOTS }, async (bench) => {
      const { machine } = bench
      const call = machine.smpCallFunctionSingle(1, endInHandler, { cpu: 1, how: 'exit' })
      await assert.rejects(settled(call, 'the call'), DIED)
      await expectRebirth(bench, 1, machine.cpuUp(1))
    })
  })

  test('a CPU that goes down for good may do so by dying: cpuDown ends, the number is free', async () => {
    await withMachine({ cpus: 2, entry, slotCount: SLOTS }, async (bench) => {
      const { machine } = bench
      await machine.cpuhpSetupState(
        'last',
        { teardown: 'machine.endInHandler' },
        {
          cpu: 1,
          how: 'exit',
        },
      )
      await settled(machine.cpuDown(1), 'cpuDown')
      await machine.cpuhpRemoveState('last')
      await expectRebirth(bench, 1, machine.cpuUp(1))
    })
  })
})

describe('a thread that is terminated', () => {
  const terminated = (
    name: string,
    cpus: number,
    run: (bench: AdoptedBench) => Promise<void>,
    callDriver: 'queue' | 'callData' = 'queue',
  ): void => {
    test(name, async () => {
      const options = {
        cpus,
        tasks: entry,
        slotCount: SLOTS,
        callDriver,
        tlbDriver: 'tlbstate',
      } as const
      await withAdopted(options, async (bench) => {
        await run(bench)
        bench.board.clear()
        await expectRebirth(
          bench,
          1,
          bench.adopt(1).then(({ cpu }) => cpu),
        )
      })
    })
  }

  for (const callDriver of ['queue', 'callData'] as const) {
    terminated(
      `in the middle of a handler: its callers are told, wherever they are (${callDriver})`,
      3,
      async ({ machine, board, kill }) => {
        const name = 'machine.hold'
        const { result: other } = await startTask(2, callOther, { target: 1, name })
        await board.reached(WORD.entered)
        const mine = machine.smpCallFunctionSingle(1, echo, 'behind it')
        const told = Promise.allSettled([mine, other])
        await kill(1)
        const codes = (await settled(told, 'both calls')).map(
          (call) => call.status === 'rejected' && (call.reason as { code: unknown }).code,
        )
        assert.deepEqual(codes, ['IPI_CPU_DIED', 'IPI_CPU_DIED'])
      },
      callDriver,
    )

    terminated(
      `with an awaited call out: the target is not disturbed (${callDriver})`,
      3,
      async ({ machine, board, kill }) => {
        await startTask(1, callOther, { target: 2, name: 'machine.hold' })
        await board.reached(WORD.entered)
        await kill(1)
        const mine = machine.smpCallFunctionSingle(2, echo, 'next')
        board.set(WORD.release, 1)
        assert.equal(await settled(mine, 'the call of CPU 0'), 'next')
        await expectBalancedBooks(machine)
      },
      callDriver,
    )

    terminated(
      `blocked in a call (${callDriver}): what it held is free at once`,
      4,
      async ({ machine, board, kill }) => {
        await startTask(1, callOther, { target: 2, name: 'machine.hold', blocking: true })
        await board.reached(WORD.entered)
        await kill(1)
        // CPU 2 is still in the dead CPU's function, and CPU 3 free.
        assert.equal(await settled(machine.smpCallFunctionSingle(3, whoAmI), 'CPU 3'), 3)
        board.set(WORD.release, 1)
        assert.equal(await settled(machine.smpCallFunctionSingle(2, whoAmI), 'CPU 2'), 2)
      },
      callDriver,
    )
  }

  terminated('while idle', 2, async ({ machine, kill }) => {
    await kill(1)
    assert.deepEqual([...machine.presentMask], [0])
    assert.deepEqual(await machine.smpCallFunction(echo, 1), new Map())
  })

  terminated('with requests in its queue: each of them settles', 3, async (bench) => {
    const { machine, board, kill } = bench
    await startTask(1, deaf)
    await board.reached(WORD.entered)
    const mine = Array.from({ length: SLOTS - 1 }, (_, n) =>
      machine.smpCallFunctionSingle(1, echo, n),
    )
    const large = { target: 1, name: 'machine.echo', info: 'large'.repeat(1000) }
    const others = [
      (await startTask(2, callOther, large)).result,
      (await startTask(2, callOther, { target: 1, name: 'machine.echo' })).result,
    ]
    await board.reached(WORD.sent, 2)
    const told = Promise.allSettled([...mine, ...others])
    await kill(1)
    for (const call of await settled(told, 'all calls')) {
      assert.equal(call.status === 'rejected' && call.reason.code, 'IPI_CPU_DIED')
    }
    assert.equal(await machine.smpCallFunctionSingle(2, whoAmI), 2)
  })

  terminated('holding tlbstate_lock: the next flush is not kept waiting', 3, async (bench) => {
    const { machine, board, kill } = bench
    await machine.smpCallFunction(useSpace)
    await startTask(2, deaf)
    await board.reached(WORD.entered)
    await startTask(1, flushSpace)
    await board.reached(WORD.sent)
    await kill(1)
    const flush = machine.addressSpace(SPACE).flushTlbPage(ADDRESS)
    board.set(WORD.release, 1)
    await settled(flush, 'the flush of CPU 0')
    assert.equal(await machine.smpCallFunctionSingle(2, holdsTranslation), false)
  })

  terminated('asked for a flush that it will never do', 3, async (bench) => {
    const { machine, board, kill } = bench
    await machine.smpCallFunction(useSpace)
    await startTask(1, deaf)
    await board.reached(WORD.entered)
    const flush = machine.addressSpace(SPACE).flushTlbPage(ADDRESS)
    const { result: other } = await startTask(2, flushSpace)
    await kill(1)
    await settled(Promise.all([flush, other]), 'the flushes')
    assert.deepEqual([...machine.addressSpace(SPACE).cpuMask], [2])
  })
})

describe('a thread that ends while it has the machine stopped', () => {
  for (const victim of [1, 2]) {
    const role = victim === 1 ? 'that stopped the machine' : 'that runs the function'
    test(`the CPU ${role}: everybody goes on, and the next operation is possible`, async () => {
      await withMachine({ cpus: 4, entry, slotCount: SLOTS }, async (bench) => {
        const { machine } = bench
        const buried = died(machine, victim)
        await startTask(1, endWhileStopped, victim)
        await buried
        const others = [1, 2, 3].filter((cpu) => cpu !== victim)
        const answers = await settled(machine.smpCallFunction(whoAmI), 'a call to the others')
        assert.deepEqual([...answers.keys()], others)
        await expectBalancedBooks(machine)
        await expectRebirth(bench, victim, machine.cpuUp(victim))
      })
    })
  }
})

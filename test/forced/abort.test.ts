/** Aborting tasks between real threads: every kind, every way in, the end that comes first, what is left. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isIpiError, type Machine } from '../../src/index.ts'
import { withAdopted, withMachine, type Bench } from '../support/machine-harness.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { echo, runTask, threadOf } from '../support/machine-tasks.ts'
import {
  abortFrom,
  abortWhenStarted,
  COUNTED_VECTOR,
  countVector,
  DEADLY,
  ENDED,
  ENDLESS,
  enterTooMuch,
  executor,
  lookAround,
  openExecutor,
  READY,
  replaceFrom,
  runNested,
  runTasks,
  SOFT,
  STARTED,
  type DeadlyName,
  type EndlessName,
  type Entered,
  type SoftName,
} from '../support/abort-tasks.ts'

const TASKS = new URL('../support/abort-tasks.js', import.meta.url)
/** Nobody is replaced: what takes so long has failed. */
const PATIENT = { timeoutMs: 15_000 }

function withExecutor(cpus: number, run: (bench: Bench) => Promise<void>): Promise<void> {
  return withMachine({ cpus, entry: TASKS }, async (bench) => {
    for (let cpu = 1; cpu < cpus; cpu++) await settled(runTask(cpu, openExecutor), 'opening')
    await run(bench)
  })
}

/** As one should whose task was aborted in code of Node's. */
async function replace(machine: Machine): Promise<void> {
  assert.equal(await machine.replaceCpu(1), true)
  await settled(runTask(1, openExecutor), 'opening')
}

/** Nothing of an aborted task is left on CPU 1; gives how its executor saw tasks end. */
async function checkHealth(machine: Machine) {
  assert.equal(await settled(machine.smpCallFunctionSingle(1, echo, 5), 'a call'), 5)
  const { aborted, left, ...rest } = await settled(runTask(1, lookAround), 'a task')
  assert.deepEqual(rest, {
    order: 'tick microtask',
    store: undefined,
    asyncId: true,
    irqsDisabled: false,
    inInterrupt: false,
    preemptCount: 0,
    kernelDepth: 0,
    threadFlags: 0,
  })
  // No vector in service or requested that nobody asked for, no lock held. Its thread may be another.
  await expectBalancedBooks(machine, [1])
  return { aborted, left }
}

describe('a task that does not end is aborted, and its thread stays', () => {
  for (const name of Object.keys(ENDLESS) as EndlessName[]) {
    test(name, () =>
      withExecutor(2, async ({ machine, board }) => {
        for (let task = 1; task <= 5; task++) {
          await machine.smpCallFunctionSingle(1, runTasks, { orders: [{ task, name }] })
          await board.reached(STARTED, task)
          const outcome = await machine.abortTask(1, task, PATIENT)
          assert.match(outcome, /^(?:aborted|unsafe)$/)
          await board.reached(ENDED, task)
          const { aborted, left } = await checkHealth(machine)
          assert.deepEqual(aborted, [{ task, isSafe: outcome === 'aborted' }])
          assert.deepEqual(left, [])
          if (outcome === 'unsafe') await replace(machine)
        }
      }),
    )
  }
})

test('a task in code of Node is aborted there only after 50 ms, and the outcome says so', () =>
  withExecutor(2, async ({ machine, board }) => {
    await machine.smpCallFunctionSingle(1, runTasks, {
      orders: [{ task: 1, name: 'code of Node' }],
    })
    await board.reached(STARTED, 1)
    // It makes its lists first.
    await board.reached(READY)
    const start = performance.now()
    assert.equal(await machine.abortTask(1, 1, PATIENT), 'unsafe')
    assert.ok(performance.now() - start >= 50)
    const { aborted } = await checkHealth(machine)
    assert.deepEqual(aborted, [{ task: 1, isSafe: false }])
  }))

test('an interrupt that waited for a task to turn interrupts on is taken once, after its abort', () =>
  withExecutor(2, async ({ machine, board }) => {
    await machine.smpCallFunctionSingle(1, countVector)
    for (let task = 1; task <= 5; task++) {
      const orders = [{ task, name: 'interrupts off' }] as const
      await machine.smpCallFunctionSingle(1, runTasks, { orders })
      await board.reached(READY, task)
      machine.sendIpiMask([1], COUNTED_VECTOR)
      assert.equal(await machine.abortTask(1, task, PATIENT), 'aborted')
      await board.reached(WORD.counted, task)
      await checkHealth(machine)
      assert.equal(board.get(WORD.counted), task)
    }
  }))

describe('a task that looks up, or waits in the library, is aborted by an error', () => {
  for (const name of Object.keys(SOFT) as SoftName[]) {
    test(name, () =>
      withExecutor(3, async ({ machine, board }) => {
        for (let task = 1; task <= 5; task++) {
          await machine.smpCallFunctionSingle(1, runTasks, { orders: [{ task, name }] })
          await board.reached(STARTED, task)
          assert.equal(await machine.abortTask(1, task, PATIENT), 'aborted')
          await board.reached(ENDED, task)
          board.set(WORD.release, 1)
          await checkHealth(machine)
          board.set(WORD.release, 0)
        }
      }),
    )
  }
})

describe('however the executor was called', () => {
  for (const from of [
    'setImmediate',
    'setTimeout',
    'nextTick',
    'a microtask',
    'an async scope',
  ] as const satisfies readonly Entered[]) {
    for (const name of ['spin', 'als.run', 'AsyncResource'] as const) {
      test(`by ${from}: ${name}`, () =>
        withExecutor(2, async ({ machine, board }) => {
          for (let task = 1; task <= 5; task++) {
            const orders = [
              { task, name },
              { task: task + 100, name: 'quick' },
            ] as const
            await machine.smpCallFunctionSingle(1, runTasks, { orders, from })
            await board.reached(STARTED, task)
            assert.equal(await machine.abortTask(1, task, PATIENT), 'aborted')
            await board.reached(ENDED, task + 100)
            const { aborted, left } = await checkHealth(machine)
            assert.deepEqual(aborted, [{ task, isSafe: true }])
            assert.deepEqual(left, [{ task: task + 100, wasAsked: false, error: undefined }])
            board.set(ENDED, 0)
            board.set(STARTED, 0)
          }
        }))
    }
  }
})

test('a task that ends by itself just then is not hit, nor is another', () =>
  withExecutor(2, async ({ machine, board }) => {
    const outcomes = new Map<string, number>()
    let next = 1
    // As long as an abort takes, on whatever machine this is: longer if it came too late, else shorter.
    let rounds = 20_000
    for (let round = 0; round < 300; round++) {
      const orders = Array.from({ length: 20 }, (_, i) => ({
        task: next + i,
        name: i % 2 === 0 ? ('quick' as const) : ('a little longer' as const),
        rounds,
      }))
      next += orders.length
      await machine.smpCallFunctionSingle(1, runTasks, { orders })
      const task = next - 1 - (round % 20)
      while (board.get(STARTED) < task - 1);
      const outcome = await machine.abortTask(1, task, PATIENT)
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
      if (outcome === 'aborted') rounds = Math.max(20_000, rounds / 2)
      else if (orders[task - orders[0]!.task]!.name !== 'quick') rounds *= 2
      await board.reached(ENDED, next - 1)
      const { aborted, left } = await checkHealth(machine)
      const expected = outcome === 'aborted' ? [{ task, isSafe: true }] : []
      assert.deepEqual(aborted, expected)
      assert.equal(left.length + aborted.length, orders.length, 'every task has ended once')
      assert.ok(left.every((each) => !each.wasAsked || each.task === task))
      assert.ok(left.every((each) => each.error === undefined))
    }
    assert.deepEqual([...outcomes.keys()].sort(), ['aborted', 'finished'], 'both came to pass')
  }))

describe('a task that cannot be aborted', () => {
  for (const name of Object.keys(DEADLY) as DeadlyName[]) {
    test(`is ended with its thread, which is replaced: ${name}`, () =>
      withExecutor(2, async ({ machine, board }) => {
        const before = await machine.smpCallFunctionSingle(1, threadOf)
        await machine.smpCallFunctionSingle(1, runTasks, { orders: [{ task: 7, name }] })
        await board.reached(STARTED, 7)
        assert.equal(await machine.abortTask(1, 7, { timeoutMs: 300 }), 'replaced')
        assert.notEqual(await machine.smpCallFunctionSingle(1, threadOf), before)
      }))
  }

  test('is ended with its thread by another CPU than the boot CPU', () =>
    withExecutor(3, async ({ machine, board }) => {
      const order = { task: 7, name: 'a handler' } as const
      await machine.smpCallFunctionSingle(1, runTasks, { orders: [order] })
      await board.reached(STARTED, 7)
      const outcome = runTask(2, abortFrom, { cpu: 1, task: 7, timeoutMs: 300 })
      assert.equal(await settled(outcome, 'the abort'), 'replaced')
      assert.equal(await machine.smpCallFunctionSingle(1, echo, 1), 1)
    }))

  test('on a thread of the application ends that, and nothing takes its place', () =>
    withAdopted({ cpus: 2, tasks: TASKS }, async ({ machine, board }) => {
      await settled(runTask(1, openExecutor), 'opening')
      await machine.smpCallFunctionSingle(1, runTasks, { orders: [{ task: 7, name: 'a handler' }] })
      await board.reached(STARTED, 7)
      assert.equal(await machine.abortTask(1, 7, { timeoutMs: 300 }), 'ended')
      assert.deepEqual([...machine.onlineMask], [0])
    }))
})

test('any CPU may ask, several at once, and all hear what came of it', () =>
  withExecutor(4, async ({ machine, board }) => {
    for (let task = 1; task <= 20; task++) {
      await machine.smpCallFunctionSingle(1, runTasks, { orders: [{ task, name: 'spin' }] })
      await board.reached(STARTED, task)
      const asked = { cpu: 1, task, timeoutMs: 15_000 }
      const outcomes = await Promise.all([
        machine.abortTask(1, task, PATIENT),
        machine.abortTask(1, task, PATIENT),
        settled(runTask(2, abortFrom, asked), 'the abort by CPU 2'),
        settled(runTask(3, abortFrom, asked), 'the abort by CPU 3'),
      ])
      assert.deepEqual(outcomes, ['aborted', 'aborted', 'aborted', 'aborted'])
    }
    await checkHealth(machine)
  }))

describe('a task in front of another', () => {
  test('is aborted alone, and the one behind goes on', () =>
    withExecutor(2, async ({ machine, board }) => {
      await machine.smpCallFunctionSingle(1, runNested, { outer: 1, inner: 2 })
      await board.reached(STARTED, 2)
      assert.equal(await machine.abortTask(1, 2, PATIENT), 'aborted')
      await board.reached(ENDED, 1)
      const { aborted, left } = await checkHealth(machine)
      assert.deepEqual(aborted, [{ task: 2, isSafe: true }])
      assert.deepEqual(left, [{ task: 1, wasAsked: false, error: undefined }])
    }))

  test('is not hit when the one behind is, which is aborted after it', () =>
    withExecutor(2, async ({ machine, board }) => {
      await machine.smpCallFunctionSingle(1, runNested, { outer: 1, inner: 2, endless: true })
      await board.reached(STARTED, 2)
      const outcome = machine.abortTask(1, 1, PATIENT)
      const inner = await machine.abortTask(1, 2, PATIENT)
      assert.deepEqual([inner, await settled(outcome, 'the outer abort')], ['aborted', 'aborted'])
      const { aborted } = await checkHealth(machine)
      assert.deepEqual(aborted, [
        { task: 2, isSafe: true },
        { task: 1, isSafe: true },
      ])
    }))
})

describe('what is refused', () => {
  const codeOf = async (promise: Promise<unknown>): Promise<unknown> =>
    promise.then(
      (value) => value,
      (error: unknown) => (isIpiError(error) ? error.code : error),
    )

  test('a CPU that is not there, a number that is none, a context that may not wait', () =>
    withExecutor(2, async ({ machine }) => {
      assert.equal(await codeOf(machine.abortTask(9, 1)), 'IPI_INVALID_CPU')
      assert.equal(await codeOf(machine.abortTask(1, 0)), 'IPI_INVALID_ARGUMENT')
      assert.equal(await codeOf(machine.abortTask(1, 2 ** 29)), 'IPI_INVALID_ARGUMENT')
      assert.equal(await codeOf(machine.abortTask(1, 1, { timeoutMs: -1 })), 'IPI_INVALID_ARGUMENT')
      machine.cpu.localIrqDisable()
      const refused = machine.abortTask(1, 1)
      await refused.catch(() => undefined)
      machine.cpu.localIrqEnable()
      assert.equal(await codeOf(refused), 'IPI_WOULD_DEADLOCK')
      assert.equal(await codeOf(machine.replaceCpu(0)), 'IPI_CPU_BUSY')
      await machine.cpuDown(1)
      assert.equal(await codeOf(machine.abortTask(1, 1)), 'IPI_CPU_OFFLINE')
    }))

  test('a task that nobody runs has finished', () =>
    withExecutor(2, async ({ machine }) => {
      assert.equal(await machine.abortTask(1, 12), 'finished')
    }))

  test('a fifth task on one stack, and numbers that are none', () =>
    withExecutor(2, async () => {
      assert.deepEqual(await settled(runTask(1, enterTooMuch), 'the task'), [
        'IPI_INVALID_ARGUMENT',
        'IPI_INVALID_ARGUMENT',
        'IPI_INVALID_ARGUMENT',
      ])
    }))

  test('a task of CPU 0 is aborted at safepoints only', () =>
    withExecutor(2, async ({ board }) => {
      await openExecutor.run(undefined)
      const order = { task: 3, name: 'cpu.poll()' } as const
      const asked = { cpu: 0, task: 3, timeoutMs: 15_000 }
      await settled(runTask(1, abortWhenStarted, asked), 'the start')
      runTasks({ orders: [order] })
      await board.reached(ENDED, 3)
      assert.deepEqual(executor.left.splice(0), [{ task: 3, wasAsked: true, error: 'IPI_ABORTED' }])
    }))
})

test('replaceCpu gives a CPU another thread, asked by any CPU', () =>
  withExecutor(3, async ({ machine }) => {
    const before = await machine.smpCallFunctionSingle(1, threadOf)
    assert.equal(await machine.replaceCpu(1), true)
    const between = await machine.smpCallFunctionSingle(1, threadOf)
    assert.notEqual(between, before)
    assert.equal(await settled(runTask(2, replaceFrom, 1), 'the replacement'), true)
    assert.notEqual(await machine.smpCallFunctionSingle(1, threadOf), between)
  }))

/**
 * NMIs between real threads, in every state in which a thread does not look up: from the main thread
 * to a worker, back, and from worker to worker past a main thread that is busy itself.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { isIpiError, type Machine } from '../../src/index.ts'
import { withMachine, type Bench } from '../support/machine-harness.ts'
import { settled, until, WORD } from '../support/machine-board.ts'
import { startTask } from '../support/machine-tasks.ts'
import { withFifo } from '../support/forced-fifo.ts'
import {
  diveUntilTold,
  holdHandler,
  irqsDisabledNow,
  NMIS,
  readFifo,
  sendWhenEntered,
  STATES,
  stay,
  tenFromInside,
  watchNmis,
  type StateName,
} from '../support/forced-tasks.ts'

const TASKS = new URL('../support/forced-tasks.js', import.meta.url)
const ADOPTED = new URL('../support/machine-adopted.js', import.meta.url)
const SLOW = new URL('../support/forced-slow-entry.js', import.meta.url)
const NAMES = Object.keys(STATES) as StateName[]

/** A machine whose CPUs count their NMIs on the board. */
function withNmis(cpus: number, run: (bench: Bench) => Promise<void>): Promise<void> {
  return withMachine({ cpus, maxCpus: 4, entry: TASKS, haltPollMs: 0 }, async (bench) => {
    await bench.machine.cpuhpSetupState('nmis', { startup: watchNmis })
    await run(bench)
  })
}

const count = (machine: Machine, cpu: number): number => machine.interrupts().count('NMI', cpu)

describe('an NMI reaches a worker', () => {
  for (const name of NAMES) {
    test(name, () =>
      withNmis(2, async ({ machine, board }) => {
        const { result } = await startTask(1, stay, name)
        await board.reached(WORD.entered)
        machine.sendNmi([1])
        await settled(result, 'the task')
        assert.equal(board.get(NMIS + 1), 1)
        assert.equal(count(machine, 1), 1)
      }),
    )
  }

  test('in a native call, when that returns', () =>
    withFifo((path, letGo) =>
      withNmis(2, async ({ machine, board }) => {
        const { result } = await startTask(1, readFifo, path)
        await board.reached(WORD.entered)
        machine.sendNmi([1])
        // Nobody is held up by it: others are reached meanwhile.
        machine.sendNmi([0])
        assert.equal(board.get(NMIS), 1)
        assert.equal(board.get(NMIS + 1), 0)
        letGo()
        await settled(result, 'the task')
        await board.reached(NMIS + 1)
      }),
    ))

  test('in a handler', () =>
    withNmis(2, async ({ machine, board }) => {
      const call = machine.smpCallFunctionSingle(1, holdHandler)
      await board.reached(WORD.entered)
      machine.sendNmi([1])
      await settled(call, 'the call')
      assert.equal(board.get(NMIS + 1), 1)
    }))
})

describe('an NMI from a worker reaches the main thread', () => {
  for (const name of NAMES) {
    test(name, () =>
      withNmis(2, async ({ board }) => {
        await startTask(1, sendWhenEntered, { target: 0, entered: 1 })
        await settled(Promise.resolve(STATES[name]()), name)
        assert.equal(board.get(NMIS), 1)
      }),
    )
  }
})

describe('an NMI from a worker reaches another, while the main thread is', () => {
  // Out of WebAssembly only an NMI of its own would bring it.
  for (const name of NAMES.filter((each) => !/WebAssembly|wait32/.test(each))) {
    test(name, () =>
      withNmis(3, async ({ board }) => {
        const { result } = await startTask(2, stay, 'in a loop')
        await startTask(1, sendWhenEntered, { target: 2, entered: 2 })
        await settled(Promise.resolve(STATES[name]()), name)
        await settled(result, 'the task')
        assert.equal(board.get(NMIS + 2), 1)
        assert.equal(board.get(NMIS), 0)
      }),
    )
  }
})

describe('an NMI', () => {
  test('to several CPUs, the sender among them, runs once on each', () =>
    withNmis(3, async ({ machine, board }) => {
      const { result } = await startTask(2, stay, 'in a loop')
      await board.reached(WORD.entered)
      machine.sendNmi([0, 1, 2])
      assert.equal(board.get(NMIS), 1, 'its own at once')
      await settled(result, 'the task')
      for (const cpu of [1, 2]) await board.reached(NMIS + cpu)
      assert.deepEqual(
        [0, 1, 2].map((cpu) => count(machine, cpu)),
        [1, 1, 1],
      )
    }))

  test('D-107 to oneself is taken with interrupts off', () =>
    withNmis(1, ({ machine, board }) => {
      const flags = machine.cpu.localIrqSave()
      machine.sendNmi([0])
      assert.equal(board.get(NMIS), 1)
      machine.cpu.localIrqRestore(flags)
      return Promise.resolve()
    }))

  test('D-102, D-103 sent ten times from inside its handler runs once more', () =>
    withNmis(2, async ({ machine, board }) => {
      await machine.smpCallFunctionSingle(1, tenFromInside)
      const { result } = await startTask(1, stay, 'in a loop')
      await board.reached(WORD.entered)
      machine.sendNmi([1])
      await settled(result, 'the task')
      await board.reached(WORD.done, 2)
      await machine.smpCallFunctionSingle(1, watchNmis)
      assert.equal(board.get(WORD.done), 2)
    }))

  test('a thousand in a row are all taken, or merge; after the last one, one is taken', () =>
    withNmis(2, async ({ machine, board }) => {
      const { result } = await startTask(1, stay, 'in a loop')
      await board.reached(WORD.entered)
      for (let i = 0; i < 1000; i++) machine.sendNmi([1])
      const before = board.get(NMIS + 1)
      machine.sendNmi([1])
      await board.reached(NMIS + 1, before + 1)
      await settled(result, 'the task')
      assert.ok(board.get(NMIS + 1) <= 1001)
    }))

  test('that finds no room on the stack is taken when there is some; none is lost', () =>
    withNmis(2, async ({ machine, board }) => {
      await machine.smpCallFunctionSingle(1, diveUntilTold)
      await board.reached(WORD.entered)
      for (let i = 1; i <= 100; i++) {
        machine.sendNmi([1])
        await board.reached(NMIS + 1, i)
      }
      board.set(WORD.done, 1)
      // Whatever came meanwhile has left its interrupts as they were.
      assert.equal(
        await settled(machine.smpCallFunctionSingle(1, irqsDisabledNow), 'the call'),
        true,
      )
      assert.equal(count(machine, 1), 100)
    }))

  test('to a thread that is still coming up is refused, and others are reached meanwhile', () =>
    withNmis(2, async ({ machine, board }) => {
      const gate = new Int32Array(new SharedArrayBuffer(8))
      const worker = new Worker(ADOPTED, { workerData: { tasks: SLOW.href, gate } })
      await until(
        () => Atomics.load(gate, 1) === worker.threadId,
        () => 'the thread does not start',
      )
      const up = machine.bringUp(worker, 2)
      assert.throws(() => machine.sendNmi([2]), { code: 'IPI_CPU_OFFLINE' })
      // Node attaches to the new thread as well, which is in the middle of its imports.
      machine.sendNmi([1])
      await board.reached(NMIS + 1)
      Atomics.store(gate, 0, 1)
      Atomics.notify(gate, 0)
      await settled(up, 'the bring-up')
      machine.sendNmi([2])
      await board.reached(NMIS + 2)
      assert.deepEqual([board.get(NMIS + 1), board.get(NMIS + 2)], [1, 1])
    }))

  test('to a CPU that is not there is refused', () =>
    withNmis(2, async ({ machine }) => {
      const codeOf = (cpu: number): string => {
        try {
          machine.sendNmi([cpu])
        } catch (error) {
          return isIpiError(error) ? error.code : String(error)
        }
        return 'sent'
      }
      assert.equal(codeOf(3), 'IPI_CPU_OFFLINE')
      assert.equal(codeOf(300), 'IPI_INVALID_CPU')
      await machine.cpuDown(1)
      assert.equal(codeOf(1), 'IPI_CPU_OFFLINE', 'it has left')
    }))
})

test('a CPU that comes back as another thread is reached again', () =>
  withNmis(2, async ({ machine, board }) => {
    for (let life = 1; life <= 3; life++) {
      const { result } = await startTask(1, stay, 'in a loop')
      await board.reached(WORD.entered)
      machine.sendNmi([1])
      await settled(result, 'the task')
      assert.equal(board.get(NMIS + 1), 1, `life ${life}`)
      await machine.cpuDown(1)
      board.clear()
      await machine.cpuUp(1)
    }
  }))

/** Calls, flushes and vectors that are delivered by force, and those that must not be. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isIpiError, type StuckCall } from '../../src/index.ts'
import { settled, until, WORD } from '../support/machine-board.ts'
import { withMachine, type Bench } from '../support/machine-harness.ts'
import { startTask } from '../support/machine-tasks.ts'
import {
  callWhileInterrupted,
  COUNTS,
  countSafely,
  loopUntil,
  loopUntilFlushed,
  release,
  releaseUnsafely,
  requestVectors,
  sendSlowValue,
  stay,
  VECTORS,
  type StateName,
} from '../support/forced-tasks.ts'

const TASKS = new URL('../support/forced-tasks.js', import.meta.url)
const FORCE = { forceAfterMs: 5 }

function withCpus(cpus: number, run: (bench: Bench) => Promise<void>, options = {}): Promise<void> {
  return withMachine({ cpus, entry: TASKS, haltPollMs: 0, ...options }, run)
}

/** The error that a promise ends with. */
async function errorOf(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(isIpiError(error), String(error))
  return error
}

describe('a call of an interrupt-safe function is answered by a CPU that is', () => {
  const names: StateName[] = ['in a loop', 'in an optimised loop', 'in Atomics.wait', 'idle']
  for (const name of [...names, 'in its microtasks'] as StateName[]) {
    test(name, () =>
      withCpus(2, async ({ machine, board }) => {
        const { result } = await startTask(1, stay, name)
        await board.reached(WORD.entered)
        const answer = machine.smpCallFunctionSingle(1, release, { name }, FORCE)
        assert.deepEqual(await settled(answer, 'the call'), { name })
        await settled(result, 'the task')
      }),
    )
  }

  test('in a loop, from a call that blocks', () =>
    withCpus(2, async ({ machine, board }) => {
      const { result } = await startTask(1, stay, 'in a loop')
      await board.reached(WORD.entered)
      assert.equal(machine.smpCallFunctionSingleSync(1, release, 7, FORCE), 7)
      await settled(result, 'the task')
    }))

  test('in a loop, by the setting of the machine, one of several', () =>
    withCpus(
      3,
      async ({ machine, board }) => {
        const { result } = await startTask(2, stay, 'in a loop')
        await board.reached(WORD.entered)
        const answers = await settled(machine.smpCallFunction(release, 'x'), 'the call')
        assert.deepEqual(
          [...answers],
          [
            [1, 'x'],
            [2, 'x'],
          ],
        )
        await settled(result, 'the task')
      },
      FORCE,
    ))
})

describe('what is not interrupt-safe', () => {
  test('waits, and the error says why it was not forced', () =>
    withCpus(2, async ({ machine, board }) => {
      const { result } = await startTask(1, loopUntil, WORD.done)
      await board.reached(WORD.entered)
      const options = { ...FORCE, timeoutMs: 100 }
      const error = await errorOf(machine.smpCallFunctionSingle(1, releaseUnsafely, 0, options))
      assert.equal(error.code, 'IPI_TIMEOUT')
      assert.match(error.message, /not forced on them: "forced.releaseUnsafely" is not shared with/)
      board.set(WORD.done, 1)
      await settled(result, 'the task')
      assert.equal(board.get(WORD.release), 0, 'it was given up before it had run')
    }))

  test('is not passed by what is: the queue stays in order', () =>
    withCpus(2, async ({ machine, board }) => {
      const { result } = await startTask(1, loopUntil, WORD.done)
      await board.reached(WORD.entered)
      const first = machine.smpCallFunctionSingle(1, releaseUnsafely)
      const options = { ...FORCE, timeoutMs: 100 }
      const error = await errorOf(machine.smpCallFunctionSingle(1, countSafely, 0, options))
      assert.match(error.message, /entered by force \d+ times, in vain/)
      assert.equal(board.get(WORD.counted), 0)
      assert.equal(board.get(WORD.release), 0)
      board.set(WORD.done, 1)
      await settled(result, 'the task')
      await settled(first, 'the call before it')
    }))

  test('interrupts off keep safe functions out, too, until they are on', () =>
    withCpus(2, async ({ machine, board }) => {
      machine.onSchedule(() => undefined)
      const { result } = await startTask(1, stay, 'in a loop, interrupts off')
      await board.reached(WORD.entered)
      const call = machine.smpCallFunctionSingle(1, countSafely, 3, FORCE)
      const short = { ...FORCE, timeoutMs: 50 }
      await errorOf(machine.smpCallFunctionSingle(1, countSafely, 4, short))
      assert.equal(board.get(WORD.counted), 0)
      board.set(WORD.release, 1)
      assert.equal(await settled(call, 'the call'), 3)
      await settled(result, 'the task')
      assert.equal(board.get(WORD.counted), 1)
    }))

  test('is told by the watchdog', () =>
    withCpus(
      2,
      async ({ machine, board }) => {
        const reports: StuckCall[] = []
        machine.on('stuck', (report) => void (report.kind === 'call' && reports.push(report)))
        const { result } = await startTask(1, loopUntil, WORD.done)
        await board.reached(WORD.entered)
        const call = machine.smpCallFunctionSingle(1, releaseUnsafely, 0, FORCE)
        await until(
          () => reports.length > 0,
          () => 'no report',
        )
        assert.match(reports[0]!.force, /^It was not forced on them/)
        board.set(WORD.done, 1)
        await settled(Promise.all([result, call]), 'the task and the call')
      },
      { watchdogMs: 20 },
    ))
})

test('a call that is being sent is not entered: its value is half written', () =>
  withCpus(3, async ({ machine, board }) => {
    const { result } = await startTask(1, sendSlowValue, 2)
    await board.reached(WORD.entered)
    const call = machine.smpCallFunctionSingle(1, countSafely, ['x', 1], FORCE)
    const short = { ...FORCE, timeoutMs: 50 }
    const error = await errorOf(machine.smpCallFunctionSingle(1, countSafely, ['y', 2], short))
    assert.match(error.message, /interrupts off/)
    board.set(WORD.release, 1)
    assert.deepEqual(await settled(call, 'the call'), ['x', 1])
    const echoed = await settled(result, 'the call in the task')
    assert.deepEqual(echoed, { first: 'first', slow: 'slow', last: ['last'] })
  }))

test('a rescheduling that nobody waits for gets into a loop, if the scheduler may', () =>
  withCpus(
    3,
    async ({ machine, board }) => {
      await machine.smpCallFunctionSingle(1, requestVectors, { safeSchedule: true })
      await machine.smpCallFunctionSingle(2, requestVectors, { safeSchedule: false })
      const loops = [
        await startTask(1, loopUntil, WORD.done),
        await startTask(2, loopUntil, WORD.done),
      ]
      await board.reached(WORD.entered, 2)
      machine.reschedTask(2)
      machine.reschedTask(1)
      await board.reached(COUNTS.schedule)
      assert.equal(board.get(COUNTS.schedule), 1, 'the other waits for a safepoint')
      board.set(WORD.done, 1)
      await settled(Promise.all(loops.map(({ result }) => result)), 'the loops')
      assert.equal(board.get(COUNTS.schedule), 2)
    },
    FORCE,
  ))

test('a flush gets into a loop', () =>
  withCpus(
    2,
    async ({ machine, board }) => {
      const { result } = await startTask(1, loopUntilFlushed)
      await board.reached(WORD.entered)
      await settled(machine.addressSpace('forced').flushTlbPage(7), 'the flush')
      await settled(result, 'the loop')
    },
    FORCE,
  ))

describe('an entry for something else takes with it', () => {
  for (const safeSchedule of [true, false]) {
    const what = safeSchedule ? 'and a scheduler' : 'and leaves a scheduler that is not'
    test(`a vector that is interrupt-safe, ${what}`, () =>
      withCpus(2, async ({ machine, board }) => {
        await machine.smpCallFunctionSingle(1, requestVectors, { safeSchedule })
        const { result } = await startTask(1, loopUntil, WORD.done)
        await board.reached(WORD.entered)
        machine.sendIpiMask([1], VECTORS.unsafe)
        machine.sendIpiMask([1], VECTORS.safe)
        if (safeSchedule) machine.reschedTask(1)
        machine.sendNmi([1])
        await board.reached(COUNTS.safe)
        if (safeSchedule) await board.reached(COUNTS.schedule)
        else machine.reschedTask(1)
        machine.sendNmi([1])
        await until(
          () => machine.interrupts().count('NMI', 1) === 2,
          () => 'the second NMI',
        )
        assert.equal(board.get(COUNTS.unsafe), 0)
        if (!safeSchedule) assert.equal(board.get(COUNTS.schedule), 0)
        board.set(WORD.done, 1)
        await settled(result, 'the loop')
        assert.equal(board.get(COUNTS.unsafe), 1, 'at the safepoint')
        assert.equal(board.get(COUNTS.schedule), 1)
      }))
  }
})

test('a thousand entries in the middle of calls, sends and flushes: nothing is lost or mixed up', () =>
  withCpus(3, async ({ machine, board }) => {
    for (const cpu of [1, 2]) {
      await machine.smpCallFunctionSingle(cpu, requestVectors, { safeSchedule: true })
    }
    const info = { target: 2, word: WORD.free + 30 }
    const { result } = await startTask(1, callWhileInterrupted, info)
    await board.reached(WORD.entered)
    for (let round = 0; round < 250; round++) {
      const value = { round, big: [round, 'y'.repeat(round * 3)] }
      const call = machine.smpCallFunctionSingle(1, countSafely, value, FORCE)
      const map = machine.smpCallFunctionSingle(1, countSafely, new Map([[round, 1]]), FORCE)
      machine.sendIpiMask([1], VECTORS.safe)
      for (let i = 0; i < 4; i++) machine.sendNmi([1])
      assert.deepEqual(await settled(call, `call ${round}`), value)
      assert.deepEqual(await settled(map, `call ${round} by port`), new Map([[round, 1]]))
    }
    assert.equal(board.get(WORD.counted), 500)
    board.set(WORD.release, 1)
    const rounds = await settled(result, 'the caller')
    assert.ok(rounds > 10, `${rounds} rounds meanwhile`)
    assert.ok(machine.interrupts().count('NMI', 1) > 250)
  }))

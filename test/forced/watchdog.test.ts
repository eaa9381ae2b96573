/** The watchdog of stuck calls on real threads: it tells what runs on the CPU that does not answer. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Machine, StuckCall } from '../../src/index.ts'
import { EVENT } from '../../src/kernel/cpu.ts'
import { withFifo } from '../support/forced-fifo.ts'
import { namedLoop, namedWait, readFifo } from '../support/forced-tasks.ts'
import { settled, until, WORD } from '../support/machine-board.ts'
import { withMachine, type Bench } from '../support/machine-harness.ts'
import { echo, startTask } from '../support/machine-tasks.ts'

const TASKS = new URL('../support/forced-tasks.js', import.meta.url)
const LIMIT_MS = 50

function watched(cpus: number, run: (bench: Bench) => Promise<void>): Promise<void> {
  return withMachine({ cpus, entry: TASKS, haltPollMs: 0, watchdogMs: LIMIT_MS }, run)
}

/** What a machine tells of its calls from now on. */
function listen(machine: Machine): StuckCall[] {
  const reports: StuckCall[] = []
  machine.on('stuck', (report) => void (report.kind === 'call' && reports.push(report)))
  return reports
}

function told(reports: StuckCall[], count = 1): Promise<void> {
  return until(
    () => reports.length >= count,
    () => `${reports.length} reports`,
  )
}

describe('a call that is stuck is reported with what its targets run', () => {
  test('when it is awaited', () =>
    watched(3, async ({ machine, board }) => {
      const loop = await startTask(1, namedLoop)
      const wait = await startTask(2, namedWait)
      await board.reached(WORD.entered, 2)
      const reports = listen(machine)
      const call = machine.smpCallFunction(echo)
      await told(reports)
      const [{ targets, stacks, waitedMs }] = reports as [StuckCall]
      assert.deepEqual(targets, [1, 2])
      assert.match(stacks[0]!, /innermostLoop.*\n.*outerLoop/)
      assert.match(stacks[1]!, /Atomics\.wait/)
      assert.ok(waitedMs >= LIMIT_MS)
      board.set(WORD.release, 1)
      await settled(Promise.all([call, loop.result, wait.result]), 'the call and the tasks')
      assert.equal(reports.length, 1, 'once')
    }))

  test('when it blocks its caller', () =>
    watched(2, async ({ machine, board }) => {
      const { result } = await startTask(1, namedLoop)
      await board.reached(WORD.entered)
      const reports = listen(machine)
      machine.on('stuck', () => board.set(WORD.release, 1))
      machine.smpCallFunctionSingleSync(1, echo, 1)
      assert.equal(reports.length, 1)
      assert.match(reports[0]!.stacks[0]!, /innermostLoop/)
      await settled(result, 'the loop')
    }))

  test('while backtraces are asked for by the same CPU', () =>
    watched(2, async ({ machine, board }) => {
      const { result } = await startTask(1, namedLoop)
      await board.reached(WORD.entered)
      const reports = listen(machine)
      const call = machine.smpCallFunctionSingle(1, echo)
      while (reports.length === 0) {
        const seen = await settled(machine.backtrace([1]), 'a backtrace')
        assert.match(seen.cpu(1)!.stack, /innermostLoop/)
      }
      assert.match(reports[0]!.stacks[0]!, /innermostLoop/)
      board.set(WORD.release, 1)
      await settled(Promise.all([call, result]), 'the call and the loop')
    }))
})

test('a target that does not say is waited for no longer than a second; the others are told of', () =>
  withFifo((path, letGo) =>
    watched(3, async ({ machine, board }) => {
      const loop = await startTask(1, namedLoop)
      const read = await startTask(2, readFifo, path)
      await board.reached(WORD.entered, 2)
      const reports = listen(machine)
      const call = machine.smpCallFunction(echo)
      await told(reports)
      letGo()
      const [{ targets, stacks }] = reports as [StuckCall]
      assert.deepEqual(targets, [1, 2])
      assert.match(stacks[0]!, /innermostLoop/)
      assert.equal(stacks[1], '')
      board.set(WORD.release, 1)
      await settled(Promise.all([call, loop.result, read.result]), 'the call and the tasks')
    }),
  ))

test('where nobody listens nobody is asked', () =>
  watched(2, async ({ machine, board }) => {
    const { result } = await startTask(1, namedLoop)
    await board.reached(WORD.entered)
    const call = machine.smpCallFunctionSingle(1, echo)
    // The watchdog has looked when it has sent the interrupt again.
    const sent = machine.cpu.readCount(0, EVENT.ipisSent)
    await until(
      () => machine.cpu.readCount(0, EVENT.ipisSent) > sent,
      () => 'the watchdog has not looked',
    )
    assert.equal(machine.interrupts().total('NMI'), 0)
    board.set(WORD.release, 1)
    await settled(Promise.all([call, result]), 'the call and the loop')
    assert.equal(machine.interrupts().total('NMI'), 0)
  }))

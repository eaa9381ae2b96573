/** Stopping CPUs that take no interrupts: by NMI, as native_stop_other_cpus does. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import { holdHandler, namedLoop, namedLoopOff, readFifo } from '../support/forced-tasks.ts'
import { withFifo } from '../support/forced-fifo.ts'
import { settled, until, WORD } from '../support/machine-board.ts'
import { withMachine, type Bench } from '../support/machine-harness.ts'
import { echo, startTask } from '../support/machine-tasks.ts'

const TASKS = new URL('../support/forced-tasks.js', import.meta.url)

function withCpus(cpus: number, run: (bench: Bench) => Promise<void>): Promise<void> {
  return withMachine({ cpus, entry: TASKS, haltPollMs: 0 }, run)
}

const stateOf = ({ machine }: Bench, cpu: number): number =>
  machine.cpu.memory.readCpu(cpu, CPU.state)

test('D-225: in a loop, in a handler and with interrupts off CPUs are stopped, and nobody is left waiting', () =>
  withCpus(5, async (bench) => {
    const { machine, board } = bench
    await startTask(1, namedLoop)
    await startTask(2, namedLoopOff)
    const held = machine.smpCallFunctionSingle(3, holdHandler, undefined, { timeoutMs: 10_000 })
    held.catch(() => undefined)
    await board.reached(WORD.entered, 3)
    const queued = machine.smpCallFunctionSingle(2, echo, 1, { timeoutMs: 10_000 })
    const refused = assert.rejects(queued, { code: 'IPI_CPU_OFFLINE' })
    const stopped = await settled(machine.smpSendStop(), 'the stop')
    assert.equal(stopped.toString(), '1-4')
    assert.equal(machine.onlineMask.toString(), '0')
    await settled(refused, 'the call that was queued')
    // It did not run: its handler would have come into the middle of the loop.
    for (const cpu of [1, 2, 3, 4]) {
      await until(
        () => stateOf(bench, cpu) === CPU_STATE.stopped,
        () => `CPU ${cpu} does not halt`,
      )
    }
    // One that was stopped by an NMI takes the next all the same.
    const seen = await settled(machine.backtrace([1, 2, 3, 4]), 'the backtrace')
    assert.deepEqual(
      seen.cpus.map(({ activity }) => activity),
      ['stopped', 'stopped', 'stopped', 'stopped'],
    )
    assert.match(seen.cpu(1)!.stack, /innermostLoop/)
    assert.match(seen.cpu(2)!.stack, /innermostLoop/)
  }))

test('no NMI is sent where the interrupt is enough', () =>
  withCpus(3, async ({ machine }) => {
    await settled(machine.smpSendStop(), 'the stop')
    assert.equal(machine.interrupts().total('NMI'), 0)
  }))

test('an NMI of another kind does not stop a CPU while the interrupt has its time', () =>
  withCpus(2, async ({ machine, board }) => {
    await startTask(1, namedLoopOff)
    await board.reached(WORD.entered)
    const stop = machine.smpSendStop()
    const seen = await settled(machine.backtrace([1]), 'the backtrace')
    assert.equal(seen.cpu(1)!.activity, 'running')
    assert.equal(machine.onlineMask.toString(), '0-1')
    assert.equal((await settled(stop, 'the stop')).toString(), '1')
  }))

test('one that nothing gets into is named, and stops when it can', () =>
  withFifo((path, letGo) =>
    withCpus(3, async ({ machine, board }) => {
      await startTask(1, readFifo, path)
      await board.reached(WORD.entered)
      const stop = machine.smpSendStop()
      await assert.rejects(settled(stop, 'the stop'), { code: 'IPI_TIMEOUT', cpus: [1] })
      assert.equal(machine.onlineMask.toString(), '0-1')
      letGo()
      await until(
        () => machine.onlineMask.size === 1,
        () => 'CPU 1 does not stop',
      )
    }),
  ))

/** Deaths of those that have just come, and of those that are asked to leave. */

import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { test } from 'node:test'
import { ATTENTION, CPU, CPU_STATE, HEADER } from '../../src/hardware/layout.ts'
import { CLOSED } from '../../src/kernel/request.ts'
import { until } from '../support/machine-board.ts'
import { withAdopted, withMachine } from '../support/machine-harness.ts'
import { echo, stay } from '../support/machine-tasks.ts'

test('a newcomer that dies at once does not hold up who waits for it and blocks', async () => {
  await withAdopted({ cpus: 1, maxCpus: 2 }, async ({ machine, makeWorker }) => {
    const worker = makeWorker()
    const up = machine.bringUp(worker)
    const { memory } = machine.cpu
    while (!memory.testCpu(HEADER.commencedMask, 1)) await nextTurn()
    // It comes online by itself now; whoever brings it up hears of that in a later turn.
    while (!machine.onlineMask.has(1));
    void worker.terminate()
    // Its end is seen from inside this wait or not at all.
    assert.throws(
      () => {
        for (;;) machine.smpCallFunctionSingleSync(1, echo, 0, { timeoutMs: 5000 })
      },
      ({ code }: { code: string }) => code === 'IPI_CPU_DIED' || code === 'IPI_CPU_OFFLINE',
    )
    await up.catch(() => undefined)
  })
})

test('cpuDown of one that is found gone takes it down', async () => {
  await withMachine({ cpus: 2 }, async ({ machine }) => {
    const { memory } = machine.cpu
    // As whoever suspects a death leaves it: the door is closed, and the rest comes later.
    memory.words[memory.cpuPage(1) + CPU.callQueue] = CLOSED
    await machine.cpuDown(1)
    assert.equal(machine.presentMask.toString(), '0')
    assert.equal(await machine.cpuUp(1), 1)
    assert.equal(await machine.smpCallFunctionSingle(1, echo, 'again'), 'again')
  })
})

test('whom a thread that has left meant to wake when it ended is woken', async () => {
  await withAdopted({ cpus: 3, haltPollMs: 0 }, async ({ machine, adopted }) => {
    const { memory } = machine.cpu
    const attention = memory.cpuPage(2) + CPU.attention
    await machine.smpCallFunctionSingle(1, stay)
    await machine.cpuDown(1)
    // It was interrupted in the middle of a send, left, went on, and ended before it had rung.
    const isParked = (): boolean => memory.readCpu(2, CPU.state) === CPU_STATE.parked
    const post = (): number => Atomics.compareExchange(memory.words, attention, 0, ATTENTION.wake)
    await until(
      () => isParked() && post() === 0,
      () => 'CPU 2 does not park',
    )
    await adopted[0]!.worker.terminate()
    await until(
      () => memory.words[attention] === 0,
      () => 'CPU 2 sleeps on',
      5000,
    )
  })
})

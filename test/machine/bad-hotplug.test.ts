/**
 * CPUs that cannot come up, will not go down, or refuse what the others have: each with its own code,
 * everything taken back, and the machine as it was.
 */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import type { Machine } from '../../src/index.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { Provoked } from '../support/machine-codes.ts'
import { withAdopted, withMachine } from '../support/machine-harness.ts'
import { stateDown, stateUp, takeDiary } from '../support/machine-hotplug-tasks.ts'
import { hold, startTask, whoAmI } from '../support/machine-tasks.ts'
import { busy } from '../support/machine-death-tasks.ts'

const entry = new URL('../support/machine-hotplug-tasks.js', import.meta.url)
const busyEntry = new URL('../support/machine-death-tasks.js', import.meta.url)
const provoked = new Provoked()

/** What each CPU has written down since the last time. */
async function diaries(machine: Machine): Promise<Record<number, string[]>> {
  const taken = await machine.onEachCpu(takeDiary)
  const whats = [...taken].map(([cpu, entries]) => [cpu, entries.map(({ what }) => what)] as const)
  return Object.fromEntries(whats)
}

describe('a CPU that cannot come up', () => {
  test('its number is up, is no number, or none is left', async () => {
    await withMachine({ cpus: 2, maxCpus: 3, entry }, async ({ machine }) => {
      await provoked.rejects('IPI_CPU_ONLINE', machine.cpuUp(1))
      await provoked.rejects('IPI_CPU_ONLINE', machine.cpuUp(0))
      for (const cpu of [-1, 3, 1.5, Number.NaN, '1' as unknown as number]) {
        await provoked.rejects('IPI_INVALID_CPU', machine.cpuUp(cpu))
      }
      assert.equal(await machine.cpuUp(), 2)
      const error = await provoked.rejects('IPI_NO_FREE_CPU', machine.cpuUp())
      assert.match(error.message, /all 3 possible CPUs are up.*maxCpus/)
      await expectBalancedBooks(machine)
    })
  })

  test('what is to be a CPU is no worker, or has ended', async () => {
    await withAdopted({ cpus: 1 }, async ({ machine }) => {
      for (const worker of [{}, 'worker', undefined, null] as unknown as object[]) {
        await provoked.rejects('IPI_INVALID_ARGUMENT', machine.bringUp(worker))
      }
      const ended = new Worker('', { eval: true })
      await once(ended, 'exit')
      const late = settled(machine.bringUp(ended), 'bringUp of a worker that has ended', 5000)
      await provoked.rejects('IPI_INVALID_ARGUMENT', late)
      assert.deepEqual([...machine.presentMask], [0])
      await expectBalancedBooks(machine)
    })
  })

  test('a worker that ends instead of attaching', async () => {
    await withAdopted({ cpus: 1 }, async ({ machine, adopt }) => {
      const worker = new Worker('setTimeout(() => process.exit(0), 20)', { eval: true })
      const error = await provoked.rejects('IPI_BOOT_FAILED', machine.bringUp(worker))
      assert.match(error.message, /CPU 1/)
      assert.equal((await adopt(1)).cpu, 1)
      await expectBalancedBooks(machine)
    })
  })

  test('what it shall have cannot be cloned: its thread ends', async () => {
    await withMachine({ cpus: 1, maxCpus: 2, entry }, async ({ machine }) => {
      await machine.cpuhpSetupState('uncloneable', { teardown: stateDown }, () => undefined)
      const started = once(process, 'worker') as Promise<[Worker]>
      const error = await provoked.rejects('IPI_BOOT_FAILED', machine.cpuUp(1))
      assert.match(error.message, /CPU 1 cannot be started: .*could not be cloned/)
      const [worker] = await settled(started, 'the start of a thread')
      if (worker.threadId >= 0) await settled(once(worker, 'exit'), 'the end of the thread', 5000)
      await machine.cpuhpRemoveState('uncloneable')
      assert.equal(await settled(machine.cpuUp(1), 'cpuUp'), 1)
      await expectBalancedBooks(machine)
    })
  })

  for (const kind of ['of the machine', 'of the application'] as const) {
    test(`a hotplug state refuses it: a thread ${kind}`, async () => {
      const refuse = async (machine: Machine, up: () => Promise<unknown>): Promise<void> => {
        await machine.cpuhpSetupState('first', { startup: stateUp }, { name: 'first' })
        const info = { name: 'second', refuses: 1 }
        await machine.cpuhpSetupState('second', { startup: stateUp }, info)
        const error = await provoked.rejects('IPI_BOOT_FAILED', settled(up(), 'cpuUp', 5000))
        // A thread of the application's own is told itself: its attach() rejects.
        if (kind === 'of the machine') {
          assert.match(error.message, /second refused by CPU 1/)
          assert.equal((error.cause as Error).message, 'second refused by CPU 1')
        }
        assert.deepEqual([...machine.presentMask], [0])
        await expectBalancedBooks(machine)
        // Another number is not refused, and this one not for ever.
        await machine.cpuhpSetupState('second', { startup: stateUp }, { name: 'second' })
      }
      if (kind === 'of the machine') {
        await withMachine({ cpus: 1, maxCpus: 4, entry }, async ({ machine }) => {
          await refuse(machine, () => machine.cpuUp(1))
          assert.equal(await settled(machine.cpuUp(1), 'cpuUp'), 1)
        })
      } else {
        await withAdopted({ cpus: 1, maxCpus: 4, tasks: entry }, async ({ machine, adopt }) => {
          await refuse(machine, () => adopt(1))
          assert.equal((await adopt(1)).cpu, 1)
        })
      }
    })
  }
})

describe('a CPU that does not go down', () => {
  test('CPU 0, one that is not online, one that cannot be', async () => {
    await withMachine({ cpus: 2, maxCpus: 3, entry }, async ({ machine }) => {
      await provoked.rejects('IPI_CPU_BUSY', machine.cpuDown(0))
      await provoked.rejects('IPI_CPU_BUSY', machine.cpuDown(0, { force: true }))
      await provoked.rejects('IPI_CPU_OFFLINE', machine.cpuDown(2))
      for (const cpu of [-1, 3, Number.NaN]) {
        await provoked.rejects('IPI_INVALID_CPU', machine.cpuDown(cpu))
      }
      assert.deepEqual([...machine.onlineMask], [0, 1])
      await expectBalancedBooks(machine)
    })
  })

  test('one whose hotplug state refuses: what was torn down is set up again', async () => {
    await withMachine({ cpus: 3, entry }, async ({ machine }) => {
      for (const name of ['a', 'b', 'c']) {
        const info = name === 'a' ? { name, stays: 1 } : { name }
        await machine.cpuhpSetupState(name, { startup: stateUp, teardown: stateDown }, info)
      }
      await diaries(machine)
      const error = await provoked.rejects('IPI_HOTPLUG_VETO', machine.cpuDown(1))
      assert.match(error.message, /CPU 1 refused to leave: a keeps CPU 1/)
      assert.ok(error.cause instanceof RangeError)
      assert.deepEqual(await diaries(machine), {
        0: [],
        1: ['c down', 'b down', 'b up', 'c up'],
        2: [],
      })
      assert.deepEqual(
        await machine.smpCallFunction(whoAmI),
        new Map([
          [1, 1],
          [2, 2],
        ]),
      )
      await expectBalancedBooks(machine)
      await machine.cpuDown(2)
      assert.deepEqual([...machine.onlineMask], [0, 1])
    })
  })

  test('one that is busy stays, says who it is, and works again later', async () => {
    await withMachine({ cpus: 2, entry: busyEntry }, async ({ machine, board }) => {
      await startTask(1, busy)
      await board.reached(WORD.entered)
      const error = await provoked.rejects('IPI_TIMEOUT', machine.cpuDown(1, { timeoutMs: 50 }))
      assert.match(error.message, /CPU 1 is parked.*application code is running/)
      assert.deepEqual([...machine.onlineMask], [0, 1])
      board.set(WORD.release, 1)
      assert.equal(await settled(machine.smpCallFunctionSingle(1, whoAmI), 'CPU 1'), 1)
      await expectBalancedBooks(machine)
      await settled(machine.cpuDown(1), 'cpuDown')
    })
  })

  test('one that is busy goes by force; its number comes back', async () => {
    await withMachine({ cpus: 2, entry: busyEntry }, async ({ machine, board }) => {
      const events: string[] = []
      machine.on('offline', ({ cpu }) => events.push(`offline ${cpu}`))
      machine.on('died', ({ cpu }) => events.push(`died ${cpu}`))
      await startTask(1, busy)
      await board.reached(WORD.entered)
      const behind = machine.smpCallFunctionSingle(1, whoAmI)
      const told = Promise.allSettled([behind])
      await settled(machine.cpuDown(1, { timeoutMs: 50, force: true }), 'cpuDown by force')
      const [outcome] = await settled(told, 'the call behind')
      assert.equal((outcome.status === 'rejected' && outcome.reason.code) || '', 'IPI_CPU_DIED')
      assert.deepEqual(events, ['offline 1'])
      assert.deepEqual([...machine.presentMask], [0])
      assert.equal(await machine.cpuUp(1), 1)
      assert.equal(await machine.smpCallFunctionSingle(1, whoAmI), 1)
      await expectBalancedBooks(machine)
    })
  })
})

test('one operation at a time: the second says that it waited in vain', async () => {
  await withMachine({ cpus: 3, entry }, async ({ machine, board }) => {
    const first = machine.cpuhpSetupState('slow', { startup: hold }, { cpu: 2 })
    await board.reached(WORD.entered)
    const error = await provoked.rejects('IPI_CPU_BUSY', machine.cpuDown(1, { timeoutMs: 30 }))
    assert.match(error.message, /cpuDown waited 30 ms: CPU 0 is still changing the machine/)
    const patient = machine.cpuDown(1)
    board.set(WORD.release, 1)
    await settled(Promise.all([first, patient]), 'both operations')
    assert.deepEqual([...machine.onlineMask], [0, 2])
    await expectBalancedBooks(machine)
  })
})

describe('a hotplug state that is refused', () => {
  test('by one CPU: those before it tear it down again, and no late joiner gets it', async () => {
    await withMachine({ cpus: 3, maxCpus: 4, entry }, async ({ machine }) => {
      const state = { startup: stateUp, teardown: stateDown }
      const setup = machine.cpuhpSetupState('s', state, { name: 's', refuses: 2 })
      const error = await provoked.rejects('IPI_HOTPLUG_VETO', setup)
      assert.match(error.message, /"s" was refused: s refused by CPU 2/)
      assert.deepEqual(await diaries(machine), {
        0: ['s up', 's down'],
        1: ['s up', 's down'],
        2: [],
      })
      assert.equal(await machine.cpuUp(), 3)
      assert.deepEqual(await diaries(machine), { 0: [], 1: [], 2: [], 3: [] })
      await expectBalancedBooks(machine)
    })
  })

  test('by one CPU, and another cannot tear it down: it is refused all the same', async () => {
    await withMachine({ cpus: 4, entry }, async ({ machine }) => {
      const state = { startup: stateUp, teardown: stateDown }
      const setup = machine.cpuhpSetupState('s', state, { name: 's', refuses: 3, stays: 1 })
      const error = await provoked.rejects('IPI_HOTPLUG_VETO', setup)
      assert.match(error.message, /s refused by CPU 3/)
      const written = await diaries(machine)
      assert.deepEqual(written[0], ['s up', 's down'])
      assert.deepEqual(written[2], ['s up', 's down'])
      await expectBalancedBooks(machine)
    })
  })

  test('there is no such state, no such function', async () => {
    await withMachine({ cpus: 2, entry }, async ({ machine }) => {
      await provoked.rejects('IPI_INVALID_ARGUMENT', machine.cpuhpRemoveState('nothing'))
      const plain = { startup: (() => 1) as unknown as typeof stateUp }
      await assert.rejects(machine.cpuhpSetupState('x', plain), { code: 'IPI_UNKNOWN_FUNCTION' })
      const unknown = machine.cpuhpSetupState('x', { startup: 'machine.nobody' })
      await provoked.rejects('IPI_HOTPLUG_VETO', unknown)
      await provoked.rejects('IPI_INVALID_ARGUMENT', machine.cpuhpRemoveState('x'))
      await expectBalancedBooks(machine)
    })
  })
})

test('every code that is promised here was provoked', () => {
  provoked.expect('bad-hotplug')
})

/**
 * Machines that cannot be made, joined or used any more: wrong options, foreign memory, entry modules
 * that fail, what happens after `close`, calls that are late and calls that are given up.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { HEADER, LAYOUT_VERSION, MAGIC } from '../../src/hardware/layout.ts'
import { MachineMemory } from '../../src/hardware/machine-memory.ts'
import { attach, boot, createMachine, thisMachine, type IpiError } from '../../src/index.ts'
import { bootOn } from '../../src/kernel/boot.ts'
import { nodePlatform } from '../../src/platform/node.ts'
import { THREAD_SCRIPT } from '../../src/worker.ts'
import { actAsBootCpu, attachAgain } from '../support/machine-bad-tasks.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { expectBalancedBooks } from '../support/machine-books.ts'
import { Provoked } from '../support/machine-codes.ts'
import { busy, deaf, softirqOnce } from '../support/machine-death-tasks.ts'
import { withMachine } from '../support/machine-harness.ts'
import {
  count,
  echo,
  hold,
  holdThenEcho,
  runTask,
  startTask,
  whoAmI,
} from '../support/machine-tasks.ts'

const entry = new URL('../support/machine-bad-tasks.js', import.meta.url)
const deafEntry = new URL('../support/machine-death-tasks.js', import.meta.url)
const badEntry = (why: string): URL =>
  new URL(`../support/machine-bad-entry.js?${why}`, import.meta.url)
const provoked = new Provoked()

/** This thread belongs to no machine: whatever failed left nothing behind. */
function expectNoMachine(): void {
  provoked.throws('IPI_NOT_BOOTED', () => thisMachine())
}

describe('a machine that cannot be made', () => {
  test('options of the wrong type or range', async () => {
    const wrong: readonly object[] = [
      { cpus: 0 },
      { cpus: 257 },
      { cpus: 1.5 },
      { cpus: '2' },
      { cpus: Number.NaN },
      { cpus: 3, maxCpus: 2 },
      { maxCpus: 257 },
      { cpus: 1, apic: 'pigeon' },
      { cpus: 1, apic: 'flat', maxCpus: 9 },
      { cpus: 1, apic: 'bigsmp', maxCpus: 61 },
      { cpus: 1, callDriver: 'post' },
      { cpus: 1, slotCount: 3, maxCpus: 4 },
      { cpus: 1, slotCount: 5000 },
      { cpus: 1, slotBytes: 64 },
      { cpus: 1, slotBytes: 2 ** 21 },
      { cpus: 1, entry: 5 },
      { cpus: 1, entry: {} },
      { cpus: 1, entry: null },
      ...['timeoutMs', 'bootTimeoutMs', 'watchdogMs', 'haltPollMs'].flatMap((name) =>
        [-1, Number.NaN, '5'].map((value) => ({ cpus: 1, [name]: value })),
      ),
      ...['softLockupMs', 'hardLockupMs'].flatMap((name) =>
        [0, 9, Number.NaN, '50'].map((value) => ({ cpus: 1, [name]: value })),
      ),
    ]
    for (const options of wrong) {
      await provoked.rejects('IPI_INVALID_ARGUMENT', boot(options))
      expectNoMachine()
    }
    provoked.throws('IPI_INVALID_ARGUMENT', () => createMachine({ maxCpus: 0 }))
    expectNoMachine()
  })

  test('a second one on the same thread', async () => {
    await withMachine({ cpus: 2, entry }, async ({ machine }) => {
      const error = await provoked.rejects('IPI_ALREADY_BOOTED', boot({ cpus: 1 }))
      assert.equal((error as IpiError).cpu, 0)
      provoked.throws('IPI_ALREADY_BOOTED', () => createMachine())
      const again = settled(runTask(1, attachAgain), 'attach()', 5000)
      await provoked.rejects('IPI_ALREADY_BOOTED', again)
      assert.equal(thisMachine(), machine)
      await expectBalancedBooks(machine)
    })
    expectNoMachine()
  })

  for (const [why, message] of [
    ['throws', /this entry always throws/],
    ['missing', /missing/],
    ['exits', /before it could start/],
    ['duplicate', /machine\.twice/],
    ['blocks', /did not start within 300 ms.*CPU 1 is offline/],
  ] as const) {
    test(`its entry module: ${why}`, async () => {
      const module =
        why === 'missing' ? new URL('../support/missing.js', import.meta.url) : badEntry(why)
      const bootTimeoutMs = why === 'blocks' ? 300 : 10_000
      const making = boot({ cpus: 3, entry: module, bootTimeoutMs })
      const error = await provoked.rejects('IPI_BOOT_FAILED', settled(making, 'boot'))
      assert.match(error.message, message)
      if (why === 'throws') {
        assert.ok(error.cause instanceof RangeError)
        assert.equal(error.cause.message, 'this entry always throws')
      }
      if (why === 'duplicate') {
        assert.equal((error.cause as { code?: unknown }).code, 'IPI_DUPLICATE_FUNCTION')
      }
      expectNoMachine()
    })
  }

  test('a worker that Node refuses to make', async () => {
    const workerOptions = { execArgv: ['--no-such-option'] }
    const error = await provoked.rejects('IPI_BOOT_FAILED', boot({ cpus: 2, workerOptions }))
    assert.equal((error.cause as { code: unknown }).code, 'ERR_WORKER_INVALID_EXEC_ARGV')
    expectNoMachine()
  })

  test('after all that, one that works', async () => {
    await withMachine({ cpus: 2, entry: badEntry('') }, async ({ machine }) => {
      assert.deepEqual(await machine.smpCallFunction(whoAmI), new Map([[1, 1]]))
    })
  })
})

test('memory that is not that of a machine, or of another version, is left as it is', async () => {
  const ticket = (buffer: unknown): object => ({
    kind: 'interprocessor.ticket',
    buffer,
    cpu: 1,
    options: {},
    hotplugStates: [],
    ports: [],
  })
  const zeros = new SharedArrayBuffer(8192)
  const { buffer } = MachineMemory.create({
    cpuCount: 2,
    slotCount: 2,
    slotWords: 32,
    flushLogSize: 1,
    taskCount: 2,
  })
  const newer = structuredClone(buffer)
  new Int32Array(newer)[HEADER.layoutVersion] = LAYOUT_VERSION + 1
  const short = new SharedArrayBuffer(8192)
  new Int32Array(short).set([MAGIC, LAYOUT_VERSION, 2, 2, 32])
  for (const [code, memory] of [
    ['IPI_FOREIGN_MEMORY', zeros],
    ['IPI_FOREIGN_MEMORY', short],
    ['IPI_FOREIGN_MEMORY', new SharedArrayBuffer(16)],
    ['IPI_FOREIGN_MEMORY', new ArrayBuffer(8192)],
    ['IPI_FOREIGN_MEMORY', undefined],
    ['IPI_LAYOUT_VERSION', newer],
  ] as const) {
    const before = memory === undefined ? undefined : new Uint8Array(memory).slice()
    await provoked.rejects(code, attach(ticket(memory)))
    if (memory !== undefined) assert.deepEqual(new Uint8Array(memory).slice(), before)
    expectNoMachine()
  }
  await provoked.rejects('IPI_FOREIGN_MEMORY', attach(zeros))
  await provoked.rejects('IPI_LAYOUT_VERSION', attach(newer))
  await provoked.rejects('IPI_NOT_SUPPORTED', attach())
  expectNoMachine()
})

test('on a thread that must not block everything works that need not block', async () => {
  const platform = { ...nodePlatform(THREAD_SCRIPT), mayBlock: false }
  const machine = await settled(bootOn(platform, { cpus: 2, entry }), 'boot')
  try {
    assert.equal(await machine.cpuUp(), 2)
    const answers = await machine.onEachCpu(whoAmI)
    assert.deepEqual([...answers.values()], [0, 1, 2])
    assert.deepEqual(await machine.smpCallFunctionSingle(1, echo, new Map()), new Map())
    await machine.addressSpace('machine.bad').flushTlbMm()
    await machine.cpuDown(1)
    await expectBalancedBooks(machine)
  } finally {
    await machine.close()
  }
})

test('without forced entry everything works that does not need it', async () => {
  const { forced: _, ...platform } = nodePlatform(THREAD_SCRIPT)
  const asking = bootOn(platform, { cpus: 2, entry, forceAfterMs: 5 })
  await provoked.rejects('IPI_NO_FORCED_ENTRY', settled(asking, 'boot'))
  const machine = await settled(bootOn(platform, { cpus: 2, entry }), 'boot')
  try {
    const reason = 'this environment has nothing of the kind'
    assert.deepEqual(machine.capabilities, { forcedEntry: false, reason })
    const call = machine.smpCallFunctionSingle(1, echo, 1, { forceAfterMs: 5 })
    await provoked.rejects('IPI_NO_FORCED_ENTRY', call)
    machine.sendNmi([0, 1])
    assert.equal(await machine.smpCallFunctionSingle(1, echo, 1, { forceAfterMs: Infinity }), 1)
    assert.deepEqual(machine.interrupts().count('NMI', 0), 1)
    await expectBalancedBooks(machine)
  } finally {
    await machine.close()
  }
})

test('what only the thread of CPU 0 may do', async () => {
  await withMachine({ cpus: 3, entry }, async ({ machine }) => {
    const codes = await settled(runTask(1, actAsBootCpu), 'the attempts')
    assert.deepEqual([...new Set(codes)], ['IPI_NOT_SUPPORTED'])
    await expectBalancedBooks(machine)
  })
})

describe('a machine that was closed', () => {
  test('closing twice is closing once; what is asked of it afterwards fails', async () => {
    const machine = await boot({ cpus: 2, entry })
    const closing = machine.close()
    assert.equal(machine.close(), closing)
    await closing
    await machine.close()
    expectNoMachine()
    const calls: Promise<unknown>[] = [
      machine.smpCallFunction(whoAmI),
      machine.smpCallFunctionSingle(1, whoAmI),
      machine.smpCallFunctionSingle(0, whoAmI),
      machine.smpCallFunctionMany([1], whoAmI),
      machine.onEachCpu(whoAmI),
      machine.flushTlbAll(),
      machine.stopMachine(() => 1),
      machine.cpuUp(),
      machine.cpuDown(1),
      machine.cpuhpSetupState('x', {}),
      machine.addressSpace('machine.bad').flushTlbMm(),
    ]
    for (const call of calls) {
      await provoked.rejects('IPI_MACHINE_CLOSED', settled(call, 'a call after close'))
    }
    provoked.throws('IPI_MACHINE_CLOSED', () => machine.smpCallFunctionSync(whoAmI))
    provoked.throws('IPI_MACHINE_CLOSED', () => machine.smpCallFunctionSingleSync(1, whoAmI))
  })

  test('calls that were out settle before close resolves, or with it', async () => {
    await withMachine({ cpus: 3, entry, timeoutMs: 60_000 }, async ({ machine, board }) => {
      const held = machine.smpCallFunctionSingle(1, hold)
      await board.reached(WORD.entered)
      const behind = machine.smpCallFunctionSingle(1, echo, 1)
      const all = Promise.allSettled([held, behind])
      await settled(machine.close(), 'close')
      for (const call of await settled(all, 'the calls that were out', 2000)) {
        assert.ok(call.status === 'rejected')
        assert.match(String((call.reason as IpiError).code), /^IPI_(CPU_DIED|MACHINE_CLOSED)$/)
      }
    })
  })
})

describe('a call that is late', () => {
  test('is said to be, by name; it runs on, and its answer is dropped', async () => {
    await withMachine({ cpus: 3, entry }, async ({ machine, board }) => {
      const options = { timeoutMs: 30 }
      const call = machine.smpCallFunctionSingle(1, hold, { cpu: 1 }, options)
      const error = (await provoked.rejects('IPI_TIMEOUT', call)) as unknown as IpiError
      assert.match(error.message, /CPU 0 waited 30 ms for "machine\.hold": CPU 1 is running/)
      assert.match(error.message, /running "machine\.hold", in vector 251/)
      const { cpu, cpus, functionName, waitedMs, started } = error
      assert.deepEqual(
        { cpu, cpus, functionName, waitedMs, started },
        { cpu: 1, cpus: [1], functionName: 'machine.hold', waitedMs: 30, started: true },
      )
      // One of two: whoever answered is not accused. The other has time to answer, however busy.
      const longer = { timeoutMs: 500 }
      const many = machine.smpCallFunction(whoAmI, undefined, longer)
      const second = (await provoked.rejects('IPI_TIMEOUT', many)) as unknown as IpiError
      assert.deepEqual(
        { cpus: second.cpus, started: second.started },
        { cpus: [1], started: false },
      )
      provoked.throws('IPI_TIMEOUT', () => machine.smpCallFunctionSync(count, undefined, longer))
      board.set(WORD.release, 1)
      assert.equal(await settled(machine.smpCallFunctionSingle(1, whoAmI), 'CPU 1'), 1)
      assert.equal(board.get(WORD.counted), 1, 'given up before it began: it did not run on CPU 1')
      await expectBalancedBooks(machine)
    })
  })

  test('the accusation says what is true of the target', async () => {
    await withMachine({ cpus: 2, entry: deafEntry }, async ({ machine, board }) => {
      const late = async (): Promise<string> => {
        const call = machine.smpCallFunctionSingle(1, echo, 1, { timeoutMs: 20 })
        return (await provoked.rejects('IPI_TIMEOUT', call)).message
      }
      // A softirq turns interrupts on and off by itself: they are on when it is over.
      await machine.smpCallFunctionSingle(1, softirqOnce)
      await startTask(1, deaf)
      await board.reached(WORD.entered)
      assert.match(
        await late(),
        /CPU 1 is (parked|running), interrupts off.*application code is running/,
      )
      board.set(WORD.release, 1)
      assert.equal(await settled(machine.smpCallFunctionSingle(1, whoAmI), 'CPU 1'), 1)
      board.clear()
      await startTask(1, busy)
      await board.reached(WORD.entered)
      const message = await late()
      assert.match(message, /CPU 1 is (parked|running) .*application code is running/)
      assert.doesNotMatch(message, /interrupts off/)
      board.set(WORD.release, 1)
      await expectBalancedBooks(machine)
    })
  })

  test('an answer by port that comes too late is not taken for another', async () => {
    await withMachine({ cpus: 2, entry }, async ({ machine, board }) => {
      const large = 'large'.repeat(1000)
      const call = machine.smpCallFunctionSingle(1, holdThenEcho, large, { timeoutMs: 20 })
      await provoked.rejects('IPI_TIMEOUT', call)
      board.set(WORD.release, 1)
      for (const value of ['next'.repeat(1000), new Map([[1, 2]]), 'small']) {
        assert.deepEqual(await machine.smpCallFunctionSingle(1, echo, value), value)
      }
      await expectBalancedBooks(machine)
    })
  })

  test('for want of a free slot', async () => {
    await withMachine({ cpus: 2, maxCpus: 4, slotCount: 4, entry }, async ({ machine, board }) => {
      const held = Array.from({ length: 4 }, () => machine.smpCallFunctionSingle(1, hold))
      await board.reached(WORD.entered)
      const call = machine.smpCallFunctionSingle(1, count, undefined, { timeoutMs: 20 })
      assert.match((await provoked.rejects('IPI_TIMEOUT', call)).message, /request slots, 4 calls/)
      provoked.throws('IPI_TIMEOUT', () =>
        machine.smpCallFunctionSingleSync(1, count, undefined, { timeoutMs: 20 }),
      )
      const patient = machine.smpCallFunctionSingle(1, count)
      board.set(WORD.release, 1)
      assert.deepEqual(await settled(Promise.all(held), 'the held calls'), [1, 1, 1, 1])
      await settled(patient, 'the call that waited for a slot')
      assert.equal(board.get(WORD.counted), 1)
      await expectBalancedBooks(machine)
    })
  })
})

describe('a call that is given up', () => {
  test('before it is made, it is not made', async () => {
    await withMachine({ cpus: 2, entry }, async ({ machine, board }) => {
      const reason = new Error('not needed')
      const signal = AbortSignal.abort(reason)
      await assert.rejects(machine.smpCallFunctionSingle(1, count, undefined, { signal }), reason)
      await assert.rejects(machine.smpCallFunction(count, undefined, { signal }), reason)
      assert.equal(await machine.smpCallFunctionSingle(1, whoAmI), 1)
      assert.equal(board.get(WORD.counted), 0)
    })
  })

  test('while it waits for its turn, it does not run; while it runs, it runs on', async () => {
    await withMachine({ cpus: 2, entry }, async ({ machine, board }) => {
      const [first, second] = [new AbortController(), new AbortController()]
      const running = machine.smpCallFunctionSingle(1, hold, {}, { signal: first.signal })
      await board.reached(WORD.entered)
      const waiting = machine.smpCallFunctionSingle(1, count, 4, { signal: second.signal })
      second.abort(new Error('second'))
      await assert.rejects(settled(waiting, 'the waiting call'), /second/)
      first.abort()
      await assert.rejects(settled(running, 'the running call'), { name: 'AbortError' })
      board.set(WORD.release, 1)
      assert.equal(await settled(machine.smpCallFunctionSingle(1, whoAmI), 'CPU 1'), 1)
      assert.equal(board.get(WORD.counted), 0)
      await expectBalancedBooks(machine)
    })
  })

  test('after it has ended, nothing happens', async () => {
    await withMachine({ cpus: 2, entry }, async ({ machine }) => {
      const controller = new AbortController()
      const { signal } = controller
      assert.equal(await machine.smpCallFunctionSingle(1, echo, 'answer', { signal }), 'answer')
      controller.abort()
      await expectBalancedBooks(machine)
    })
  })
})

test('every code that is promised here was provoked', () => {
  provoked.throws('IPI_CPU_OFFLINE', () => {
    const machine = createMachine({ maxCpus: 2 })
    try {
      machine.smpCallFunctionSingleSync(1, whoAmI)
    } finally {
      void machine.close()
    }
  })
  provoked.expect('bad-machines')
})

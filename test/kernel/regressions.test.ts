/** Faults that a reader found: each was there, and each is kept from coming back. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import { pushSlot } from '../../src/kernel/request.ts'
import { TIF } from '../../src/kernel/thread-flags.ts'
import { CALL_DRIVERS, KernelBench } from '../support/kernel-bench.ts'

describe('safepoints', () => {
  test('a softirq that opens interrupts takes what came together with its own', () => {
    const bench = new KernelBench(2)
    const { cpu, idt, softirqs } = bench.kernel(1)
    const log: string[] = []
    softirqs.openSoftirq(1, () => {
      cpu.localIrqEnable()
      log.push('softirq')
    })
    idt.requestIrq(0x50, 'first', () => {
      log.push('0x50')
      softirqs.raiseSoftirq(1)
    })
    idt.requestIrq(0x40, 'second', () => void log.push('0x40'))
    for (const vector of [0x50, 0x40]) bench.kernel(0).senders.sendIpiCpu(1, vector)
    bench.poll(1)
    assert.deepEqual(log, ['0x50', '0x40', 'softirq'])
  })
})

describe('who dies between two steps of a send', () => {
  test('having queued a request, not having sent: the target serves the queue all the same', async () => {
    const bench = new KernelBench(3)
    const runs: unknown[] = []
    bench.share('runs', () => (info: unknown) => runs.push(info))
    const { book, functions, cpu } = bench.kernel(2)
    const { slots } = book.fill([1], functions.resolve('runs'), 'dead', true, undefined)
    const head = cpu.memory.cpuPage(1) + CPU.callQueue
    assert.equal(pushSlot(cpu.memory, head, slots[0]!), 'first')
    bench.kill(2, 0)
    // It relies on the interrupt of the first, who is dead.
    await bench.drive(bench.kernel(0).calls.single(1, 'runs', 'living'))
    assert.deepEqual(runs, ['dead', 'living'])
  })

  test('having marked a CPU for rescheduling: it reschedules all the same', () => {
    const bench = new KernelBench(3)
    const { rescheduler, cpu } = bench.kernel(1)
    let scheduled = 0
    rescheduler.onSchedule = () => scheduled++
    cpu.setThreadFlags(TIF.NEED_RESCHED)
    assert.equal(cpu.needResched, true)
    bench.kill(2, 0)
    bench.poll(1)
    assert.equal(scheduled, 1)
  })
})

describe('what cannot be printed', () => {
  const unprintable = Object.create(null) as Error

  test('thrown by a handler stays inside, and the CPU goes on', () => {
    const bench = new KernelBench(2)
    const { idt, cpu } = bench.kernel(1)
    idt.requestIrq(0x50, 'throws', () => {
      throw unprintable
    })
    bench.kernel(0).senders.sendIpiCpu(1, 0x50)
    bench.poll(1)
    assert.equal(cpu.kernelDepth, 0)
    assert.match(bench.warnings.join(), /something that cannot be printed/)
  })

  for (const callDriver of CALL_DRIVERS) {
    test(`thrown by a call that nobody waits for harms no other call (${callDriver})`, async () => {
      const bench = new KernelBench(2, { callDriver })
      bench.share('throws', () => () => {
        throw unprintable
      })
      bench.share('echo', () => (info: unknown) => info)
      const { calls, book } = bench.kernel(0)
      const thrown = calls.single(1, 'throws', 0, { wait: false })
      const echoed = calls.single(1, 'echo', 1, { wait: false })
      await bench.drive(Promise.all([thrown, echoed]))
      assert.equal(book.freeCount, bench.memory.slotCount)
    })
  }
})

describe('signals and times', () => {
  test('a signal that comes while the call is sent is heard', async () => {
    const bench = new KernelBench(2)
    const controller = new AbortController()
    bench.share('aborts', ({ cpu }) => () => {
      if (cpu.id === 0) controller.abort('here')
    })
    const call = bench.kernel(0).calls.each('aborts', 0, { signal: controller.signal })
    await assert.rejects(bench.drive(call), (reason) => reason === 'here')
    bench.poll(1)
    bench.poll(0)
    assert.equal(bench.kernel(0).book.freeCount, bench.memory.slotCount)
  })

  test('a signal that cannot be let go of is refused', async () => {
    const bench = new KernelBench(2)
    bench.share('echo', () => (info: unknown) => info)
    const signal = { aborted: false, reason: 0, addEventListener: () => undefined }
    const call = bench.kernel(0).calls.single(1, 'echo', 0, { signal: signal as never })
    await assert.rejects(call, { code: 'IPI_INVALID_ARGUMENT' })
  })

  test('no time at all is refused, and the times of others go on', async () => {
    const bench = new KernelBench(2)
    bench.share('echo', () => (info: unknown) => info)
    const stop = bench.control(0).stopMachine(() => 0, 0, { timeoutMs: Number.NaN })
    await assert.rejects(stop, { code: 'IPI_INVALID_ARGUMENT' })
    const late = bench.kernel(0).calls.single(1, 'echo', 0, { timeoutMs: 1 })
    const keeper = setInterval(() => undefined, 1000)
    await assert.rejects(late, { code: 'IPI_TIMEOUT' })
    clearInterval(keeper)
  })
})

describe('a CPU that has left', () => {
  test('takes nothing from its page, and does not halt for ever', () => {
    const bench = new KernelBench(3)
    const { cpu } = bench.kernel(2)
    cpu.core.retire()
    bench.kernel(0).senders.sendIpiCpu(2, 0x50)
    assert.equal(cpu.core.sleep(cpu.core.doorbell, 0), false)
    assert.notEqual(bench.memory.readCpu(2, CPU.attention), 0)
    assert.throws(() => cpu.halt(), { code: 'IPI_MACHINE_CLOSED' })
  })

  test('an INIT in the event loop is followed by a start-up, whenever it comes', async () => {
    const bench = new KernelBench(2)
    const { cpu, idle } = bench.kernel(1)
    const starts: number[] = []
    cpu.handlers.init = () => (cpu.core.state = CPU_STATE.waitingForSipi)
    cpu.handlers.startup = (vector) => void starts.push(vector)
    idle.start()
    const { descriptors } = bench.kernel(0).cpu
    descriptors[1]!.postInit()
    while (cpu.core.state !== CPU_STATE.waitingForSipi) await new Promise(setImmediate)
    descriptors[1]!.postStartup(7)
    for (let turn = 0; turn < 1000 && starts.length === 0; turn++) await new Promise(setImmediate)
    assert.deepEqual(starts, [7])
  })
})

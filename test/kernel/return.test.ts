/**
 * The way back from an interrupt, `ret_from_intr`: who is rescheduled in front of, and when. Rows
 * D-209 to D-212 of docs/conformance.md; the book's claims F-10 and F-11. The rules are those of B3.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { CPU } from '../../src/hardware/layout.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { PREEMPT_ACTIVE } from '../../src/kernel/preempt.ts'
import { SYSTEM_ENTRIES } from '../../src/kernel/idt.ts'
import { TIF } from '../../src/kernel/thread-flags.ts'
import { VECTOR } from '../../src/kernel/vectors.ts'
import { KernelBench } from '../support/kernel-bench.ts'
import { logEoi, spyAfter } from '../support/kernel-spies.ts'

const { RESCHEDULE_VECTOR, INVALIDATE_TLB_VECTOR, CALL_FUNCTION_VECTOR } = VECTOR

/** A CPU whose schedule hook notes in what state it was called. */
function scheduling(): { bench: KernelBench; kernel: Kernel; calls: ScheduleCall[] } {
  const bench = new KernelBench(2)
  const kernel = bench.kernel(1)
  const calls: ScheduleCall[] = []
  kernel.rescheduler.onSchedule = () => {
    const { cpu } = kernel
    calls.push({
      irqsDisabled: cpu.irqsDisabled,
      preemptCount: cpu.preempt.value,
      needResched: cpu.needResched,
    })
  }
  return { bench, kernel, calls }
}

interface ScheduleCall {
  readonly irqsDisabled: boolean
  readonly preemptCount: number
  readonly needResched: boolean
}

/** CPU 0 asks CPU 1 to reschedule. */
const ask = (bench: KernelBench): void => bench.kernel(0).rescheduler.reschedTask(1)

describe('D-209, B4.5 handlers that leave softirqs alone', () => {
  for (const [name, vector] of [
    ['reschedule', RESCHEDULE_VECTOR],
    ['invalidate', INVALIDATE_TLB_VECTOR],
  ] as const) {
    test(`D-209 a softirq that is pending stays so through the ${name} interrupt`, async () => {
      const bench = new KernelBench(2)
      const { softirqs, cpu } = bench.kernel(1)
      let runs = 0
      softirqs.openSoftirq(5, () => runs++)
      softirqs.raiseSoftirq(5)
      bench.kernel(0).senders.sendIpiCpu(1, vector)
      bench.poll(1)
      assert.equal(runs, 0)
      assert.equal(softirqs.pending, 1 << 5)
      assert.equal(cpu.memory.readCpu(1, CPU.vectorCounts + vector), 1, 'the interrupt was taken')
      // What does call irq_enter runs it, and so does the event loop.
      bench.kernel(0).senders.sendIpiCpu(1, CALL_FUNCTION_VECTOR)
      bench.poll(1)
      assert.equal(runs, 1)
      softirqs.raiseSoftirq(5)
      await nextTurn()
      assert.equal(runs, 2)
    })
  }

  test('B4.5 in_interrupt is false in them and true in the others', () => {
    for (const [name, vector] of SYSTEM_ENTRIES) {
      const kernel = new KernelBench(1).kernel(0)
      const { cpu } = kernel
      let highest = 0
      spyAfter(cpu.preempt, 'add', () => {
        highest = Math.max(highest, cpu.preempt.value)
      })
      cpu.apic.raise(vector)
      cpu.poll()
      const quiet = vector === RESCHEDULE_VECTOR || vector === INVALIDATE_TLB_VECTOR
      assert.equal(highest, quiet ? 0 : 0x1_0000, name)
    }
  })
})

describe('D-210 application code was interrupted', () => {
  test('D-210 schedule runs before the next step, interrupts on, the mark cleared', () => {
    const { bench, kernel, calls } = scheduling()
    ask(bench)
    assert.equal(calls.length, 0)
    kernel.cpu.poll()
    assert.deepEqual(calls, [{ irqsDisabled: false, preemptCount: 0, needResched: false }])
    assert.equal(kernel.cpu.irqsDisabled, false)
  })

  test('B3.2 it is called again until nobody asks any more', () => {
    const { bench, kernel, calls } = scheduling()
    const { onSchedule } = kernel.rescheduler
    kernel.rescheduler.onSchedule = () => {
      onSchedule()
      // Somebody asks while we schedule: marked only, as the CPU is about to look.
      if (calls.length < 3) kernel.cpu.setThreadFlags(TIF.NEED_RESCHED)
    }
    ask(bench)
    kernel.cpu.poll()
    assert.equal(calls.length, 3)
    assert.equal(kernel.cpu.needResched, false)
  })

  test('D-210 any interrupt will do: the mark is what counts', () => {
    const { kernel, calls } = scheduling()
    kernel.idt.requestIrq(0x60, 'other', () => kernel.cpu.setThreadFlags(TIF.NEED_RESCHED))
    kernel.cpu.apic.raise(0x60)
    kernel.cpu.poll()
    assert.equal(calls.length, 1)
  })
})

describe('D-211 library code was interrupted', () => {
  test('D-211 preemption count 0: now, and it cannot nest', () => {
    const { bench, kernel, calls } = scheduling()
    ask(bench)
    kernel.cpu.cpuRelax()
    assert.deepEqual(calls, [
      { irqsDisabled: false, preemptCount: PREEMPT_ACTIVE, needResched: false },
    ])
    assert.equal(kernel.cpu.preempt.value, 0)
  })

  test('D-211 preemption count 1: when the count returns to 0', () => {
    const { bench, kernel, calls } = scheduling()
    kernel.cpu.preemptDisable()
    kernel.cpu.preemptDisable()
    ask(bench)
    kernel.cpu.cpuRelax()
    kernel.cpu.poll()
    kernel.cpu.preemptEnable()
    assert.equal(calls.length, 0)
    assert.equal(kernel.cpu.needResched, true)
    kernel.cpu.preemptEnable()
    assert.equal(calls.length, 1)
    assert.equal(kernel.cpu.needResched, false)
  })

  test('D-211 saved IF 0: not in this return', () => {
    const { kernel, calls } = scheduling()
    kernel.cpu.setThreadFlags(TIF.NEED_RESCHED)
    kernel.cpu.localIrqDisable()
    kernel.cpu.kernelDepth++
    kernel.cpu.core.interrupt(RESCHEDULE_VECTOR)
    kernel.cpu.kernelDepth--
    assert.equal(calls.length, 0)
    assert.equal(kernel.cpu.needResched, true)
    kernel.cpu.localIrqEnable()
  })

  test('D-211 preemptEnable with interrupts off leaves it to the next interrupt', () => {
    const { bench, kernel, calls } = scheduling()
    kernel.cpu.preemptDisable()
    ask(bench)
    kernel.cpu.localIrqDisable()
    kernel.cpu.preemptEnable()
    assert.equal(calls.length, 0)
    kernel.cpu.localIrqEnable()
    assert.equal(calls.length, 1)
  })

  test('B3.5 a called function is not rescheduled in front of; the code under it is', async () => {
    const { bench, calls } = scheduling()
    let during = -1
    bench.share('mark', (self) => () => {
      self.cpu.setThreadFlags(TIF.NEED_RESCHED)
      self.cpu.poll()
      during = calls.length
    })
    await bench.drive(bench.kernel(0).calls.single(1, 'mark', 0))
    assert.equal(during, 0)
    assert.equal(calls.length, 1)
  })

  test('B4.4 an NMI reschedules nobody', () => {
    const { kernel, calls } = scheduling()
    kernel.cpu.setThreadFlags(TIF.NEED_RESCHED)
    kernel.cpu.descriptors[1]!.postNmi()
    kernel.cpu.poll()
    assert.equal(calls.length, 0)
    assert.equal(kernel.cpu.needResched, true)
  })
})

describe('D-212 nobody asked for rescheduling', () => {
  test('D-212, F-10 a reschedule interrupt without the mark does nothing but acknowledge', () => {
    const { bench, kernel, calls } = scheduling()
    const log: string[] = []
    logEoi(kernel, log)
    const { memory } = bench
    bench.kernel(0).rescheduler.smpSendReschedule(1)
    const page = memory.cpuPage(1)
    const changed = bench.wordsChangedBy(() => bench.poll(1))
    assert.deepEqual(log, ['eoi'])
    assert.equal(calls.length, 0)
    const counted = page + CPU.vectorCounts + RESCHEDULE_VECTOR
    const inPage = changed.filter((at) => at >= page && at < page + 1024)
    assert.deepEqual(
      inPage.filter((at) => at !== counted && at >= page + CPU.levelPosts),
      [],
      'beside the descriptor that was emptied, only the count of the vector',
    )
    assert.equal(memory.words[counted], 1)
    assert.deepEqual(
      [kernel.cpu.threadFlags, kernel.cpu.preempt.value, kernel.cpu.irqsDisabled],
      [0, 0, false],
    )
  })
})

describe('what is said of a CPU whose interrupts are on again', () => {
  const said = (bench: KernelBench): number => bench.memory.readCpu(1, CPU.interruptsOff)

  test('after schedule in front of application code it is not that they are off', () => {
    const { bench, kernel } = scheduling()
    ask(bench)
    kernel.cpu.poll()
    assert.equal(kernel.cpu.irqsDisabled, false)
    assert.equal(said(bench), 0)
  })

  test('after schedule in front of library code it is not that they are off', () => {
    const { bench, kernel } = scheduling()
    ask(bench)
    kernel.cpu.cpuRelax()
    assert.equal(kernel.cpu.irqsDisabled, false)
    assert.equal(said(bench), 0)
  })

  test('after softirqs on the way out it is not that they are off', () => {
    const { bench, kernel } = scheduling()
    kernel.softirqs.openSoftirq(5, () => undefined)
    kernel.idt.requestIrq(0x60, 'raises', () => kernel.softirqs.raiseSoftirq(5))
    kernel.cpu.apic.raise(0x60)
    kernel.cpu.poll()
    assert.equal(kernel.cpu.irqsDisabled, false)
    assert.equal(said(bench), 0)
  })
})

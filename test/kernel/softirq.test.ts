/**
 * Softirqs: when they run, with what interrupts, how often, and when they are left to ksoftirqd. Row
 * D-208 of docs/conformance.md; the rules are those of B4. D-209 stands in return.test.ts.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { EVENT } from '../../src/kernel/cpu.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { REQUEST_STATE, requestFlags, stateOf } from '../../src/kernel/request.ts'
import { CALL_DRIVERS, KernelBench } from '../support/kernel-bench.ts'

const VECTOR = 0x60
/** MAX_SOFTIRQ_RESTART of 2.6.11. */
const ROUNDS = 10

/** A CPU on which VECTOR runs `handler`. */
function withHandler(handler: (kernel: Kernel) => void): Kernel {
  const kernel = new KernelBench(1).kernel(0)
  kernel.idt.requestIrq(VECTOR, 'test', () => handler(kernel))
  return kernel
}

function interrupt(kernel: Kernel): void {
  kernel.cpu.apic.raise(VECTOR)
  kernel.cpu.poll()
}

for (const callDriver of CALL_DRIVERS) {
  test(`D-208 a softirq raised in a called function runs on the way out, completion first (${callDriver})`, async () => {
    const bench = new KernelBench(2, { callDriver })
    const { memory, kernels } = bench
    const done = (): boolean => {
      const slots = Array.from({ length: memory.slotCount }, (_, slot) => slot)
      return slots.some((slot) => stateOf(requestFlags(memory, slot)) === REQUEST_STATE.done)
    }
    const order: string[] = []
    for (const { softirqs, cpu } of kernels) {
      softirqs.openSoftirq(5, () => order.push(`softirq on ${cpu.id}, answered: ${done()}`))
    }
    bench.share('raise', ({ cpu, softirqs }) => () => {
      softirqs.raiseSoftirq(5)
      order.push(`function on ${cpu.id}, answered: ${done()}`)
    })
    const call = bench.kernel(0).calls.single(1, 'raise', 0)
    bench.poll(1)
    assert.deepEqual(order, ['function on 1, answered: false', 'softirq on 1, answered: true'])
    await bench.drive(call)
    assert.equal(order.length, 2)
  })
}

describe('B4.2 irq_enter and irq_exit', () => {
  test('B4.2 softirqs run when the outermost interrupt ends, not when an inner one does', () => {
    const order: string[] = []
    const kernel = withHandler(({ cpu, softirqs }) => {
      softirqs.raiseSoftirq(0)
      cpu.apic.raise(0x90)
      // Nested: interrupts were on in this handler.
      cpu.localIrqEnable()
      order.push('outer ends')
    })
    kernel.idt.requestIrq(0x90, 'inner', () => {
      kernel.softirqs.raiseSoftirq(1)
      order.push('inner ends')
    })
    kernel.softirqs.openSoftirq(0, () => order.push('softirq 0'))
    kernel.softirqs.openSoftirq(1, () => order.push('softirq 1'))
    interrupt(kernel)
    assert.deepEqual(order, ['inner ends', 'outer ends', 'softirq 0', 'softirq 1'])
  })

  test('B4.2, B4.3 a softirq runs with interrupts on, as in_softirq and not in_irq', () => {
    const kernel = withHandler(({ softirqs }) => softirqs.raiseSoftirq(3))
    const { cpu } = kernel
    let inside: unknown
    kernel.softirqs.openSoftirq(3, () => {
      const { inIrq, inSoftirq, inInterrupt, value } = cpu.preempt
      inside = { off: cpu.irqsDisabled, inIrq, inSoftirq, inInterrupt, value }
    })
    interrupt(kernel)
    // One softirq unit, and the preemption unit that irq_exit leaves behind for the duration.
    const expected = { inIrq: false, inSoftirq: true, inInterrupt: true, value: 0x101 }
    assert.deepEqual(inside, { off: false, ...expected })
    assert.equal(cpu.preempt.value, 0)
    assert.equal(cpu.irqsDisabled, false)
  })

  test('B4.2 an interrupt inside a softirq runs no softirqs: they wait for the next round', () => {
    const order: string[] = []
    const kernel = withHandler(({ softirqs }) => softirqs.raiseSoftirq(0))
    kernel.idt.requestIrq(0x90, 'inner', () => {
      kernel.softirqs.raiseSoftirq(1)
      order.push('interrupt')
    })
    kernel.softirqs.openSoftirq(0, () => {
      order.push('softirq 0 begins')
      kernel.cpu.apic.raise(0x90)
      kernel.cpu.poll()
      order.push('softirq 0 ends')
    })
    kernel.softirqs.openSoftirq(1, () => order.push('softirq 1'))
    interrupt(kernel)
    assert.deepEqual(order, ['softirq 0 begins', 'interrupt', 'softirq 0 ends', 'softirq 1'])
  })

  test('B4.2 nobody is rescheduled in front of a softirq, but the interrupted code is', () => {
    const order: string[] = []
    const kernel = withHandler(({ softirqs }) => softirqs.raiseSoftirq(0))
    kernel.rescheduler.onSchedule = () => order.push('schedule')
    kernel.softirqs.openSoftirq(0, () => {
      kernel.rescheduler.reschedTask(0)
      kernel.senders.sendIpiSelf(0xfc)
      order.push('softirq ends')
    })
    interrupt(kernel)
    assert.deepEqual(order, ['softirq ends', 'schedule'])
  })
})

describe('B4.3 do_softirq', () => {
  test('B4.3 the lowest bit comes first, whatever the order of raising', () => {
    const order: number[] = []
    const numbers = [31, 5, 0, 17, 2]
    const kernel = withHandler(({ softirqs }) => numbers.forEach((nr) => softirqs.raiseSoftirq(nr)))
    for (const nr of numbers) kernel.softirqs.openSoftirq(nr, () => order.push(nr))
    interrupt(kernel)
    assert.deepEqual(order, [0, 2, 5, 17, 31])
    assert.equal(kernel.cpu.readCount(0, EVENT.softirqs), 5)
  })

  test('B4.3 raised twice before it runs, a softirq runs once', () => {
    let runs = 0
    const kernel = withHandler(({ softirqs }) => {
      softirqs.raiseSoftirq(4)
      softirqs.raiseSoftirq(4)
    })
    kernel.softirqs.openSoftirq(4, () => runs++)
    interrupt(kernel)
    assert.equal(runs, 1)
  })

  test('B4.3 what raises itself again and again gets ten rounds, then ksoftirqd, which yields', async () => {
    let runs = 0
    const kernel = withHandler(({ softirqs }) => softirqs.raiseSoftirq(0))
    kernel.softirqs.openSoftirq(0, () => {
      if (++runs < 2 * ROUNDS + 5) kernel.softirqs.raiseSoftirq(0)
    })
    interrupt(kernel)
    assert.equal(runs, ROUNDS)
    const perTurn: number[] = []
    while (kernel.softirqs.pending !== 0) {
      const before = runs
      await nextTurn()
      perTurn.push(runs - before)
    }
    assert.deepEqual(
      perTurn.filter((ran) => ran > 0),
      [ROUNDS, 5],
      'ten rounds a turn of the event loop, as fair as other work',
    )
  })

  test('raised outside any interrupt, a softirq runs in the next turn of the event loop, once', async () => {
    const kernel = new KernelBench(1).kernel(0)
    const inside: number[] = []
    kernel.softirqs.openSoftirq(0, () => inside.push(kernel.cpu.preempt.value))
    kernel.softirqs.raiseSoftirq(0)
    kernel.softirqs.raiseSoftirq(0)
    assert.deepEqual(inside, [])
    await nextTurn()
    await nextTurn()
    assert.deepEqual(inside, [0x100])
    assert.equal(kernel.cpu.irqsDisabled, false)
  })

  test('B4.4 softirqs never run from an NMI', async () => {
    const bench = new KernelBench(1)
    const kernel = bench.kernel(0)
    let runs = 0
    kernel.softirqs.openSoftirq(0, () => runs++)
    kernel.softirqs.raiseSoftirq(0)
    kernel.cpu.descriptors[0]!.postNmi()
    kernel.cpu.poll()
    assert.equal(kernel.cpu.readCount(0, EVENT.nmi), 1)
    assert.equal(kernel.cpu.preempt.value, 0)
    assert.equal(runs, 0)
    await nextTurn()
    assert.equal(runs, 1)
  })

  test('softirqs are numbered 0 to 31', () => {
    const { softirqs } = new KernelBench(1).kernel(0)
    for (const nr of [-1, 32, 1.5, Number.NaN]) {
      assert.throws(() => softirqs.raiseSoftirq(nr), { code: 'IPI_INVALID_ARGUMENT' })
      assert.throws(() => softirqs.openSoftirq(nr, () => undefined), {
        code: 'IPI_INVALID_ARGUMENT',
      })
    }
  })
})

/**
 * Errors around interrupts: what a handler lets out never reaches the code that it interrupted, and
 * an illegal vector is noted by both APICs. Row D-229 of docs/conformance.md.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { EVENT } from '../../src/kernel/cpu.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { TIF } from '../../src/kernel/thread-flags.ts'
import { APIC, APIC_DRIVERS, CALL_DRIVERS, KernelBench } from '../support/kernel-bench.ts'
import { inService } from '../support/kernel-spies.ts'

const VECTOR = 0x60

/** A CPU with a listener for errors that nobody waits for, and what it heard. */
function listening(): { bench: KernelBench; kernel: Kernel; heard: string[] } {
  const bench = new KernelBench(2)
  const kernel = bench.kernel(1)
  const heard: string[] = []
  kernel.events.on('error', ({ cpu, name, error }) => {
    heard.push(`CPU ${cpu}, ${name}: ${String(error)}`)
  })
  return { bench, kernel, heard }
}

const fail = (): never => {
  throw new Error('handler failed')
}

/** The CPU is as it was before the interrupt, and takes the next one. */
function assertIntact({ cpu, idt }: Kernel): void {
  assert.equal(cpu.preempt.value, 0)
  assert.equal(cpu.kernelDepth, 0)
  assert.equal(cpu.irqsDisabled, false)
  assert.deepEqual(inService(cpu), [])
  let taken = 0
  let userMode: boolean | undefined
  idt.setIntrGate('probe', 0x91, (regs) => {
    cpu.apic.eoi()
    userMode = regs.userMode
    taken++
  })
  cpu.apic.raise(0x91)
  cpu.poll()
  assert.equal(taken, 1)
  assert.equal(userMode, true)
}

describe('errors of handlers never reach the interrupted code', () => {
  test('a device handler', () => {
    const { kernel, heard } = listening()
    kernel.idt.requestIrq(VECTOR, 'test', fail)
    kernel.cpu.apic.raise(VECTOR)
    kernel.cpu.poll()
    assert.deepEqual(heard, [`CPU 1, irq${VECTOR}: Error: handler failed`])
    assert.equal(kernel.cpu.readCount(1, EVENT.handlerErrors), 1)
    assertIntact(kernel)
  })

  test('a handler of one interrupt among several: the others are taken', () => {
    const { kernel, heard } = listening()
    const ran: number[] = []
    kernel.idt.requestIrq(0x70, 'fails', fail)
    for (const vector of [0x60, 0x80 + 0x10]) {
      kernel.idt.requestIrq(vector, 'runs', () => void ran.push(vector))
    }
    for (const vector of [0x60, 0x70, 0x90]) kernel.cpu.apic.raise(vector)
    kernel.cpu.poll()
    assert.deepEqual(ran, [0x90, 0x60])
    assert.equal(heard.length, 1)
    assertIntact(kernel)
  })

  test('a softirq: the others run', () => {
    const { kernel, heard } = listening()
    const ran: number[] = []
    kernel.softirqs.openSoftirq(0, fail)
    kernel.softirqs.openSoftirq(1, () => ran.push(1))
    kernel.idt.requestIrq(VECTOR, 'raises', () => {
      kernel.softirqs.raiseSoftirq(0)
      kernel.softirqs.raiseSoftirq(1)
    })
    kernel.cpu.apic.raise(VECTOR)
    kernel.cpu.poll()
    assert.deepEqual(ran, [1])
    assert.deepEqual(heard, ['CPU 1, softirq 0: Error: handler failed'])
    assertIntact(kernel)
  })

  for (const callDriver of CALL_DRIVERS) {
    test(`a called function that nobody waits for (${callDriver})`, async () => {
      const bench = new KernelBench(2, { callDriver })
      const heard: string[] = []
      bench.kernel(1).events.on('error', ({ name }) => heard.push(name))
      bench.share('fail', () => fail)
      await bench.drive(bench.kernel(0).calls.single(1, 'fail', 0, { wait: false }))
      assert.deepEqual(heard, ['fail'])
      assertIntact(bench.kernel(1))
    })

    test(`a called function that is waited for: its caller gets the error (${callDriver})`, async () => {
      const bench = new KernelBench(2, { callDriver })
      const heard: string[] = []
      bench.kernel(1).events.on('error', ({ name }) => heard.push(name))
      bench.share('fail', () => fail)
      const call = bench.drive(bench.kernel(0).calls.single(1, 'fail', 0))
      await assert.rejects(call, { name: 'Error', message: 'handler failed' })
      assert.deepEqual(heard, [])
      assertIntact(bench.kernel(1))
    })
  }

  test('without a listener the operator is told', () => {
    const bench = new KernelBench(1)
    const kernel = bench.kernel(0)
    kernel.idt.requestIrq(VECTOR, 'test', fail)
    kernel.cpu.apic.raise(VECTOR)
    kernel.cpu.poll()
    assert.equal(bench.warnings.length, 1)
    assert.match(bench.warnings[0]!, /irq96.*CPU 0.*handler failed/s)
  })

  test('a listener that fails itself', () => {
    const { kernel } = listening()
    kernel.events.on('error', fail)
    kernel.idt.requestIrq(VECTOR, 'test', fail)
    kernel.cpu.apic.raise(VECTOR)
    kernel.cpu.poll()
    assertIntact(kernel)
  })

  test('a handler that returns a promise: an error says so', () => {
    const { kernel, heard } = listening()
    kernel.idt.requestIrq(VECTOR, 'test', (): unknown => Promise.resolve())
    kernel.cpu.apic.raise(VECTOR)
    kernel.cpu.poll()
    assert.equal(heard.length, 1)
    assert.match(heard[0]!, /returned a promise/)
    assertIntact(kernel)
  })

  test('a handler that returns a promise which rejects: nothing is left unhandled', async () => {
    const { kernel, heard } = listening()
    const unhandled: unknown[] = []
    const note = (reason: unknown): void => void unhandled.push(reason)
    process.on('unhandledRejection', note)
    try {
      kernel.idt.requestIrq(VECTOR, 'test', (): unknown => Promise.reject(new Error('later')))
      kernel.cpu.apic.raise(VECTOR)
      kernel.cpu.poll()
      await nextTurn()
      await nextTurn()
    } finally {
      process.off('unhandledRejection', note)
    }
    assert.equal(heard.length, 1)
    assert.deepEqual(unhandled, [], 'whoever has no such listener loses the whole process')
  })

  for (const [what, take] of [
    ['application', (kernel: Kernel) => kernel.cpu.poll()],
    ['library', (kernel: Kernel) => kernel.cpu.cpuRelax()],
  ] as const) {
    test(`a scheduler that runs in front of ${what} code`, () => {
      const { bench, kernel, heard } = listening()
      kernel.rescheduler.onSchedule = fail
      bench.kernel(0).rescheduler.reschedTask(1)
      take(kernel)
      assert.equal(heard.length, 1)
      assertIntact(kernel)
    })
  }

  test('a scheduler that runs at the end of a preemption-off section', () => {
    const { kernel, heard } = listening()
    kernel.rescheduler.onSchedule = fail
    kernel.cpu.preemptDisable()
    kernel.cpu.setThreadFlags(TIF.NEED_RESCHED)
    kernel.cpu.preemptEnable()
    assert.equal(heard.length, 1)
    assertIntact(kernel)
  })
})

for (const apic of APIC_DRIVERS) {
  describe(`D-229 illegal vectors (${apic})`, () => {
    const readErrors = (kernel: Kernel): number => {
      const { apic: registers } = kernel.cpu
      if (apic === 'x2apic') {
        registers.writeMsr(0x828, 0n)
        return Number(registers.readMsr(0x828))
      }
      registers.write(APIC.esr, 0)
      return registers.read(APIC.esr)
    }

    test('D-229 vector 0Fh: bit 5 in the ESR of the sender, bit 6 in that of the receiver', () => {
      const bench = new KernelBench(3, { apic })
      for (const { cpu } of bench.kernels) cpu.localIrqDisable()
      bench.kernel(0).senders.sendIpiCpu(1, 0x0f)
      for (const { cpu } of bench.kernels) bench.poll(cpu.id)
      assert.deepEqual(
        bench.kernels.map((kernel) => readErrors(kernel)),
        [1 << 5, 1 << 6, 0],
      )
      const { irr, isr } = { irr: bench.kernel(1).cpu.apic.irr(0x0f), isr: inService }
      assert.equal(irr, false)
      assert.deepEqual(isr(bench.kernel(1).cpu), [])
    })

    test('D-229 both error interrupts report what the registers said, nothing is delivered', () => {
      const bench = new KernelBench(2, { apic })
      let delivered = 0
      for (const { cpu } of bench.kernels) cpu.handlers.gates[0x0f] = () => void delivered++
      bench.kernel(0).senders.sendIpiCpu(1, 0x0f)
      bench.poll(0)
      bench.poll(1)
      assert.equal(delivered, 0)
      assert.deepEqual(
        bench.kernels.map(({ cpu }) => cpu.readCount(cpu.id, EVENT.error)),
        [1, 1],
      )
      assert.equal(bench.warnings.length, 2)
      assert.match(bench.warnings[0]!, /CPU 0: 00\(20\)/)
      assert.match(bench.warnings[1]!, /CPU 1: 00\(40\)/)
      assert.deepEqual(
        bench.kernels.map((kernel) => readErrors(kernel)),
        [0, 0],
      )
    })
  })
}

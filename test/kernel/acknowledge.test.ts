/**
 * When each handler acknowledges: exactly once, where Linux 2.6.11 does, and never for an NMI. Row
 * D-207 of docs/conformance.md; the book's claim F-20. The summary of positions is B5.7.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { HEADER } from '../../src/hardware/layout.ts'
import { SYSTEM_ENTRIES } from '../../src/kernel/idt.ts'
import { installSmpInterrupts } from '../../src/kernel/smp-interrupts.ts'
import { VECTOR } from '../../src/kernel/vectors.ts'
import {
  APIC,
  APIC_DRIVERS,
  CALL_DRIVERS,
  KernelBench,
  tlbStateOf,
} from '../support/kernel-bench.ts'
import { inService, logEoi, spyBefore } from '../support/kernel-spies.ts'

const { CALL_FUNCTION_VECTOR, RESCHEDULE_VECTOR, INVALIDATE_TLB_VECTOR } = VECTOR

/** Raises a vector on the only CPU of a bench; gives what `prepare` and the spy on EOI logged. */
function logOf(
  vector: number,
  prepare: (kernel: ReturnType<KernelBench['kernel']>, log: string[]) => void,
): string[] {
  const bench = new KernelBench(1)
  const kernel = bench.kernel(0)
  const log: string[] = []
  logEoi(kernel, log)
  prepare(kernel, log)
  kernel.cpu.apic.raise(vector)
  kernel.cpu.poll()
  assert.deepEqual(inService(kernel.cpu), [])
  return log
}

describe('D-207 the position of the acknowledgement', () => {
  test('reschedule: it is all that the handler does', () => {
    const bench = new KernelBench(2)
    const kernel = bench.kernel(1)
    const log: string[] = []
    logEoi(kernel, log)
    bench.kernel(0).senders.sendIpiCpu(1, RESCHEDULE_VECTOR)
    const { preempt, threadFlags } = kernel.cpu
    bench.poll(1)
    assert.deepEqual(log, ['eoi'])
    assert.equal(preempt.value, 0)
    assert.equal(kernel.cpu.threadFlags, threadFlags)
  })

  for (const callDriver of CALL_DRIVERS) {
    test(`call function: before the function (${callDriver})`, async () => {
      const bench = new KernelBench(2, { callDriver })
      const kernel = bench.kernel(1)
      const log: string[] = []
      logEoi(kernel, log)
      bench.share('note', ({ cpu }) => () => {
        log.push('function')
        assert.deepEqual(inService(cpu), [], 'nothing is in service any more')
      })
      await bench.drive(bench.kernel(0).calls.single(1, 'note', 0))
      assert.deepEqual(log, ['eoi', 'function'])
    })

    test(`call function: once, when nothing was asked (${callDriver})`, () => {
      const bench = new KernelBench(2, { callDriver })
      const log: string[] = []
      logEoi(bench.kernel(1), log)
      bench.kernel(0).senders.sendIpiCpu(1, CALL_FUNCTION_VECTOR)
      bench.poll(1)
      assert.deepEqual(log, ['eoi'])
    })
  }

  test('call function: once for all requests that one interrupt found', async () => {
    const bench = new KernelBench(2, { callDriver: 'queue' })
    const log: string[] = []
    logEoi(bench.kernel(1), log)
    bench.share('note', () => (name: string) => void log.push(name))
    const { calls } = bench.kernel(0)
    const both = Promise.all([calls.single(1, 'note', 'first'), calls.single(1, 'note', 'second')])
    await bench.drive(both)
    assert.deepEqual(log, ['eoi', 'first', 'second'])
  })

  test('invalidate TLB: after the flush, before the bit that tells of it', async () => {
    const bench = new KernelBench(2, { tlbDriver: 'tlbstate' })
    const kernel = bench.kernel(1)
    const { buffer } = tlbStateOf(kernel)
    const mm = kernel.tlb.findMm('space')
    kernel.tlb.switchMm(mm)
    buffer.fill(7, 'old')
    const log: string[] = []
    logEoi(kernel, log)
    spyBefore(buffer, 'invalidatePage', () => log.push('flush'))
    spyBefore(kernel.cpu.memory, 'clearCpu', (at) => {
      if (at === HEADER.flushMask) log.push('publish')
    })
    await bench.drive(bench.control(0).flush(mm, 7))
    assert.deepEqual(log, ['flush', 'eoi', 'publish'])
  })

  test('invalidate TLB: also when this CPU was not asked, where 2.6.11 forgot it', () => {
    assert.deepEqual(
      logOf(INVALIDATE_TLB_VECTOR, () => undefined),
      ['eoi'],
    )
  })

  test('timer: first of all', () => {
    const log = logOf(VECTOR.LOCAL_TIMER_VECTOR, ({ cpu, idt, softirqs, nmi }, log) =>
      installSmpInterrupts(cpu, idt, softirqs, {
        serveCalls: () => undefined,
        invalidateTlb: () => undefined,
        timer: () => log.push('timer'),
        areCallsSafe: () => false,
        isScheduleSafe: () => false,
        nmi,
      }),
    )
    assert.deepEqual(log, ['eoi', 'timer'])
  })

  test('error: after reading, writing and reading the error status', () => {
    const log = logOf(VECTOR.ERROR_APIC_VECTOR, ({ cpu }, log) => {
      for (const access of ['read', 'write'] as const) {
        spyBefore(cpu.apic, access, (offset) => {
          if (offset === APIC.esr) log.push(access)
        })
      }
    })
    assert.deepEqual(log, ['read', 'write', 'read', 'eoi'])
  })

  test('error: the same by MSR on an x2APIC', () => {
    const bench = new KernelBench(1, { apic: 'x2apic' })
    const kernel = bench.kernel(0)
    const log: string[] = []
    logEoi(kernel, log)
    for (const access of ['readMsr', 'writeMsr'] as const) {
      spyBefore(kernel.cpu.apic, access, (msr) => {
        if (msr === 0x828) log.push(access)
      })
    }
    kernel.cpu.apic.raise(VECTOR.ERROR_APIC_VECTOR)
    kernel.cpu.poll()
    assert.deepEqual(log, ['readMsr', 'writeMsr', 'readMsr', 'eoi'])
  })

  test('spurious: only if the vector is really in service', () => {
    assert.deepEqual(
      logOf(VECTOR.SPURIOUS_APIC_VECTOR, () => undefined),
      ['eoi'],
    )
    const bench = new KernelBench(1)
    const kernel = bench.kernel(0)
    const log: string[] = []
    // Something else in service, which an acknowledgement too many would retire.
    kernel.cpu.apic.raise(0x40)
    kernel.cpu.apic.acknowledge(0x40)
    logEoi(kernel, log)
    kernel.cpu.apic.injectSpurious()
    kernel.cpu.poll()
    assert.deepEqual(log, [])
    assert.deepEqual(inService(kernel.cpu), [0x40])
  })

  test('thermal: once', () => {
    assert.deepEqual(
      logOf(VECTOR.THERMAL_APIC_VECTOR, () => undefined),
      ['eoi'],
    )
  })

  test('a device interrupt: before its handler', () => {
    const log = logOf(0x60, ({ idt }, log) =>
      idt.requestIrq(0x60, 'probe', () => void log.push('handler')),
    )
    assert.deepEqual(log, ['eoi', 'handler'])
  })

  test('NMI: never, so that it retires nobody else', () => {
    const bench = new KernelBench(1)
    const kernel = bench.kernel(0)
    const log: string[] = []
    logEoi(kernel, log)
    kernel.idt.setIntrGate('held', 0x60, () => {
      kernel.cpu.descriptors[0]!.postNmi()
      bench.poll(0)
      log.push('after NMI')
      assert.deepEqual(inService(kernel.cpu), [0x60])
      kernel.cpu.apic.eoi()
    })
    kernel.cpu.apic.raise(0x60)
    kernel.cpu.poll()
    assert.deepEqual(log, ['after NMI', 'eoi'])
  })
})

for (const apic of APIC_DRIVERS) {
  test(`F-20 each dispatch acknowledges exactly once, and nothing stays in service (${apic})`, () => {
    const bench = new KernelBench(2, { apic })
    const { cpu, idt } = bench.kernel(1)
    let acknowledged = 0
    spyBefore(cpu.apic, 'eoi', () => acknowledged++)
    idt.requestIrq(0x60, 'probe', () => undefined)
    const vectors = [0x60, 0x61, ...SYSTEM_ENTRIES.map(([, vector]) => vector)]
    for (const vector of vectors) {
      acknowledged = 0
      bench.kernel(0).senders.sendIpiCpu(1, vector)
      bench.poll(1)
      assert.equal(acknowledged, 1, `vector ${vector.toString(16)}h`)
      assert.deepEqual(inService(cpu), [])
    }
    // All at once: served by priority, each acknowledged.
    acknowledged = 0
    for (const vector of vectors) bench.kernel(0).senders.sendIpiCpu(1, vector)
    bench.poll(1)
    assert.equal(acknowledged, vectors.length)
    assert.deepEqual(inService(cpu), [])
  })
}

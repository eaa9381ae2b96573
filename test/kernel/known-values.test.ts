/** The known values: tables G1 to G9 of docs/conformance.md, what Linux 2.6.11 writes and reads. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { x2apicLogicalId } from '../../src/hardware/apic/destination.ts'
import { processorPriority } from '../../src/hardware/apic/priority.ts'
import { CPU } from '../../src/hardware/layout.ts'
import { SYSTEM_ENTRIES } from '../../src/kernel/idt.ts'
import { bigsmpLogicalId } from '../../src/kernel/send.ts'
import { CpuMask } from '../../src/base/cpu-mask.ts'
import { exitWork, TIF } from '../../src/kernel/thread-flags.ts'
import { VECTOR } from '../../src/kernel/vectors.ts'
import { APIC, CALL_DRIVERS, forEachApicDriver, KernelBench } from '../support/kernel-bench.ts'
import { recordCommands, requested } from '../support/kernel-spies.ts'

const { CALL_FUNCTION_VECTOR, RESCHEDULE_VECTOR, INVALIDATE_TLB_VECTOR } = VECTOR
const msr = (offset: number): number => 0x800 + (offset >>> 4)

describe('G1 what the senders write to the interrupt command register', () => {
  type Senders = KernelBench['kernels'][number]['senders']
  type Row = readonly [what: string, send: (senders: Senders) => void, icr: number, icr2?: number]
  const rows: Row[] = [
    ['all but self, FBh', (s) => s.sendIpiAllButSelf(CALL_FUNCTION_VECTOR), 0x000c_08fb],
    ['all but self, A5h', (s) => s.sendIpiAllButSelf(0xa5), 0x000c_0800 + 0xa5],
    ['all, A5h', (s) => s.sendIpiAll(0xa5), 0x0008_0800 + 0xa5],
    ['self, A5h', (s) => s.sendIpiSelf(0xa5), 0x0004_0800 + 0xa5],
    [
      'mask {3}, FCh',
      (s) => s.sendIpiMask(CpuMask.of(3), RESCHEDULE_VECTOR),
      0x0000_08fc,
      0x0800_0000,
    ],
    ['CPU 3, FCh', (s) => s.sendIpiCpu(3, RESCHEDULE_VECTOR), 0x0000_08fc, 0x0800_0000],
    [
      'mask {1,2}, FDh',
      (s) => s.sendIpiMask(CpuMask.of(1, 2), INVALIDATE_TLB_VECTOR),
      0x0000_08fd,
      0x0600_0000,
    ],
  ]
  for (const [what, send, icr, icr2] of rows) {
    test(`D-202 flat, 4 CPUs: ${what}`, () => {
      const bench = new KernelBench(4, { apic: 'flat' })
      const { cpu, senders } = bench.kernel(0)
      const sent = recordCommands(cpu)
      send(senders)
      assert.equal(sent.length, 1, 'one command, whatever the number of targets')
      assert.equal(sent[0]!.command, icr)
      if (icr2 !== undefined) assert.equal(sent[0]!.destination, icr2)
    })
  }

  test('bigsmp, physical ID 5, FBh', () => {
    const { cpu, senders } = new KernelBench(6, { apic: 'bigsmp' }).kernel(0)
    const sent = recordCommands(cpu)
    senders.sendIpiCpu(5, CALL_FUNCTION_VECTOR)
    assert.deepEqual(sent, [{ destination: 0x1200_0000, command: 0x0000_08fb, irqsDisabled: true }])
  })

  test('x2APIC: the CPU number in the high half, physical mode, one write', () => {
    const { cpu, senders } = new KernelBench(6, { apic: 'x2apic' }).kernel(0)
    const sent = recordCommands(cpu)
    senders.sendIpiCpu(5, CALL_FUNCTION_VECTOR)
    assert.deepEqual(sent, [{ destination: 5, command: 0x0000_00fb, irqsDisabled: false }])
  })

  test('the commands that no sender uses are taken as they are written', () => {
    const bench = new KernelBench(3, { apic: 'flat' })
    const { apic } = bench.kernel(0).cpu
    for (const { cpu } of bench.kernels) cpu.localIrqDisable()
    const write = (icr2: number, icr: number): void => {
      apic.write(APIC.icr2, icr2)
      apic.write(APIC.icr, icr)
      assert.equal(apic.read(APIC.icr), icr)
      for (const { cpu } of bench.kernels) cpu.apic.harvest()
    }
    // Arbitration-ID synchronisation reaches everybody and does nothing.
    write(0, 0x0008_8500)
    for (const { cpu } of bench.kernels) assert.equal(cpu.apic.initPending, false)
    // Remote read of SVR: this machine's parts have no such command.
    write(1 << 24, 0x0000_0300 + (APIC.svr >>> 4))
    assert.equal(apic.statistics.refused, 1)
    // NMI to a logical mask, as NUMA-Q wakes its CPUs.
    write(0b110 << 24, 0x0000_0c00)
    assert.deepEqual(
      bench.kernels.map(({ cpu }) => cpu.apic.nmiPending),
      [0, 1, 1],
    )
  })
})

describe('G2 what each entry pushes', () => {
  const pushed: Record<number, number> = {
    0xfb: -5,
    0xfc: -4,
    0xfd: -3,
    0xfe: -2,
    0xff: -1,
    0xef: -17,
    0xf0: -16,
  }
  for (const [name, vector] of SYSTEM_ENTRIES) {
    test(`${name} pushes ${pushed[vector]}`, () => {
      const { cpu, builder } = new KernelBench(1).kernel(0)
      let origEax = 0
      builder.schedule = (regs) => {
        origEax = regs.origEax
        assert.equal(regs.vector, vector)
        cpu.clearThreadFlags(TIF.NEED_RESCHED)
      }
      cpu.setThreadFlags(TIF.NEED_RESCHED)
      cpu.apic.raise(vector)
      cpu.poll()
      assert.equal(origEax, pushed[vector])
      assert.equal(origEax & 0xff, vector)
      assert.equal(origEax >>> 0, 0xffff_ff00 + vector, 'as a 32-bit word')
    })
  }
})

test('G3 vectors stand at their bits of IRR, ISR and TMR', () => {
  const { apic } = new KernelBench(1, { apic: 'flat' }).kernel(0).cpu
  apic.raise(0xfb)
  assert.equal(apic.read(0x270) >>> 0, 1 << 27)
  apic.raise(0x31)
  assert.equal(apic.read(0x210), 1 << 17)
  apic.raise(0xff)
  apic.acknowledge(0xff)
  assert.equal(apic.read(0x170), 0x8000_0000)
  apic.raise(0x80, true)
  assert.equal(apic.read(0x1c0), 1)
})

test('G4 bigsmp derives logical IDs from physical ones', () => {
  const expected = [0x01, 0x02, 0x04, 0x08, 0x11, 0x12, 0x14, 0x18, 0x21]
  const bench = new KernelBench(expected.length, { apic: 'bigsmp' })
  for (const [id, logical] of expected.entries()) {
    assert.equal(bigsmpLogicalId(id), logical)
    assert.equal(bench.kernel(id).cpu.apic.read(APIC.ldr) >>> 24, logical)
  }
})

test('G5 x2APICs derive their logical IDs from physical ones', () => {
  const expected = new Map([
    [0, 0x0000_0001],
    [5, 0x0000_0020],
    [16, 0x0001_0001],
    [37, 0x0002_0020],
  ])
  const bench = new KernelBench(38, { apic: 'x2apic', online: [...expected.keys()] })
  for (const [id, logical] of expected) {
    assert.equal(x2apicLogicalId(id), logical)
    assert.equal(bench.kernel(id).cpu.apic.readMsr(msr(APIC.ldr)), BigInt(logical))
  }
})

describe('G6 the processor priority', () => {
  const rows: [tpr: number, inService: number | undefined, ppr: number][] = [
    [0x35, undefined, 0x35],
    [0x35, 0x3f, 0x35],
    [0x35, 0x41, 0x40],
    [0x00, 0xfc, 0xf0],
  ]
  for (const [tpr, vector, ppr] of rows) {
    const serving = vector === undefined ? 'nothing' : `${vector.toString(16)}h`
    test(`TPR ${tpr.toString(16)}h, ${serving} in service: ${ppr.toString(16)}h`, () => {
      assert.equal(processorPriority(tpr, vector ?? 0), ppr)
      const { apic } = new KernelBench(1, { apic: 'flat' }).kernel(0).cpu
      if (vector !== undefined) {
        apic.raise(vector)
        apic.acknowledge(vector)
      }
      apic.write(APIC.tpr, tpr)
      assert.equal(apic.ppr, ppr)
    })
  }

  test('FDh waits while PPR is F0h; 40h does not while it is 35h', () => {
    const { apic } = new KernelBench(1, { apic: 'flat' }).kernel(0).cpu
    apic.raise(0xfc)
    apic.acknowledge(0xfc)
    apic.raise(0xfd)
    assert.equal(apic.pendingVector(), -1)
    apic.eoi()
    assert.equal(apic.pendingVector(), 0xfd)
    apic.acknowledge(0xfd)
    apic.eoi()
    apic.write(APIC.tpr, 0x35)
    apic.raise(0x40)
    assert.equal(apic.pendingVector(), 0x40)
  })
})

describe('G7 the work mask', () => {
  const rows: [flags: number, work: ReturnType<typeof exitWork>, schedules: boolean][] = [
    [TIF.SYSCALL_TRACE | TIF.SINGLESTEP | TIF.SYSCALL_AUDIT, 'none', false],
    [TIF.NEED_RESCHED, 'schedule', true],
    [TIF.SIGPENDING, 'signals', false],
    [TIF.POLLING_NRFLAG, 'none', false],
    [TIF.NEED_RESCHED | TIF.SIGPENDING | TIF.SINGLESTEP, 'schedule', true],
  ]
  for (const [flags, work, schedules] of rows) {
    test(`flags ${flags.toString(16)}h: ${work}`, () => {
      assert.equal(exitWork(flags), work)
      const { cpu, rescheduler } = new KernelBench(1).kernel(0)
      let scheduled = false
      rescheduler.onSchedule = () => void (scheduled = true)
      cpu.setThreadFlags(flags)
      cpu.apic.raise(RESCHEDULE_VECTOR)
      cpu.poll()
      assert.equal(scheduled, schedules)
    })
  }

  test('the flags have the numbers of 2.6.11', () => {
    assert.equal(TIF.SYSCALL_TRACE | TIF.SINGLESTEP | TIF.SYSCALL_AUDIT, 0x91)
    assert.equal(TIF.NEED_RESCHED, 0x8)
    assert.equal(TIF.SIGPENDING, 0x4)
    assert.equal(TIF.POLLING_NRFLAG, 0x1_0000)
  })
})

for (const callDriver of CALL_DRIVERS) {
  test(`G8 in a called function the preemption count is 0001_0000h (${callDriver})`, async () => {
    const bench = new KernelBench(2, { callDriver })
    bench.share('count', ({ cpu }) => () => [cpu.preempt.value, cpu.preempt.inIrq])
    const [count, inIrq] = (await bench.drive(bench.kernel(0).calls.single(1, 'count', 0))) as [
      number,
      boolean,
    ]
    assert.equal(count, 0x0001_0000)
    assert.equal(inIrq, true)
    assert.equal(bench.kernel(1).cpu.preempt.value, 0, 'and 0 again after it')
  })
}

forEachApicDriver((apic) => {
  test(`G9 the local APIC after set-up (${apic})`, () => {
    const bench = new KernelBench(3, { apic })
    for (const { cpu } of bench.kernels) {
      const read = (offset: number): number =>
        apic === 'x2apic' ? Number(cpu.apic.readMsr(msr(offset))) : cpu.apic.read(offset)
      assert.equal(read(APIC.svr), 0x1ff)
      assert.equal(read(APIC.tpr), 0)
      assert.equal(read(APIC.lvtError), 0xfe)
      assert.equal(read(APIC.lvtLint1), cpu.id === 0 ? 0x400 : 0x1_0400)
      assert.deepEqual(requested(cpu), [])
      assert.equal(cpu.memory.readCpu(cpu.id, CPU.interruptsOff), 0)
    }
  })
})

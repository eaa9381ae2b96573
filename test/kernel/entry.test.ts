/**
 * Entry into an interrupt: which handler stands behind which vector, the frame it is given, when it
 * acknowledges. Rows D-205 to D-207 and D-228 of docs/conformance.md; the book's claims F-03, F-05
 * and F-15 to F-20.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU } from '../../src/hardware/layout.ts'
import { EVENT } from '../../src/kernel/cpu.ts'
import type { PtRegs, SmpHandler } from '../../src/kernel/entry.ts'
import { SYSTEM_ENTRIES } from '../../src/kernel/idt.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { TIF } from '../../src/kernel/thread-flags.ts'
import { checkSendVector, VECTOR } from '../../src/kernel/vectors.ts'
import { APIC_DRIVERS, KernelBench } from '../support/kernel-bench.ts'
import { inService, spyBefore } from '../support/kernel-spies.ts'

/** The vectors that any sender accepts. */
const SENDABLE = Array.from({ length: 256 }, (_, vector) => vector).filter((vector) => {
  try {
    checkSendVector(vector)
    return true
  } catch {
    return false
  }
})
/** The vectors of the external interrupts. */
const EXTERNAL = SENDABLE.filter((vector) => vector >= 0x20)

/** What is in a frame; the frame itself is used again. */
const copy = ({ origEax, vector, interruptFlag, userMode, path, preemptCount }: PtRegs) => ({
  origEax,
  vector,
  interruptFlag,
  userMode,
  path,
  preemptCount,
})

/** Puts a gate behind a vector that acknowledges and tells of its frame. */
function probe(kernel: Kernel, vector: number, tell: (regs: PtRegs) => void): void {
  const handler: SmpHandler = (regs) => {
    kernel.cpu.apic.eoi()
    tell(regs)
  }
  kernel.idt.setIntrGate('probe', vector, handler, () => true)
}

describe('the interrupt descriptor table', () => {
  test('F-03, F-05, F-15 the seven system entries have their names and vectors', () => {
    const { idt } = new KernelBench(1).kernel(0)
    const names = new Map([
      ['callFunctionInterrupt', 0xfb],
      ['rescheduleInterrupt', 0xfc],
      ['invalidateInterrupt', 0xfd],
      ['errorInterrupt', 0xfe],
      ['spuriousInterrupt', 0xff],
      ['apicTimerInterrupt', 0xef],
      ['thermalInterrupt', 0xf0],
    ])
    assert.deepEqual(new Map(SYSTEM_ENTRIES), names)
    for (const [name, vector] of names) assert.equal(idt.entry(vector)?.name, name)
    for (const vector of EXTERNAL) {
      if ([...names.values()].includes(vector)) continue
      assert.equal(idt.entry(vector)?.name, `irq${vector}`, 'every other vector has a device stub')
    }
  })

  test('F-03 the five top vectors share class 15, the timer is below them, spurious ends in Fh', () => {
    const { CALL_FUNCTION_VECTOR, RESCHEDULE_VECTOR, INVALIDATE_TLB_VECTOR } = VECTOR
    const top = [CALL_FUNCTION_VECTOR, RESCHEDULE_VECTOR, INVALIDATE_TLB_VECTOR, 0xfe, 0xff]
    for (const vector of top) assert.equal(vector >>> 4, 15)
    assert.equal(VECTOR.LOCAL_TIMER_VECTOR >>> 4, 14)
    assert.equal(VECTOR.SPURIOUS_APIC_VECTOR & 0xf, 0xf)
  })
})

describe('D-205 the frame', () => {
  test('D-205, F-17 orig_eax is the vector minus 256, for every external vector', () => {
    const kernel = new KernelBench(1).kernel(0)
    for (const vector of EXTERNAL) {
      let frame: ReturnType<typeof copy> | undefined
      probe(kernel, vector, (regs) => (frame = copy(regs)))
      kernel.cpu.apic.raise(vector)
      kernel.cpu.poll()
      assert.ok(frame !== undefined, `vector ${vector} was taken`)
      assert.equal(frame.origEax, vector - 256)
      assert.ok(frame.origEax < 0, 'nobody takes it for a system call')
      assert.equal(frame.vector, vector)
    }
  })

  test('D-205 user mode is application code that may be preempted, all else is kernel mode', () => {
    const bench = new KernelBench(1)
    const kernel = bench.kernel(0)
    const { cpu } = kernel
    const frames: ReturnType<typeof copy>[] = []
    probe(kernel, 0x60, (regs) => void frames.push(copy(regs)))
    const take = (run: () => void): ReturnType<typeof copy> => {
      cpu.apic.raise(0x60)
      run()
      return frames.pop()!
    }
    assert.equal(take(() => cpu.poll()).userMode, true)
    assert.equal(take(() => cpu.cpuRelax()).userMode, false)
    cpu.preemptDisable()
    const held = take(() => cpu.poll())
    assert.equal(held.userMode, false)
    assert.equal(held.preemptCount, 1)
    cpu.preemptEnable()
  })

  test('D-205 the frame says how the interrupt was taken and whether interrupts were on', () => {
    const bench = new KernelBench(1)
    const kernel = bench.kernel(0)
    const { cpu } = kernel
    const frames: ReturnType<typeof copy>[] = []
    probe(kernel, 0x60, (regs) => void frames.push(copy(regs)))
    for (const path of ['safepoint', 'eventLoop', 'forced'] as const) {
      cpu.apic.raise(0x60)
      cpu.core.deliverInterrupts(path)
      assert.equal(frames.pop()?.path, path)
    }
    cpu.core.interrupt(0x60)
    assert.equal(frames.pop()?.interruptFlag, true)
    cpu.localIrqDisable()
    cpu.core.interrupt(0x60)
    assert.equal(frames.pop()?.interruptFlag, false, 'INT n asks no flag')
    assert.equal(cpu.irqsDisabled, true, 'and restores it')
  })

  test('F-16 what a nested interrupt finds and leaves is what the outer one was', () => {
    const bench = new KernelBench(1)
    const kernel = bench.kernel(0)
    const { cpu } = kernel
    const trace: unknown[] = []
    const current = (): number => cpu.memory.readCpu(0, CPU.currentVector)
    probe(kernel, 0x90, (regs) => {
      trace.push({ ...copy(regs), current: current() })
      // A handler that forgets what it added.
      cpu.preempt.add(1)
      cpu.preempt.add(0x10000)
    })
    probe(kernel, 0x60, (regs) => {
      const before = copy(regs)
      cpu.preemptDisable()
      cpu.apic.raise(0x90)
      cpu.localIrqEnable()
      assert.equal(cpu.preempt.value, 1, 'the frame restores the count')
      cpu.preemptEnable()
      assert.deepEqual(copy(regs), before)
      assert.equal(current(), 0x60)
      trace.push('outer')
    })
    cpu.apic.raise(0x60)
    cpu.poll()
    assert.deepEqual(trace, [
      {
        origEax: 0x90 - 256,
        vector: 0x90,
        interruptFlag: true,
        userMode: false,
        path: 'safepoint',
        preemptCount: 1,
        current: 0x90,
      },
      'outer',
    ])
    assert.equal(cpu.preempt.value, 0)
    assert.equal(cpu.kernelDepth, 0)
    assert.equal(cpu.irqsDisabled, false)
    assert.equal(current(), 0)
  })
})

test('F-18, F-19 each entry calls its handler, then returns through retFromIntr', () => {
  for (const [name, vector] of SYSTEM_ENTRIES) {
    const kernel = new KernelBench(1).kernel(0)
    const trace: string[] = []
    spyBefore(kernel.cpu.apic, 'eoi', () => trace.push('handler'))
    kernel.builder.schedule = () => {
      trace.push('retFromIntr')
      kernel.cpu.clearThreadFlags(TIF.NEED_RESCHED)
    }
    kernel.cpu.setThreadFlags(TIF.NEED_RESCHED)
    kernel.cpu.apic.raise(vector)
    kernel.cpu.poll()
    assert.deepEqual(trace, ['handler', 'retFromIntr'], name)
    assert.equal(kernel.idt.entry(vector)!.vector, vector)
  }
})

test('D-206 interrupts are off in every handler, and on again after it', () => {
  const bench = new KernelBench(1)
  const kernel = bench.kernel(0)
  const { cpu } = kernel
  const off: boolean[] = []
  spyBefore(cpu.apic, 'eoi', () => off.push(cpu.irqsDisabled))
  kernel.idt.requestIrq(0x60, 'probe', () => off.push(cpu.irqsDisabled))
  const { nmi } = cpu.handlers
  cpu.handlers.nmi = (interruptFlag) => {
    off.push(cpu.irqsDisabled)
    nmi(interruptFlag)
  }
  for (const vector of [0x60, ...SYSTEM_ENTRIES.map(([, system]) => system)]) {
    off.length = 0
    cpu.apic.raise(vector)
    cpu.poll()
    assert.deepEqual([...new Set(off)], [true], `vector ${vector.toString(16)}h`)
    assert.equal(cpu.irqsDisabled, false)
  }
  off.length = 0
  cpu.descriptors[0]!.postNmi()
  cpu.poll()
  assert.deepEqual(off, [true], 'NMI')
  assert.equal(cpu.irqsDisabled, false)
})

for (const apic of APIC_DRIVERS) {
  describe(`D-228 unexpected vectors (${apic})`, () => {
    test('D-228, B1.5 every vector without a handler is logged and acknowledged', () => {
      const bench = new KernelBench(2, { apic })
      const { cpu } = bench.kernel(1)
      const system = new Set<number>(SYSTEM_ENTRIES.map(([, vector]) => vector))
      const wrong: string[] = []
      for (const vector of SENDABLE.filter((each) => !system.has(each))) {
        const counted = cpu.readCount(1, EVENT.unexpected)
        bench.warnings.length = 0
        bench.kernel(0).senders.sendIpiCpu(1, vector)
        bench.poll(1)
        const logged =
          cpu.readCount(1, EVENT.unexpected) === counted + 1 &&
          bench.warnings.length === 1 &&
          new RegExp(`\\b${vector}\\b.*CPU 1`).test(bench.warnings[0]!)
        if (!logged) wrong.push(`${vector} not logged`)
        if (inService(cpu).length > 0) wrong.push(`${vector} not acknowledged`)
        while (inService(cpu).length > 0) cpu.apic.eoi()
      }
      assert.equal(wrong.join(), '')
    })

    test('D-228 a handler that was freed leaves no vector behind', () => {
      const bench = new KernelBench(2, { apic })
      const { idt, cpu } = bench.kernel(1)
      const counts: number[] = [0]
      idt.requestIrq(0x60, 'first', () => void counts[0]!++)
      idt.freeIrq(0x60)
      bench.kernel(0).senders.sendIpiCpu(1, 0x60)
      bench.poll(1)
      assert.deepEqual(inService(cpu), [])
      idt.requestIrq(0x60, 'second', () => void counts[0]!++)
      bench.kernel(0).senders.sendIpiCpu(1, 0x60)
      bench.poll(1)
      assert.deepEqual(counts, [1])
    })
  })
}

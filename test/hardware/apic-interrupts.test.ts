/**
 * What one APIC does with fixed interrupts: acceptance, priorities, end of interrupt, the spurious
 * vector. Row D-138 of docs/conformance.md, and G6.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { arbitrationPriority, processorPriority } from '../../src/hardware/apic/priority.ts'
import { ATTENTION, ATTENTION_VECTOR_SHIFT, CPU, CPU_STATE } from '../../src/hardware/layout.ts'
import { or } from '../../src/hardware/memory.ts'
import { ApicBench, serve, vectorsIn } from './apic-bench.ts'

const TPR = 0x080
const APR = 0x090
const PPR = 0x0a0
const EOI = 0x0b0
const SVR = 0x0f0
const ISR = 0x100
const IRR = 0x200

const NMI = 0x400
const INIT = 0x500
const STARTUP = 0x600
const LEVEL_ASSERT = 0xc000

const one = () => new ApicBench(1).apics[0]!

describe('acceptance', () => {
  test('a vector that is requested again merges; in service, it is remembered once more', () => {
    const apic = one()
    apic.raise(0x40)
    apic.raise(0x40)
    assert.equal(apic.pendingVector(), 0x40)
    apic.acknowledge(0x40)
    apic.raise(0x40)
    apic.raise(0x40)
    assert.ok(apic.irr(0x40) && apic.isr(0x40), 'one in service, one pending')
    apic.eoi()
    assert.deepEqual(serve(apic), [0x40])
  })

  test('posts of all words arrive, each in its place', () => {
    const bench = new ApicBench(1)
    const vectors = [0x10, 0x1f, 0x20, 0x5f, 0x60, 0x9f, 0xa0, 0xdf, 0xe0, 0xff]
    for (const vector of vectors) bench.descriptors[0]!.postFixed(vector, false)
    bench.apics[0]!.harvest()
    assert.deepEqual(vectorsIn(bench.apics[0]!, IRR), vectors)
  })

  test('one post stands in the attention word, and the next beside it in its own', () => {
    const bench = new ApicBench(1)
    const page = bench.memory.cpuPage(0)
    const [descriptor] = bench.descriptors
    const read = (field: number): number => bench.memory.readCpu(0, field)
    descriptor!.postFixed(0xff, false)
    assert.equal(read(CPU.attention) >>> ATTENTION_VECTOR_SHIFT, 0xff)
    assert.equal(read(CPU.pir + 7), 0)
    descriptor!.postFixed(0x40, false)
    descriptor!.postFixed(0xff, false)
    assert.equal(read(CPU.pir + 2), 1)
    assert.equal(read(CPU.pir + 7), -1 << 31)
    bench.apics[0]!.harvest()
    assert.deepEqual(vectorsIn(bench.apics[0]!, IRR), [0x40, 0xff])
    assert.equal(bench.memory.words[page + CPU.attention], 0)
  })

  test('a post is forgotten with the life that it was meant for; a latched NMI is not', () => {
    const bench = new ApicBench(1)
    bench.descriptors[0]!.postFixed(0x40, false)
    bench.descriptors[0]!.postFixed(0x41, false)
    bench.descriptors[0]!.postNmi()
    bench.apics[0]!.reset('init')
    bench.apics[0]!.write(SVR, 0x1ff)
    bench.apics[0]!.harvest()
    assert.deepEqual(vectorsIn(bench.apics[0]!, IRR), [])
    assert.equal(bench.apics[0]!.nmiPending, 1)
  })

  test('harvest gives the attention bits, and takes only what they announce', () => {
    const bench = new ApicBench(1)
    bench.descriptors[0]!.postFixed(0x40, false)
    or(bench.memory.words, bench.memory.cpuPage(0) + CPU.pir + 3, 1)
    bench.descriptors[0]!.attend(ATTENTION.completion)
    const single = ATTENTION.single | (0x40 << ATTENTION_VECTOR_SHIFT)
    assert.equal(bench.apics[0]!.harvest(), single | ATTENTION.completion)
    assert.deepEqual(vectorsIn(bench.apics[0]!, IRR), [0x40])
    assert.equal(bench.apics[0]!.harvest(), 0)
  })

  test('neither TPR nor what is in service keeps a request out; they delay it', () => {
    const apic = one()
    apic.write(TPR, 0xff)
    apic.raise(0xf0)
    assert.equal(apic.pendingVector(), -1)
    assert.equal(apic.hasPending, true)
    apic.write(TPR, 0)
    assert.equal(apic.pendingVector(), 0xf0)
  })

  test('software disabled, arrivals are discarded, and what was there before is kept', () => {
    const bench = new ApicBench(2)
    const apic = bench.apics[1]!
    apic.raise(0x50)
    apic.acknowledge(0x50)
    apic.raise(0x60)
    apic.write(SVR, 0xff)
    apic.raise(0x70)
    bench.apics[0]!.sendCommand(1, 0x71)
    apic.harvest()
    assert.deepEqual(vectorsIn(apic, IRR), [0x60])
    assert.deepEqual(vectorsIn(apic, ISR), [0x50])
    assert.equal(apic.statistics.discarded, 2)
    assert.equal(apic.pendingVector(), 0x60)
  })

  test('software disabled, NMI, INIT and start-up still arrive', () => {
    const bench = new ApicBench(2)
    const apic = bench.apics[1]!
    apic.write(SVR, 0xff)
    for (const command of [NMI, INIT | LEVEL_ASSERT, STARTUP | 0x12]) {
      bench.apics[0]!.sendCommand(1, command)
    }
    apic.harvest()
    assert.equal(apic.nmiPending, 1)
    assert.equal(apic.initPending, true)
    assert.equal(apic.startupVector, 0x12)
  })

  test('waiting for start-up, fixed messages are discarded, even if the APIC were enabled', () => {
    const bench = new ApicBench(2)
    bench.setState(1, CPU_STATE.waitingForSipi)
    bench.apics[0]!.sendCommand(1, 0x71)
    bench.apics[1]!.harvest()
    bench.setState(1, CPU_STATE.running)
    assert.deepEqual(serve(bench.apics[1]!), [])
    assert.equal(bench.apics[1]!.statistics.discarded, 1)
  })

  test('D-138: TMR follows the trigger of the last acceptance, and persists', () => {
    const bench = new ApicBench(2)
    const apic = bench.apics[1]!
    for (const post of [
      (level: boolean) => apic.raise(0x40, level),
      (level: boolean) => bench.descriptors[1]!.postFixed(0x40, level),
    ]) {
      for (const level of [true, false, true]) {
        post(level)
        assert.deepEqual(serve(apic), [0x40])
        assert.equal(apic.tmr(0x40), level)
      }
    }
  })

  test('a level mark whose post is still on its way is left for that post', () => {
    const bench = new ApicBench(1)
    const apic = bench.apics[0]!
    // Another sender has marked 41h and is about to post it, when 40h arrives.
    or(bench.memory.words, bench.memory.cpuPage(0) + CPU.levelPosts + 2, 1 << 1)
    bench.descriptors[0]!.postFixed(0x40, true)
    assert.deepEqual(serve(apic), [0x40])
    or(bench.memory.words, bench.memory.cpuPage(0) + CPU.pir + 2, 1 << 1)
    bench.descriptors[0]!.attend((1 << 2) | ATTENTION.level)
    assert.deepEqual(serve(apic), [0x41])
    assert.equal(apic.tmr(0x41), true)
    bench.descriptors[0]!.postFixed(0x41, false)
    serve(apic)
    assert.equal(apic.tmr(0x41), false, 'and it is used up')
  })
})

describe('priorities', () => {
  test('G6: the processor priority', () => {
    assert.equal(processorPriority(0x35, 0), 0x35)
    assert.equal(processorPriority(0x35, 0x3f), 0x35)
    assert.equal(processorPriority(0x35, 0x41), 0x40)
    assert.equal(processorPriority(0x00, 0xfc), 0xf0)
  })

  test('G6: the same in the registers, and what it lets through', () => {
    const apic = one()
    apic.write(TPR, 0x35)
    assert.equal(apic.read(PPR), 0x35)
    apic.raise(0x40)
    assert.equal(apic.pendingVector(), 0x40, 'class 4 over 35h')
    apic.raise(0x41)
    apic.acknowledge(apic.pendingVector())
    assert.equal(apic.read(PPR), 0x40)
    apic.write(TPR, 0)
    apic.raise(0xfc)
    apic.acknowledge(0xfc)
    assert.equal(apic.ppr, 0xf0)
    apic.raise(0xfd)
    assert.equal(apic.pendingVector(), -1, 'FDh does not interrupt class 15')
  })

  test('PPR is TPR in full while TPR has the higher or the same class', () => {
    const apic = one()
    apic.raise(0x3f)
    apic.acknowledge(0x3f)
    assert.equal(apic.ppr, 0x30)
    apic.write(TPR, 0x35)
    assert.equal(apic.ppr, 0x35)
    apic.eoi()
    assert.equal(apic.ppr, 0x35)
    apic.write(TPR, 0)
    assert.equal(apic.ppr, 0)
  })

  test('the arbitration priority, with the bitwise AND that the manual prints', () => {
    assert.equal(arbitrationPriority(0x35, 0x31, 0x21), 0x35)
    assert.equal(arbitrationPriority(0x35, 0x31, 0x31), 0x30, 'equal classes do not exceed')
    assert.equal(arbitrationPriority(0x50, 0x20, 0x60), 0x40, '5 AND 6 is 4')
    assert.equal(arbitrationPriority(0x50, 0x70, 0x60), 0x70)
    const apic = one()
    apic.raise(0x61)
    apic.acknowledge(0x61)
    apic.write(TPR, 0x50)
    assert.equal(apic.read(APR), 0x40)
  })

  test('inside a class the higher vector is picked first, and never preempts the lower', () => {
    const apic = one()
    apic.raise(0x42)
    apic.raise(0x41)
    apic.acknowledge(apic.pendingVector())
    assert.ok(apic.isr(0x42))
    apic.raise(0x4f)
    assert.equal(apic.pendingVector(), -1)
    apic.raise(0x50)
    assert.equal(apic.pendingVector(), 0x50)
  })

  test('nine bits are no vector, and a register that is no LVT entry has no source', () => {
    assert.throws(() => one().raise(256), { name: 'AssertionError' })
    assert.throws(() => one().signal(TPR), { name: 'AssertionError' })
  })

  test('a vector must be requested to be acknowledged', () => {
    assert.throws(() => one().acknowledge(0x40), { name: 'AssertionError' })
  })
})

describe('end of interrupt', () => {
  test('it retires the highest vector in service, whoever asks', () => {
    const apic = one()
    for (const vector of [0x40, 0x50, 0x61]) {
      apic.raise(vector)
      apic.acknowledge(vector)
    }
    assert.equal(apic.eoi(), 0x61)
    apic.write(EOI, 0)
    assert.deepEqual(vectorsIn(apic, ISR), [0x40])
    assert.equal(apic.ppr, 0x40)
    apic.write(EOI, 0x1234)
    assert.deepEqual(vectorsIn(apic, ISR), [])
  })

  test('with nothing in service it does nothing', () => {
    const apic = one()
    apic.raise(0x40)
    assert.equal(apic.eoi(), -1)
    apic.write(EOI, 0)
    assert.equal(apic.pendingVector(), 0x40)
  })

  test('one that is missing blocks its class and all below it', () => {
    const apic = one()
    apic.raise(0xfc)
    apic.acknowledge(0xfc)
    for (const vector of [0xff, 0xfb, 0x20]) apic.raise(vector)
    assert.equal(apic.pendingVector(), -1)
  })
})

describe('the spurious vector', () => {
  test('injected, it is given instead, and leaves ISR and the pending vector alone', () => {
    const apic = one()
    apic.raise(0x40)
    apic.injectSpurious()
    assert.equal(apic.hasPending, true)
    assert.equal(apic.pendingVector(), 0xff)
    apic.acknowledge(0xff)
    assert.deepEqual(vectorsIn(apic, ISR), [])
    assert.equal(apic.pendingVector(), 0x40)
  })

  test('it is the vector in SVR', () => {
    const apic = one()
    apic.write(SVR, 0x1ef)
    apic.injectSpurious()
    assert.equal(apic.pendingVector(), 0xef)
  })

  test('FFh as an ordinary interrupt is in service and owes an EOI', () => {
    const apic = one()
    apic.raise(0xff)
    apic.acknowledge(apic.pendingVector())
    assert.equal(apic.isr(0xff), true)
    assert.equal(apic.eoi(), 0xff)
  })
})

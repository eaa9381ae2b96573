/**
 * TLB shootdown as Linux 2.6.11 has it, `tlbDriver: 'tlbstate'`: who is asked, what is forgotten, how a CPU leaves a space it does not use. Rows
 * D-215 to D-221 of docs/conformance.md; the book's claims F-13 and F-14. The protocol is B10.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU, HEADER, INIT_MM } from '../../src/hardware/layout.ts'
import { EVENT } from '../../src/kernel/cpu.ts'
import { vmMask } from '../../src/kernel/mm.ts'
import { FLUSH_ALL } from '../../src/kernel/tlb.ts'
import { VECTOR } from '../../src/kernel/vectors.ts'
import {
  APIC_DRIVERS,
  KernelBench,
  tlbStateOf,
  type BenchOptions,
} from '../support/kernel-bench.ts'
import { recordCommands, spyBefore } from '../support/kernel-spies.ts'
import {
  advance,
  callAgain,
  flushAgain,
  heldTranslations,
  holdTranslations,
  nothing,
  waitFor,
  WORD,
} from '../support/kernel-tasks.ts'
import { bootThreads, until } from '../support/kernel-threads.ts'

const TLB_DRIVER = { tlbDriver: 'tlbstate' } as const
const makeBench = (possible: number, options: BenchOptions = {}): KernelBench =>
  new KernelBench(possible, { ...options, ...TLB_DRIVER })

const PAGES = [0x1000, 0x2000, 0x3000]
const { INVALIDATE_TLB_VECTOR } = VECTOR

/** A bench on which CPU `user` holds translations of PAGES of a space; gives the space. */
function using(bench: KernelBench, users: readonly number[], name = 'space'): number {
  const mm = bench.kernel(0).tlb.findMm(name)
  for (const user of users) {
    const { tlb } = bench.kernel(user)
    for (const page of PAGES) tlb.translate(mm, page, () => `page ${page} of ${name}`)
  }
  return mm
}

/** The pages whose translations a CPU holds. */
const held = (bench: KernelBench, cpu: number): number[] =>
  PAGES.filter((page) => tlbStateOf(bench.kernel(cpu)).buffer.has(page))

/** How many TLB interrupts a CPU has taken. */
const interrupts = (bench: KernelBench, cpu: number): number =>
  bench.memory.readCpu(cpu, CPU.vectorCounts + INVALIDATE_TLB_VECTOR)

describe('a CPU that uses the space', () => {
  test('D-215, F-14 flushTlbPage makes it forget exactly that address', async () => {
    const bench = makeBench(2)
    const mm = using(bench, [0, 1])
    await bench.drive(bench.control(0).flush(mm, PAGES[1]!))
    for (const cpu of [0, 1]) assert.deepEqual(held(bench, cpu), [PAGES[0], PAGES[2]])
    assert.equal(interrupts(bench, 1), 1)
    assert.equal(interrupts(bench, 0), 0, 'the initiator asks itself without an interrupt')
    assert.ok(bench.kernel(1).tlb.cpuVmMask(mm).has(1), 'and it goes on using the space')
  })

  test('D-215, F-14 flushTlbMm makes it forget all but global ones', async () => {
    const bench = makeBench(2)
    const mm = using(bench, [0, 1])
    tlbStateOf(bench.kernel(1)).buffer.fill(0x9000, 'kernel', { global: true })
    await bench.drive(bench.control(0).flush(mm, FLUSH_ALL))
    for (const cpu of [0, 1]) assert.deepEqual(held(bench, cpu), [])
    assert.ok(tlbStateOf(bench.kernel(1)).buffer.has(0x9000))
  })

  test('F-13 flushTlbAll reaches everybody by the call-function interrupt, global ones too', async () => {
    const bench = makeBench(3)
    using(bench, [1])
    tlbStateOf(bench.kernel(2)).buffer.fill(0x9000, 'kernel', { global: true })
    await bench.drive(bench.control(0).flushTlbAll())
    assert.deepEqual(held(bench, 1), [])
    assert.equal(tlbStateOf(bench.kernel(2)).buffer.size, 0)
    assert.equal(interrupts(bench, 1) + interrupts(bench, 2), 0)
  })

  test('B10.7 the request slot is empty and unlocked after a flush', async () => {
    const bench = makeBench(2)
    const mm = using(bench, [0, 1])
    const { words } = bench.memory
    const flush = bench.control(0).flush(mm, PAGES[0]!)
    assert.equal(words[HEADER.flushMm], mm)
    assert.equal(words[HEADER.flushVa], PAGES[0])
    assert.equal(bench.memory.readMask(HEADER.flushMask).toString(), '1')
    await bench.drive(flush)
    assert.equal(words[HEADER.flushMm], INIT_MM)
    assert.ok(bench.memory.readMask(HEADER.flushMask).isEmpty)
    assert.equal(words[HEADER.tlbLock], 0)
  })
})

for (const apic of APIC_DRIVERS) {
  test(`F-13 the interrupts number the CPUs of the space without the initiator (${apic})`, async () => {
    const bench = makeBench(6, { apic })
    const mm = using(bench, [0, 2, 5])
    using(bench, [3], 'other')
    const sent = recordCommands(bench.kernel(0).cpu)
    await bench.drive(bench.control(0).flush(mm, FLUSH_ALL))
    assert.deepEqual(
      bench.kernels.map(({ cpu }) => interrupts(bench, cpu.id)),
      [0, 0, 1, 0, 0, 1],
    )
    assert.equal(sent.length, apic === 'flat' ? 1 : 2)
    // From a CPU that does not use it, all that use it are asked.
    await bench.drive(bench.control(1).flush(mm, FLUSH_ALL))
    assert.deepEqual(
      bench.kernels.map(({ cpu }) => interrupts(bench, cpu.id)),
      [1, 0, 2, 0, 0, 2],
    )
    const before = sent.length
    await bench.drive(bench.control(0).flush(using(bench, [0], 'private'), FLUSH_ALL))
    assert.equal(sent.length, before, 'nobody else uses it: nobody is asked')
  })
}

describe('a lazy CPU', () => {
  /** CPU 1 is lazy on a space; gives it, and how often its tables were loaded since. */
  function lazy(): { bench: KernelBench; mm: number; reloads: () => number } {
    const bench = makeBench(2)
    const mm = using(bench, [0, 1])
    const tlb = tlbStateOf(bench.kernel(1))
    tlb.enterLazyTlb()
    let count = 0
    spyBefore(tlb.buffer, 'reload', () => count++)
    return { bench, mm, reloads: () => count }
  }

  test('D-216 a flush makes it leave: no mask bit, kernel tables, no further interrupts', async () => {
    const { bench, mm } = lazy()
    await bench.drive(bench.control(0).flush(mm, FLUSH_ALL))
    const tlb = tlbStateOf(bench.kernel(1))
    assert.equal(tlb.cpuVmMask(mm).toString(), '0')
    assert.equal(tlb.loaded, INIT_MM)
    assert.deepEqual(held(bench, 1), [])
    assert.equal(interrupts(bench, 1), 1)
    await bench.drive(bench.control(0).flush(mm, FLUSH_ALL))
    await bench.drive(bench.control(0).flush(mm, PAGES[0]!))
    assert.equal(interrupts(bench, 1), 1)
  })

  test('D-216 so does the flush of a single page', async () => {
    const { bench, mm } = lazy()
    await bench.drive(bench.control(0).flush(mm, PAGES[0]!))
    assert.equal(bench.kernel(1).tlb.cpuVmMask(mm).toString(), '0')
    assert.deepEqual(held(bench, 1), [])
  })

  test('D-217 back from laziness after it has left: tables loaded anew, bit set', async () => {
    const { bench, mm, reloads } = lazy()
    await bench.drive(bench.control(0).flush(mm, FLUSH_ALL))
    const before = reloads()
    const tlb = tlbStateOf(bench.kernel(1))
    tlb.switchMm(mm)
    assert.equal(reloads(), before + 1)
    assert.equal(tlb.loaded, mm)
    assert.equal(tlb.cpuVmMask(mm).toString(), '0-1')
  })

  test('D-218 back from laziness without a flush: nothing is loaded, nothing forgotten', () => {
    const { bench, mm, reloads } = lazy()
    const tlb = tlbStateOf(bench.kernel(1))
    tlb.switchMm(mm)
    assert.equal(reloads(), 0)
    assert.equal(tlb.cpuVmMask(mm).toString(), '0-1')
    assert.deepEqual(held(bench, 1), PAGES)
  })

  test('D-216 flushTlbAll makes a lazy CPU leave, too', async () => {
    const { bench, mm } = lazy()
    await bench.drive(bench.control(0).flushTlbAll())
    assert.equal(bench.kernel(1).tlb.cpuVmMask(mm).toString(), '0')
    assert.equal(tlbStateOf(bench.kernel(1)).loaded, INIT_MM)
  })
})

describe('a CPU that uses another space', () => {
  test('D-219 with a stale mask bit it acknowledges without flushing', async () => {
    const bench = makeBench(2)
    const mm = using(bench, [0])
    const other = using(bench, [1], 'other')
    bench.memory.setCpu(vmMask(mm), 1)
    const flushes = bench.kernel(1).cpu.readCount(1, EVENT.tlbFlushes)
    await bench.drive(bench.control(0).flush(mm, FLUSH_ALL))
    assert.equal(interrupts(bench, 1), 1)
    assert.equal(bench.kernel(1).cpu.readCount(1, EVENT.tlbFlushes), flushes)
    assert.deepEqual(held(bench, 1), PAGES)
    assert.ok(bench.kernel(1).tlb.cpuVmMask(other).has(1))
  })

  test('B10.4 it leaves a space by switching: it is asked no more, and holds nothing of it', () => {
    const bench = makeBench(2)
    const mm = using(bench, [1])
    const other = bench.kernel(1).tlb.findMm('other')
    bench.kernel(1).tlb.switchMm(other)
    assert.ok(bench.kernel(1).tlb.cpuVmMask(mm).isEmpty)
    assert.equal(bench.kernel(1).tlb.cpuVmMask(other).toString(), '1')
    assert.deepEqual(held(bench, 1), [])
    assert.equal(tlbStateOf(bench.kernel(0)).flushOthers(mm, FLUSH_ALL), undefined)
  })

  test('B10.5 switching: state and active space before the bit, the bit before the tables', () => {
    const bench = makeBench(2)
    const { cpu } = bench.kernel(1)
    const tlb = tlbStateOf(bench.kernel(1))
    const next = tlb.findMm('next')
    const order: string[] = []
    const read = (field: number): number => bench.memory.readCpu(1, field)
    spyBefore(cpu.memory, 'setCpu', (at) => {
      assert.equal(at, vmMask(next))
      assert.equal(read(CPU.activeMm), next)
      assert.equal(read(CPU.tlbState), 1)
      order.push('bit set')
    })
    spyBefore(tlb.buffer, 'reload', () => order.push('tables loaded'))
    spyBefore(cpu.memory, 'clearCpu', () => order.push('old bit cleared'))
    tlb.switchMm(next)
    assert.deepEqual(order, ['bit set', 'tables loaded', 'old bit cleared'])
  })
})

describe('several at once', () => {
  test('D-220 a second flusher publishes nothing before the first is through', async () => {
    const bench = makeBench(3)
    const [one, two] = ['one', 'two'].map((name) => bench.kernel(0).tlb.findMm(name))
    for (const mm of [one!, two!]) bench.memory.setCpu(vmMask(mm), 1)
    const first = bench.control(0).flush(one!, FLUSH_ALL)
    const second = bench.control(2).flush(two!, FLUSH_ALL)
    assert.equal(bench.memory.words[HEADER.flushMm], one)
    await bench.drive(Promise.all([first, second]))
    assert.equal(interrupts(bench, 1), 2)
  })

  test('D-220 two CPUs flush different spaces of a third, again and again', async () => {
    await using threads = await bootThreads({ ...TLB_DRIVER, cpus: 4 })
    const { machine, words } = threads
    for (const [index, space] of ['A', 'C'].entries()) {
      machine.addressSpace(space)
      // A stale bit: CPU 2 uses neither, and is asked for both.
      machine.cpu.memory.setCpu(vmMask(INIT_MM + 1 + index), 2)
    }
    const times = 100
    await machine.smpCallFunctionSingle(1, flushAgain, { space: 'A', times })
    await machine.smpCallFunctionSingle(3, flushAgain, { space: 'C', times })
    waitFor(WORD.arrived, 2)
    advance(WORD.gate)
    await until(() => Atomics.load(words, WORD.left) === 2, 'both return')
    assert.equal(machine.interrupts().count('TLB', 2), 2 * times)
  })

  test('D-215 on threads a page is forgotten where it is held, and only that page', async () => {
    await using threads = await bootThreads({ ...TLB_DRIVER, cpus: 3 })
    const { machine } = threads
    const space = machine.addressSpace('shared')
    await machine.onEachCpu(holdTranslations, { space: 'shared', addresses: PAGES })
    assert.equal(space.cpuMask.toString(), '0-2')
    await space.flushTlbPage(PAGES[0]!)
    space.flushTlbPageSync(PAGES[2]!)
    const left = await machine.onEachCpu(heldTranslations, { space: 'shared', addresses: PAGES })
    assert.deepEqual([...left.values()], [[PAGES[1]], [PAGES[1]], [PAGES[1]]])
  })

  test('D-221 one CPU flushes another, which calls the first meanwhile: both complete', async () => {
    await using threads = await bootThreads({ ...TLB_DRIVER, cpus: 2 })
    const { machine, words } = threads
    const times = 200
    await machine.smpCallFunctionSingle(1, holdTranslations, { space: 'B', addresses: PAGES })
    await machine.smpCallFunctionSingle(1, callAgain, { target: 0, times })
    waitFor(WORD.arrived, 1)
    advance(WORD.gate)
    const space = machine.addressSpace('B')
    for (let i = 0; i < times; i++) space.flushTlbMmSync()
    await until(() => Atomics.load(words, WORD.left) === 1, 'CPU 1 has made its calls')
    assert.equal(words[WORD.counts], times)
    assert.equal(machine.interrupts().count('TLB', 1), times)
    await machine.smpCallFunctionSingle(1, nothing)
  })
})

/**
 * TLB shootdown by generations, the default: what rows D-215 to D-221 of docs/conformance.md say of it, and
 * who is asked, woken and waited for.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU } from '../../src/hardware/layout.ts'
import { FLUSH, type Flush } from '../../src/kernel/flush-log.ts'
import { Fill } from '../../src/kernel/fills.ts'
import type { FlushLevel, FlushRequest } from '../../src/kernel/shootdown.ts'
import { FLUSH_ALL } from '../../src/kernel/tlb.ts'
import { GenerationTlb } from '../../src/kernel/tlb-generations.ts'
import type { Translations } from '../../src/kernel/translations.ts'
import { VECTOR } from '../../src/kernel/vectors.ts'
import { KernelBench } from '../support/kernel-bench.ts'

const PAGES = [0x1000, 0x2000, 0x3000]
const keyFlush = (page: number): Flush => ({ kind: FLUSH.key, from: page, to: 0 })

function tlbOf(bench: KernelBench, cpu: number): GenerationTlb {
  const { tlb } = bench.kernel(cpu)
  assert.ok(tlb instanceof GenerationTlb)
  return tlb
}

/** CPUs that have read PAGES in this turn of their event loop. */
function using(bench: KernelBench, users: readonly number[], name = 'space'): number {
  const mm = bench.kernel(0).tlb.findMm(name)
  for (const user of users) {
    for (const page of PAGES) bench.kernel(user).tlb.translate(mm, page, () => page)
  }
  return mm
}

const spaceOf = (bench: KernelBench, cpu: number, mm: number): Translations =>
  tlbOf(bench, cpu).space(mm)
/** What a CPU has, without looking at the generation. */
const copies = (bench: KernelBench, cpu: number, mm: number): number[] =>
  PAGES.filter((page) => spaceOf(bench, cpu, mm).buffer.has(page))
const interrupts = (bench: KernelBench, cpu: number): number =>
  bench.memory.readCpu(cpu, CPU.vectorCounts + VECTOR.INVALIDATE_TLB_VECTOR)
const shoot = (
  bench: KernelBench,
  mm: number,
  level: FlushLevel,
  options: { readonly wakeLazy?: boolean; readonly flushes?: readonly Flush[] } = {},
): FlushRequest | undefined => {
  const { flushes = [keyFlush(PAGES[1]!)], wakeLazy = false } = options
  return tlbOf(bench, 0).shootDown(mm, flushes, { level, wakeLazy })
}

describe('an active CPU', () => {
  test('D-215 drops exactly what was flushed, when it is interrupted', async () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [0, 1])
    await bench.drive(bench.control(0).flush(mm, PAGES[1]!))
    for (const cpu of [0, 1]) assert.deepEqual(copies(bench, cpu, mm), [PAGES[0], PAGES[2]])
    assert.equal(interrupts(bench, 1), 1)
  })

  test('D-215 or at its next look-up, and then it need not be interrupted to be done', () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    const request = shoot(bench, mm, 'dropped')
    assert.deepEqual(request?.late(), [1])
    assert.equal(request.finish(), false)
    assert.equal(spaceOf(bench, 1, mm).find(PAGES[0]!)?.value, PAGES[0])
    assert.deepEqual(copies(bench, 1, mm), [PAGES[0], PAGES[2]])
    assert.equal(request.finish(), true)
  })

  test('drops ranges, large and small, and nothing else', async () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [0, 1])
    await bench.drive(bench.control(0).flush(mm, 0x1001, 0x2001))
    for (const cpu of [0, 1]) assert.deepEqual(copies(bench, cpu, mm), [PAGES[0], PAGES[2]])
    // Their turns have ended: they drop the rest when they look.
    await bench.drive(bench.control(0).flush(mm, FLUSH_ALL))
    for (const cpu of [0, 1]) spaceOf(bench, cpu, mm).poll()
    for (const cpu of [0, 1]) assert.deepEqual(copies(bench, cpu, mm), [])
  })

  test('several flushes before it looks are one interrupt, and each is applied', async () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    const flushes = PAGES.slice(0, 2).map((page) => bench.control(0).flush(mm, page))
    await bench.drive(Promise.all(flushes))
    assert.equal(interrupts(bench, 1), 1)
    assert.deepEqual(copies(bench, 1, mm), [PAGES[2]])
    assert.equal(spaceOf(bench, 1, mm).counts.full, 0)
  })

  test('a visible flush asks nobody', () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    assert.equal(shoot(bench, mm, 'visible'), undefined)
    bench.poll(1)
    assert.equal(interrupts(bench, 1), 0)
    assert.deepEqual(copies(bench, 1, mm), PAGES)
    assert.equal(spaceOf(bench, 1, mm).find(PAGES[1]!), undefined)
  })

  test('a quiesced flush waits for the end of its turn, and a look-up does not do', () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    const space = spaceOf(bench, 1, mm)
    const request = shoot(bench, mm, 'quiesced')
    space.poll()
    assert.equal(request?.finish(), false)
    space.goLazy(true)
    assert.equal(request.finish(), false, 'lazy in the middle of a turn')
    space.goLazy(false)
    assert.equal(request.finish(), true)
  })
})

describe('a lazy CPU', () => {
  function lazy(): { bench: KernelBench; mm: number; space: Translations } {
    const bench = new KernelBench(2)
    const mm = using(bench, [0, 1])
    const space = spaceOf(bench, 1, mm)
    space.goLazy(false)
    return { bench, mm, space }
  }

  test('D-216 is neither interrupted nor waited for', () => {
    const { bench, mm } = lazy()
    assert.equal(shoot(bench, mm, 'dropped'), undefined)
    assert.equal(shoot(bench, mm, 'quiesced'), undefined)
    bench.poll(1)
    assert.equal(interrupts(bench, 1), 0)
  })

  test('D-217 catches up before its next look-up', () => {
    const { bench, mm, space } = lazy()
    shoot(bench, mm, 'dropped')
    assert.equal(space.find(PAGES[1]!), undefined)
    assert.deepEqual(copies(bench, 1, mm), [PAGES[0], PAGES[2]])
  })

  test('D-218 keeps everything if nothing was flushed', () => {
    const { bench, mm, space } = lazy()
    assert.equal(space.find(PAGES[1]!)?.value, PAGES[1])
    assert.deepEqual(copies(bench, 1, mm), PAGES)
  })

  test('drops its copies without getting active where the memory behind them is used again', async () => {
    const { bench, mm } = lazy()
    const request = shoot(bench, mm, 'dropped', { wakeLazy: true })
    await bench.drive(bench.kernel(0).flushes.until(request))
    assert.deepEqual(copies(bench, 1, mm), [PAGES[0], PAGES[2]])
    assert.equal(shoot(bench, mm, 'dropped'), undefined, 'it is lazy still')
  })

  test('gets lazy when its turn ends', async () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    assert.deepEqual(shoot(bench, mm, 'dropped')?.late(), [1])
    await new Promise(setImmediate)
    assert.equal(shoot(bench, mm, 'dropped'), undefined)
  })
})

describe('who is asked', () => {
  test('D-219 a CPU that uses another space keeps what it has, and is not interrupted', async () => {
    const bench = new KernelBench(3)
    const mm = using(bench, [1])
    const other = using(bench, [2], 'other')
    await bench.drive(bench.control(0).flush(mm, FLUSH_ALL))
    assert.equal(interrupts(bench, 2), 0)
    assert.deepEqual(copies(bench, 2, other), PAGES)
  })

  test('D-220 flushes of two spaces do not wait for each other', async () => {
    const bench = new KernelBench(3)
    const [one, two] = [using(bench, [1], 'one'), using(bench, [1], 'two')]
    const flushes = [bench.control(0).flush(one, FLUSH_ALL), bench.control(2).flush(two, FLUSH_ALL)]
    await bench.drive(Promise.all(flushes))
    assert.deepEqual([copies(bench, 1, one), copies(bench, 1, two)], [[], []])
  })

  test('whoever leaves is asked no more, and has nothing', () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    const space = spaceOf(bench, 1, mm)
    const request = shoot(bench, mm, 'dropped')
    tlbOf(bench, 1).leave(mm)
    assert.equal(request?.finish(), true)
    assert.ok(tlbOf(bench, 0).cpuVmMask(mm).isEmpty)
    assert.equal(space.find(PAGES[0]!), undefined)
    assert.equal(space.begin(new Fill(1)), false)
  })

  test('whoever dies is waited for no more; its next life has nothing', () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    const request = shoot(bench, mm, 'dropped')
    assert.equal(request?.finish(), false)
    bench.kill(1, 0)
    assert.equal(request.finish(), true)
    bench.revive(1)
    assert.deepEqual(copies(bench, 1, mm), [])
  })
})

describe('a CPU that is behind', () => {
  test('by more than the log has, drops everything', () => {
    const bench = new KernelBench(2, { flushLogSize: 2 })
    const mm = using(bench, [1])
    for (let i = 0; i < 3; i++) shoot(bench, mm, 'visible', { flushes: [keyFlush(i)] })
    spaceOf(bench, 1, mm).poll()
    assert.deepEqual(copies(bench, 1, mm), [])
    assert.equal(spaceOf(bench, 1, mm).counts.full, 1)
  })

  test('by less, but with nothing worth it to lose, drops everything as well', () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    const space = spaceOf(bench, 1, mm)
    // Walks have lately taken no time: three entries are walked for sooner than ten records applied.
    for (let i = 0; i < 100; i++) space.noteWalk(0.01)
    for (let i = 0; i < 10; i++) shoot(bench, mm, 'visible', { flushes: [keyFlush(i)] })
    space.poll()
    assert.equal(space.counts.full, 1)
    // With walks to a database it applies them.
    using(bench, [1])
    for (let i = 0; i < 100; i++) space.noteWalk(1000)
    for (let i = 0; i < 10; i++) shoot(bench, mm, 'visible', { flushes: [keyFlush(i)] })
    space.poll()
    assert.equal(space.counts.full, 1)
    assert.deepEqual(copies(bench, 1, mm), PAGES)
  })

  test('by a whole round of the generations, notices', () => {
    const bench = new KernelBench(2)
    const mm = using(bench, [1])
    const space = spaceOf(bench, 1, mm)
    space.goLazy(false)
    // Four thousand million flushes later the generation is what it was.
    const { words } = bench.memory
    const at = space.log.published.byteOffset / 4
    words[at + 17] = 4
    space.poll()
    assert.deepEqual(copies(bench, 1, mm), [])
  })
})

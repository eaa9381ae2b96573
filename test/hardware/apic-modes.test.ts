/**
 * The modes of the APIC: IA32_APIC_BASE, the ID in each mode, the x2APIC's registers. Rows D-003 to
 * D-030 of docs/conformance.md, with apic-registers.test.ts.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CPU, HEADER } from '../../src/hardware/layout.ts'
import { load } from '../../src/hardware/memory.ts'
import { APIC_BASE_MSR, ApicBench, DEFAULT_BASE, EN, EXTD, FAULT, serve } from './apic-bench.ts'

const ONES = 0xffff_ffff
const ID = 0x020
const VERSION = 0x030
const TPR = 0x080
const SVR = 0x0f0
const BSP = 1n << 8n

const one = (options = {}) => new ApicBench(1, options).apics[0]!
const bits32 = Array.from({ length: 32 }, (_, bit) => (1 << bit) >>> 0)

describe('the modes', () => {
  test('D-003: globally disabled, the page reads all ones and takes nothing; CR8 still works', () => {
    const apic = one()
    apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE)
    for (let offset = 0; offset < 0x1000; offset += 0x10) apic.write(offset, ONES)
    assert.equal(apic.read(VERSION), ONES)
    assert.equal(apic.read(TPR), ONES)
    assert.equal(apic.read(TPR, 1), 0xff)
    assert.equal(apic.read(TPR, 2), 0xffff)
    assert.equal(apic.mode, 'disabled', 'what CPUID reports')
    apic.taskPriority = 5
    assert.equal(apic.taskPriority, 5)
  })

  test('D-004: enabled again, the version is as before and TPR is CR8 times 16', () => {
    const apic = one()
    const version = apic.read(VERSION)
    apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE)
    apic.taskPriority = 5
    apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | EN)
    assert.equal(apic.mode, 'xapic')
    assert.equal(apic.read(VERSION), version)
    assert.equal(apic.read(TPR), apic.taskPriority * 16)
    assert.equal(apic.read(TPR), 0x50)
    assert.equal(apic.read(SVR), 0xff, 'the rest is as after RESET')
  })

  test('D-005: CR8 is an alias of the upper half of TPR', () => {
    const apic = one()
    for (let priority = 0; priority < 16; priority++) {
      apic.taskPriority = priority
      assert.equal(apic.read(TPR), priority << 4)
    }
    apic.write(TPR, 0x73)
    assert.equal(apic.taskPriority, 7)
  })

  test('D-006: x2APIC mode hides the page', () => {
    const bench = new ApicBench(1)
    const apic = bench.apics[0]!
    bench.toX2apic()
    apic.write(TPR, 0x20)
    assert.equal(apic.read(VERSION), ONES)
    assert.equal(apic.read(TPR), ONES)
    assert.equal(apic.readMsr(0x808), 0n)
  })

  const DISABLED = 0n
  const XAPIC = EN
  const X2APIC = EN | EXTD
  const INVALID = EXTD
  for (const [id, from, to, legal] of [
    ['D-007', X2APIC, INVALID, false],
    ['D-008', X2APIC, XAPIC, false],
    ['D-009', X2APIC, DISABLED, true],
    ['D-010', DISABLED, INVALID, false],
    ['D-011', DISABLED, X2APIC, false],
    ['D-012', DISABLED, XAPIC, true],
    ['D-013', XAPIC, INVALID, false],
  ] as const) {
    const name = (bits: bigint) =>
      ({ 0: 'disabled', 1: 'EXTD without EN', 2: 'xAPIC', 3: 'x2APIC' })[Number(bits >> 10n)]
    test(`${id}: ${name(from)} to ${name(to)} ${legal ? 'is accepted' : 'faults'}`, () => {
      const apic = one()
      if (from !== XAPIC) apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | from)
      const before = apic.readMsr(APIC_BASE_MSR)
      if (legal) {
        apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | to)
        assert.equal(apic.readMsr(APIC_BASE_MSR), DEFAULT_BASE | to | BSP)
      } else {
        assert.throws(() => apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | to), FAULT)
        assert.equal(apic.readMsr(APIC_BASE_MSR), before, 'and the mode is unchanged')
      }
    })
  }

  test('D-014: x2APIC mode is refused where it is not supported', () => {
    const apic = one({ x2apicSupported: false })
    assert.throws(() => apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | X2APIC), FAULT)
    assert.equal(apic.mode, 'xapic')
  })

  test('D-015: the base moves in name: the field is kept, and the object still finds the page', () => {
    const apic = one()
    const version = apic.read(VERSION)
    apic.writeMsr(APIC_BASE_MSR, 0xfed4_0000n | EN)
    assert.equal(apic.readMsr(APIC_BASE_MSR), 0xfed4_0000n | EN | BSP)
    assert.equal(apic.read(VERSION), version)
  })

  test('D-016: address bits above the width, and reserved low bits, fault', () => {
    const apic = one()
    const before = apic.readMsr(APIC_BASE_MSR)
    for (const bit of [0n, 1n, 7n, 9n, 32n, 36n, 52n, 63n]) {
      assert.throws(() => apic.writeMsr(APIC_BASE_MSR, before | (1n << bit)), FAULT, `bit ${bit}`)
    }
    assert.throws(() => apic.writeMsr(APIC_BASE_MSR, -1n), FAULT)
    assert.equal(apic.readMsr(APIC_BASE_MSR), before)
  })

  test('the bootstrap flag tells CPU 0 from the others, and cannot be written', () => {
    const { apics } = new ApicBench(2)
    apics[0]!.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | EN)
    apics[1]!.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | EN | BSP)
    assert.equal(apics[0]!.readMsr(APIC_BASE_MSR) & BSP, BSP)
    assert.equal(apics[1]!.readMsr(APIC_BASE_MSR) & BSP, 0n)
  })

  test('the mode stands in the per-CPU page for senders, and a change raises the generation', () => {
    const { memory, apics } = new ApicBench(1)
    const generation = load(memory.words, HEADER.apicMapGeneration)
    apics[0]!.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | X2APIC)
    assert.equal(memory.readCpu(0, CPU.apicBase) >>> 0, 0xfee0_0d00)
    assert.ok(load(memory.words, HEADER.apicMapGeneration) > generation)
  })

  test('what was requested or in service is forgotten by a global disable', () => {
    const apic = one()
    apic.raise(0x40)
    apic.acknowledge(0x40)
    apic.raise(0x50)
    apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE)
    assert.equal(apic.hasPending, false)
    assert.equal(apic.pendingVector(), -1)
    assert.equal(apic.eoi(), -1)
    apic.raise(0x60)
    assert.equal(apic.irr(0x60), false)
  })
})

describe('the ID', () => {
  test('D-017: it is the ID of the hardware', () => {
    for (const [cpu, apic] of new ApicBench(3).apics.entries()) {
      assert.equal(apic.read(ID), cpu << 24)
    }
  })

  test('D-018: in xAPIC mode it can be written', () => {
    const apic = new ApicBench(2).apics[1]!
    apic.write(ID, 0x0200_0000)
    assert.equal(apic.read(ID), 0x0200_0000)
  })

  test('D-019: in x2APIC mode writing it faults', () => {
    const bench = new ApicBench(2)
    bench.toX2apic(1)
    assert.throws(() => bench.apics[1]!.writeMsr(0x802, 2n), FAULT)
    assert.equal(bench.apics[1]!.readMsr(0x802), 1n)
  })

  test('D-020: the x2APIC ID is the hardware ID, its low byte the xAPIC ID', () => {
    const bench = new ApicBench(200)
    const apic = bench.apics[199]!
    const xapicId = apic.read(ID) >>> 24
    bench.toX2apic(199)
    assert.equal(apic.readMsr(0x802), 199n)
    assert.equal(Number(apic.readMsr(0x802) & 0xffn), xapicId)
  })

  test('D-021: after disable and enable it is the hardware ID again', () => {
    const apic = new ApicBench(2).apics[1]!
    apic.write(ID, 0x0200_0000)
    apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE)
    apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | EN)
    assert.equal(apic.read(ID), 0x0100_0000)
  })

  test('D-022: its format follows the mode', () => {
    const bench = new ApicBench(3)
    for (let round = 0; round < 2; round++) {
      for (const [cpu, apic] of bench.apics.entries()) {
        assert.equal(apic.read(ID), cpu << 24)
        bench.toX2apic(cpu)
        assert.equal(apic.readMsr(0x802), BigInt(cpu))
        apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE)
        apic.writeMsr(APIC_BASE_MSR, DEFAULT_BASE | EN)
      }
    }
  })
})

describe('the x2APIC registers', () => {
  const numbers = (first: number, last: number) =>
    Array.from({ length: last - first + 1 }, (_, i) => first + i)
  const READ_ONLY = [0x802, 0x803, 0x80a, 0x80d, ...numbers(0x810, 0x827), 0x839]
  const READ_WRITE = [0x808, 0x80f, 0x828, 0x830, ...numbers(0x832, 0x838), 0x83e]
  const WRITE_ONLY = [0x80b, 0x83f]

  test('D-029: each register takes its kind of access and faults on the other', () => {
    for (const msr of numbers(0x800, 0x83f)) {
      const bench = new ApicBench(1)
      bench.toX2apic()
      const apic = bench.apics[0]!
      const readable = READ_ONLY.includes(msr) || READ_WRITE.includes(msr)
      const writable = READ_WRITE.includes(msr) || WRITE_ONLY.includes(msr)
      if (readable) apic.readMsr(msr)
      else assert.throws(() => apic.readMsr(msr), FAULT, `read ${msr.toString(16)}`)
      if (writable) apic.writeMsr(msr, 0n)
      else assert.throws(() => apic.writeMsr(msr, 0n), FAULT, `write ${msr.toString(16)}`)
    }
  })

  test('outside x2APIC mode, and outside their range, MSRs fault', () => {
    const apic = one()
    assert.throws(() => apic.readMsr(0x802), FAULT)
    assert.throws(() => apic.writeMsr(0x808, 0n), FAULT)
    const bench = new ApicBench(1)
    bench.toX2apic()
    for (const msr of [0x7ff, 0x840, 0x10, -1, 2048.5]) {
      assert.throws(() => bench.apics[0]!.readMsr(msr), FAULT)
      assert.throws(() => bench.apics[0]!.writeMsr(msr, 0n), FAULT)
    }
  })

  test('reserved bits fault, in either half', () => {
    const legal = new Map([
      [0x808, 0xff],
      [0x80b, 0],
      [0x80f, 0x3ff],
      [0x828, 0],
      [0x832, 0x7_10ff],
      [0x833, 0x1_17ff],
      [0x834, 0x1_17ff],
      [0x835, 0x1_f7ff],
      [0x836, 0x1_f7ff],
      [0x837, 0x1_10ff],
      [0x838, ONES],
      [0x83e, 0b1011],
      [0x83f, 0xff],
    ])
    const bench = new ApicBench(1)
    bench.toX2apic()
    for (const [msr, bits] of legal) {
      for (const bit of bits32) {
        const write = () => bench.apics[0]!.writeMsr(msr, BigInt(bit))
        const name = `${msr.toString(16)} = ${bit.toString(16)}`
        if ((bits & bit) === 0) assert.throws(write, FAULT, name)
        else assert.doesNotThrow(write, name)
      }
      assert.throws(() => bench.apics[0]!.writeMsr(msr, 1n << 32n), FAULT)
    }
  })

  test('D-030: ESR and EOI take 0 and nothing else', () => {
    const bench = new ApicBench(1)
    bench.toX2apic()
    for (const msr of [0x828, 0x80b]) {
      assert.throws(() => bench.apics[0]!.writeMsr(msr, 1n), FAULT)
      bench.apics[0]!.writeMsr(msr, 0n)
    }
  })

  test('writing SELF IPI requests the vector, and logs an illegal one on both sides', () => {
    const bench = new ApicBench(1)
    bench.toX2apic()
    const apic = bench.apics[0]!
    apic.writeMsr(0x83f, 0xf1n)
    assert.deepEqual(serve(apic), [0xf1])
    apic.writeMsr(0x83f, 0x0fn)
    apic.writeMsr(0x828, 0n)
    assert.equal(apic.readMsr(0x828), 0x60n)
  })

  test('a register access that faults is reported with its CPU', () => {
    assert.throws(() => new ApicBench(2).apics[1]!.readMsr(0x802), { ...FAULT, cpu: 1 })
  })
})

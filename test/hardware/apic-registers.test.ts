/**
 * The register page: the map, the command register, the local vector table. Rows D-001 to D-031 of
 * docs/conformance.md, with apic-modes.test.ts; they go back to kvm-unit-tests' x86/apic.c and the
 * kernel's KVM selftests.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  APIC_BASE_MSR,
  ApicBench,
  DEFAULT_BASE,
  EN,
  FAULT,
  serve,
  vectorsIn,
} from './apic-bench.ts'

const ONES = 0xffff_ffff
const ID = 0x020
const VERSION = 0x030
const TPR = 0x080
const LDR = 0x0d0
const DFR = 0x0e0
const SVR = 0x0f0
const ISR = 0x100
const TMR = 0x180
const IRR = 0x200
const ESR = 0x280
const ICR = 0x300
const ICR2 = 0x310
const LVTS = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370]

const one = (options = {}) => new ApicBench(1, options).apics[0]!

describe('the register page', () => {
  test('D-001: the version register says: an integrated APIC', () => {
    const version = one().read(VERSION) & 0xff
    assert.ok(version >= 0x10 && version <= 0x15)
  })

  test('D-002: the version is read-only, as the kernel checks at boot', () => {
    const apic = one()
    const version = apic.read(VERSION)
    apic.write(VERSION, ~version)
    assert.equal(apic.read(VERSION), version)
    assert.notEqual(version & 0xff, 0)
    assert.notEqual(version & 0xff, 0xff)
    assert.ok(((version >>> 16) & 0xff) >= 2, 'at least a timer, two pins')
    apic.write(ESR, 0)
    assert.equal(apic.read(ESR), 0, 'a write to what is read-only is no error')
  })

  test('loads of 1, 2 and 4 bytes see the low four bytes of a slot, and nothing else', () => {
    const apic = one()
    apic.write(ICR2, 0xab00_0000)
    apic.write(0x380, 0x1234_5678)
    assert.equal(apic.read(0x380, 1), 0x78)
    assert.equal(apic.read(0x381, 1), 0x56)
    assert.equal(apic.read(0x382, 2), 0x1234)
    assert.equal(apic.read(ICR2 + 3, 1), 0xab)
    assert.equal(apic.read(0x383, 2), 0, 'reaches out of the register')
    assert.equal(apic.read(0x384), 0)
    assert.equal(apic.read(0x38c, 1), 0)
  })

  test('stores that are not an aligned word are dropped', () => {
    const apic = one()
    apic.write(TPR, 0x20, 1)
    apic.write(TPR, 0x20, 2)
    apic.write(TPR + 1, 0x20)
    apic.write(TPR + 4, 0x20)
    assert.equal(apic.read(TPR), 0)
  })

  test('reserved slots read as 0, store nothing and log an illegal address', () => {
    const reserved = [
      0x000, 0x010, 0x040, 0x050, 0x060, 0x070, 0x290, 0x2e0, 0x2f0, 0x3a0, 0x3d0, 0x3f0, 0x400,
      0xff0,
    ]
    for (const offset of reserved) {
      for (const access of ['read', 'write'] as const) {
        const apic = one()
        if (access === 'read') assert.equal(apic.read(offset), 0)
        else apic.write(offset, ONES)
        apic.write(ESR, 0)
        assert.equal(apic.read(ESR), 0x80, `${access} of ${offset.toString(16)}`)
        assert.equal(apic.statistics.illegalRegister, 1)
      }
    }
  })

  test('an offset outside the page is a bad argument, not an access', () => {
    for (const offset of [-16, 0x1000, (0x20).toString() as unknown as number, 1.5, NaN]) {
      assert.throws(() => one().read(offset), { code: 'IPI_INVALID_ARGUMENT' })
      assert.throws(() => one().write(offset, 0), { code: 'IPI_INVALID_ARGUMENT' })
    }
  })

  test('RESET: every register has the value of the manual', () => {
    const apic = new ApicBench(2).apics[1]!
    for (const register of [TPR, LDR, SVR, ICR2, 0x320, 0x380, 0x3e0]) {
      apic.write(register, 0x0b)
    }
    apic.raise(0x40)
    apic.reset('reset')
    const expected = new Map([
      [ID, 0x0100_0000],
      [DFR, ONES],
      [SVR, 0xff],
      ...LVTS.map((lvt) => [lvt, 0x1_0000] as const),
    ])
    const all = [TPR, 0x90, 0xa0, 0xb0, 0xc0, LDR, ESR, ICR, ICR2, 0x380, 0x390, 0x3e0]
    for (const register of [...expected.keys(), ...all]) {
      assert.equal(apic.read(register), expected.get(register) ?? 0, register.toString(16))
    }
    for (const set of [ISR, TMR, IRR]) assert.deepEqual(vectorsIn(apic, set), [])
    assert.equal(apic.readMsr(APIC_BASE_MSR), DEFAULT_BASE | EN)
  })

  test('INIT: the same, but the ID survives', () => {
    const apic = new ApicBench(2).apics[1]!
    apic.write(ID, 0x5500_0000)
    apic.write(TPR, 0x20)
    apic.reset('init')
    assert.equal(apic.read(ID), 0x5500_0000)
    assert.equal(apic.read(SVR), 0xff)
    assert.equal(apic.read(LDR), 0)
    assert.equal(apic.read(TPR), 0)
  })

  test('INIT keeps x2APIC mode, and the derived logical ID', () => {
    const bench = new ApicBench(2)
    bench.toX2apic()
    const apic = bench.apics[1]!
    apic.reset('init')
    assert.equal(apic.mode, 'x2apic')
    assert.equal(apic.readMsr(0x802), 1n)
    assert.equal(apic.readMsr(0x80d), 2n)
    assert.equal(apic.readMsr(0x80f), 0xffn)
  })

  test('reserved bits of writable registers read as 0, those of DFR as 1', () => {
    const apic = one()
    for (const [register, writable] of [
      [ID, 0xff00_0000],
      [TPR, 0xff],
      [LDR, 0xff00_0000],
      [SVR, 0x3ff],
      [ICR2, 0xff00_0000],
      [0x320, 0x7_00ff],
      [0x330, 0x1_07ff],
      [0x340, 0x1_07ff],
      [0x350, 0x1_a7ff],
      [0x360, 0x1_a7ff],
      [0x370, 0x1_00ff],
      [0x3e0, 0b1011],
    ] as const) {
      apic.write(register, ONES)
      assert.equal(apic.read(register), writable, register.toString(16))
    }
    apic.write(DFR, 0)
    assert.equal(apic.read(DFR), 0x0fff_ffff)
  })

  test('G3: the bit of a vector stands where the kernel looks for it', () => {
    const apic = one()
    const bit = (register: number, at: number) => (apic.read(register) >>> at) & 1
    apic.raise(0xfb)
    apic.raise(0x31)
    apic.raise(0x80, true)
    assert.equal(bit(0x270, 27), 1)
    assert.equal(bit(0x210, 17), 1)
    assert.equal(bit(0x1c0, 0), 1)
    apic.raise(0xff)
    apic.acknowledge(apic.pendingVector())
    assert.equal(bit(0x170, 31), 1)
  })

  test('G9: the registers after set_up_local_APIC', () => {
    for (const cpu of [0, 1]) {
      const apic = new ApicBench(2).apics[cpu]!
      apic.write(SVR, 0x1ff)
      apic.write(0x370, 0xfe)
      apic.write(0x360, cpu === 0 ? 0x400 : 0x1_0400)
      assert.equal(apic.read(SVR), 0x1ff)
      assert.equal(apic.read(0x370), 0xfe)
      assert.equal(apic.read(0x360), cpu === 0 ? 0x400 : 0x1_0400)
      apic.signal(0x360)
      assert.equal(apic.nmiPending, cpu === 0 ? 1 : 0, 'LINT1 is the NMI pin of CPU 0 alone')
    }
  })
})

describe('the command register', () => {
  const STATUS = 1 << 12
  const SELF = 1 << 18

  test('D-023: a self command reads back as written, but for the status bit', () => {
    const apic = one()
    for (let vector = 0; vector < 256; vector++) {
      for (const status of [0, STATUS]) {
        apic.write(ICR, SELF | status | vector)
        assert.equal(apic.read(ICR), SELF | vector)
      }
    }
  })

  test('D-024: so does an addressed one', () => {
    const apic = one()
    for (let vector = 0; vector < 256; vector++) {
      for (const status of [0, STATUS]) {
        apic.write(ICR2, 0)
        apic.write(ICR, status | vector)
        assert.equal(apic.read(ICR), vector)
        assert.equal(apic.read(ICR2), 0)
      }
    }
  })

  test('D-025: to nobody, in all eight modes: no hang, no effect', () => {
    const apic = one()
    for (let destination = 1; destination < 255; destination++) {
      for (let mode = 0; mode < 8; mode++) {
        apic.write(ICR2, destination << 24)
        apic.write(ICR, (mode << 8) | 0x40 | STATUS)
        assert.equal(apic.read(ICR), (mode << 8) | 0x40)
      }
    }
    assert.deepEqual(serve(apic), [])
    assert.equal(apic.hasPending, false)
  })

  test('D-026: to all but self, alone, in all eight modes: no hang, no effect', () => {
    const apic = one()
    for (let mode = 0; mode < 8; mode++) apic.write(ICR, (3 << 18) | (mode << 8) | 0x40)
    assert.deepEqual(serve(apic), [])
    assert.equal(apic.hasPending, false)
  })

  test('D-027: only the destination remains of ICR2', () => {
    const apic = one()
    apic.write(ICR2, ONES)
    assert.equal(apic.read(ICR2), 0xff00_0000)
  })

  test('D-028: garbage crashes nothing; reserved bits vanish, or fault in x2APIC mode', () => {
    for (const pattern of [0xaaaa_aaaa, 0x5555_5555, ONES, 0xdead_beef]) {
      for (let mode = 1; mode < 8; mode++) {
        const command = ((pattern & ~0x700) | (mode << 8)) >>> 0
        const bench = new ApicBench(2)
        bench.apics[0]!.write(ICR2, pattern)
        bench.apics[0]!.write(ICR, command)
        assert.equal(bench.apics[0]!.read(ICR), (command & 0x000c_cfff) >>> 0)
        bench.toX2apic()
        assert.throws(() => bench.apics[0]!.writeMsr(0x830, BigInt(command)), FAULT)
        bench.apics[0]!.writeMsr(0x830, BigInt(command & 0x000c_cfff))
      }
    }
  })

  test('sendCommand leaves in the registers what the writes would have left', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.sendCommand(2, 0x8fc)
    assert.equal(bench.apics[0]!.read(ICR2), 0x0200_0000)
    assert.equal(bench.apics[0]!.read(ICR), 0x8fc)
    bench.toX2apic()
    bench.apics[0]!.sendCommand(0x1_0002, 0x8fc)
    assert.equal(bench.apics[0]!.readMsr(0x830), 0x0001_0002_0000_08fcn)
  })

  test('nothing is sent while the APIC is globally disabled', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.writeMsr(APIC_BASE_MSR, DEFAULT_BASE)
    bench.apics[0]!.sendCommand(2, 0x8fc)
    assert.deepEqual(bench.receptions(), [0, 0])
  })

  test('software disabled, an APIC still sends', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.write(SVR, 0xff)
    bench.apics[0]!.sendCommand(2, 0x8fc)
    assert.deepEqual(bench.receptions(), [0, 1])
  })
})

describe('the local vector table', () => {
  test('D-031: software disabled, mask bits stay set; enabled, they can be cleared', () => {
    const apic = one()
    for (const lvt of LVTS) apic.write(lvt, 0x31)
    apic.write(SVR, 0xff)
    for (const lvt of LVTS) {
      assert.equal(apic.read(lvt), 0x1_0031, 'masked by the disable')
      apic.write(lvt, 0x32)
      assert.equal(apic.read(lvt), 0x1_0032, 'and it stays so')
    }
    apic.write(SVR, 0x1ff)
    for (const lvt of LVTS) {
      assert.equal(apic.read(lvt), 0x1_0032, 'software must unmask')
      apic.write(lvt, 0x32)
      assert.equal(apic.read(lvt), 0x32)
    }
  })

  test('a masked entry generates nothing, and remembers nothing', () => {
    const apic = one()
    apic.write(0x350, 0x1_0040)
    apic.signal(0x350)
    apic.write(0x350, 0x40)
    assert.deepEqual(serve(apic), [])
    apic.signal(0x350)
    assert.deepEqual(serve(apic), [0x40])
  })

  test('the performance counter masks its entry when it is delivered', () => {
    const apic = one()
    apic.write(0x340, 0x400)
    apic.signal(0x340)
    apic.signal(0x340)
    assert.equal(apic.nmiPending, 1)
    assert.equal(apic.read(0x340), 0x1_0400)
  })

  test('modes that this machine has no wires for are counted', () => {
    const apic = one()
    apic.write(0x350, 0x700)
    apic.signal(0x350)
    assert.equal(apic.hasPending, false)
    assert.equal(apic.statistics.refused, 1)
  })
})

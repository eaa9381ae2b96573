/**
 * Whom a destination means. Rows D-070 to D-086 of docs/conformance.md, which go back to
 * kvm-unit-tests' x86/apic.c, x86/ioapic.c and x86/smptest.c.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { matches, x2apicLogicalId } from '../../src/hardware/apic/destination.ts'
import { ApicBench, serve } from './apic-bench.ts'

const ID = 0x020
const LDR = 0x0d0
const DFR = 0x0e0
const ICR = 0x300
const ICR2 = 0x310

const LOGICAL = 0x800
const SELF = 1 << 18
const ALL = 2 << 18
const ALL_BUT_SELF = 3 << 18

const VECTOR = 0xcf

/** CPUs 0 to `count` - 1 once each, but for those in `not`. */
const onceEach = (count: number, ...not: number[]) =>
  Array.from({ length: count }, (_, cpu) => (not.includes(cpu) ? 0 : 1))

/** A bench with the LDRs and the DFR model given. */
function logicalBench(model: 'flat' | 'cluster', ...ldrs: number[]): ApicBench {
  const bench = new ApicBench(ldrs.length)
  for (const [cpu, ldr] of ldrs.entries()) {
    bench.apics[cpu]!.write(DFR, model === 'flat' ? 0xf000_0000 : 0)
    bench.apics[cpu]!.write(LDR, (ldr << 24) >>> 0)
  }
  return bench
}

describe('everybody, and everybody else', () => {
  for (const mode of ['xAPIC', 'x2APIC'] as const) {
    const makeBench = (count: number) => {
      const bench = new ApicBench(count)
      if (mode === 'x2APIC') bench.toX2apic()
      return bench
    }

    test(`D-071: the ${mode} broadcast address reaches all, the sender too`, () => {
      for (const logical of [0, LOGICAL]) {
        const bench = makeBench(5)
        bench.apics[2]!.sendCommand(mode === 'xAPIC' ? 0xff : 0xffff_ffff, logical | VECTOR)
        assert.deepEqual(bench.receptions(), onceEach(5))
        assert.deepEqual(bench.receptions(), [0, 0, 0, 0, 0], 'D-084: and nothing follows')
      }
    })

    test(`D-072: the shorthand for all reaches all (${mode})`, () => {
      const bench = makeBench(5)
      bench.apics[2]!.sendCommand(0, ALL | VECTOR)
      assert.deepEqual(bench.receptions(), onceEach(5))
      assert.deepEqual(bench.receptions(), [0, 0, 0, 0, 0])
    })

    test(`D-073: the shorthand for all but self spares the sender (${mode})`, () => {
      const bench = makeBench(5)
      bench.apics[2]!.sendCommand(0, ALL_BUT_SELF | VECTOR)
      assert.deepEqual(bench.receptions(), onceEach(5, 2))
      assert.deepEqual(bench.receptions(), [0, 0, 0, 0, 0])
    })

    test(`D-075: the shorthand for self reaches the sender, once (${mode})`, () => {
      const bench = makeBench(5)
      bench.apics[2]!.sendCommand(0, SELF | VECTOR)
      assert.deepEqual(bench.receptions(), onceEach(5, 0, 1, 3, 4))
      assert.deepEqual(bench.receptions(), [0, 0, 0, 0, 0])
    })
  }

  test('in xAPIC mode broadcast is FFh; x2APIC mode takes FFh for an ID', () => {
    const bench = new ApicBench(3)
    bench.toX2apic()
    bench.apics[0]!.sendCommand(0xff, VECTOR)
    assert.deepEqual(bench.receptions(), [0, 0, 0])
  })

  test('a shorthand ignores destination and destination mode', () => {
    const bench = new ApicBench(3)
    bench.apics[0]!.sendCommand(1, ALL_BUT_SELF | LOGICAL | VECTOR)
    assert.deepEqual(bench.receptions(), [0, 1, 1])
    bench.apics[0]!.sendCommand(0xff, SELF | VECTOR)
    assert.deepEqual(bench.receptions(), [1, 0, 0])
  })

  test('a self-IPI is requested by the time the send completes', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.sendCommand(0, SELF | VECTOR)
    assert.equal(bench.apics[0]!.irr(VECTOR), true)
    assert.equal(bench.apics[0]!.hasPending, true)
  })
})

describe('by physical ID', () => {
  test('D-070: each CPU is reached by its ID, and nobody else', () => {
    const bench = new ApicBench(9)
    for (let cpu = 0; cpu < 9; cpu++) {
      bench.apics[4]!.write(ICR2, cpu << 24)
      bench.apics[4]!.write(ICR, VECTOR)
      assert.deepEqual(
        bench.receptions(),
        onceEach(9).map((_, i) => (i === cpu ? 1 : 0)),
      )
    }
  })

  test('D-081: two APICs of one ID both answer to it, for every ID', () => {
    const bench = new ApicBench(2)
    for (let id = 0; id < 256; id++) {
      for (const apic of bench.apics) apic.write(ID, (id << 24) >>> 0)
      bench.apics[0]!.sendCommand(id, VECTOR)
      assert.deepEqual(bench.receptions(), [1, 1], `ID ${id}`)
    }
  })

  test('D-082: a message from outside, for the physical ID of B, reaches only B', () => {
    // A device is whoever posts what an I/O APIC would have sent: here a third CPU.
    const bench = new ApicBench(3)
    bench.apics[2]!.sendCommand(1, VECTOR)
    assert.deepEqual(bench.receptions(), [0, 1, 0])
  })

  test('an ID that nobody has reaches nobody, and is no error', () => {
    const bench = new ApicBench(2)
    bench.apics[0]!.sendCommand(7, VECTOR)
    assert.deepEqual(bench.receptions(), [0, 0])
    bench.apics[0]!.write(0x280, 0)
    assert.equal(bench.apics[0]!.read(0x280), 0)
  })

  test('x2APIC IDs reach 255 and beyond nobody', () => {
    const bench = new ApicBench(256)
    bench.toX2apic()
    bench.apics[0]!.sendCommand(255, VECTOR)
    assert.deepEqual(serve(bench.apics[255]!), [VECTOR])
    bench.apics[0]!.sendCommand(256, VECTOR)
    bench.apics[0]!.sendCommand(0x8000_0000, VECTOR)
    assert.ok(bench.receptions().every((count) => count === 0))
  })
})

describe('by flat logical ID', () => {
  test('D-074: a mask reaches exactly its CPUs', () => {
    const bench = new ApicBench(8)
    bench.apics[3]!.sendCommand(0b0101_0101, LOGICAL | VECTOR)
    assert.deepEqual(bench.receptions(), [1, 0, 1, 0, 1, 0, 1, 0])
    assert.deepEqual(bench.receptions(), onceEach(8, 0, 1, 2, 3, 4, 5, 6, 7))
  })

  test('D-076: one target answers to every destination with its bit', () => {
    for (let i = 0; i < 8; i++) {
      const bench = logicalBench('flat', 0, 1 << i)
      for (let destination = 0; destination < 255; destination++) {
        bench.apics[0]!.sendCommand(destination, LOGICAL | VECTOR)
        const expected = (destination >>> i) & 1
        assert.deepEqual(bench.receptions(), [0, expected], `bit ${i}, to ${destination}`)
      }
    }
  })

  test('D-078: two targets both answer to destinations with both bits', () => {
    for (let i = 0; i < 8; i++) {
      for (let j = 0; j < 8; j++) {
        const both = (1 << i) | (1 << j)
        for (const ldrs of [
          [1 << i, 1 << j],
          [both, both],
        ]) {
          const bench = logicalBench('flat', ...ldrs)
          for (const others of [0, 0x3c, 0xff & ~both & 0x7e]) {
            if ((both | others) === 0xff) continue
            bench.apics[0]!.sendCommand(both | others, LOGICAL | VECTOR)
            assert.deepEqual(bench.receptions(), [1, 1])
          }
        }
      }
    }
  })

  test('D-083: a message from outside with mask 1101b reaches three of four', () => {
    const bench = new ApicBench(5)
    bench.apics[4]!.write(LDR, 0)
    bench.apics[4]!.sendCommand(0b1101, LOGICAL | VECTOR)
    assert.deepEqual(bench.receptions(), [1, 0, 1, 1, 0])
  })

  test('the masks of 2.6.11: G1, {3} and {1, 2} on a flat machine', () => {
    const bench = new ApicBench(4)
    bench.apics[0]!.write(ICR2, 0x0800_0000)
    bench.apics[0]!.write(ICR, 0x0000_08fc)
    assert.deepEqual(bench.receive(), [[], [], [], [0xfc]])
    bench.apics[0]!.write(ICR2, 0x0600_0000)
    bench.apics[0]!.write(ICR, 0x0000_08fd)
    assert.deepEqual(bench.receive(), [[], [0xfd], [0xfd], []])
    bench.apics[0]!.write(ICR, 0x000c_08fb)
    assert.deepEqual(bench.receive(), [[], [0xfb], [0xfb], [0xfb]])
  })
})

describe('by cluster', () => {
  test('D-077: one target answers within its cluster only', () => {
    for (let cluster = 0; cluster < 15; cluster++) {
      for (let i = 0; i < 4; i++) {
        const bench = logicalBench('cluster', 0, (cluster << 4) | (1 << i))
        for (let destination = 0; destination < 255; destination++) {
          bench.apics[0]!.sendCommand(destination, LOGICAL | VECTOR)
          const expected = destination >>> 4 === cluster ? (destination >>> i) & 1 : 0
          assert.deepEqual(bench.receptions(), [0, expected], `${cluster}.${i}, to ${destination}`)
        }
      }
    }
  })

  test('D-079: two targets of one cluster both answer to both bits', () => {
    for (let i = 0; i < 4; i++) {
      for (let j = 0; j < 4; j++) {
        const bench = logicalBench('cluster', 0x20 | (1 << i), 0x20 | (1 << j))
        for (let others = 0; others < 16; others++) {
          bench.apics[1]!.sendCommand(0x20 | (1 << i) | (1 << j) | others, LOGICAL | VECTOR)
          assert.deepEqual(bench.receptions(), [1, 1])
        }
      }
    }
  })

  test('G4: the bigsmp logical IDs reach their CPUs: G1, physical ID 5', () => {
    const ids = [0x01, 0x02, 0x04, 0x08, 0x11, 0x12, 0x14, 0x18, 0x21]
    const bench = logicalBench('cluster', ...ids)
    for (const [cpu, id] of ids.entries()) {
      bench.apics[0]!.sendCommand(id, LOGICAL | VECTOR)
      assert.deepEqual(
        bench.receptions(),
        ids.map((_, i) => (i === cpu ? 1 : 0)),
      )
    }
    bench.apics[0]!.write(ICR2, 0x1200_0000)
    bench.apics[0]!.write(ICR, 0x0000_08fb)
    assert.deepEqual(serve(bench.apics[5]!), [0xfb])
  })

  test('G5: x2APIC logical IDs follow from the ID', () => {
    const expected = new Map([
      [0, 0x0000_0001],
      [5, 0x0000_0020],
      [16, 0x0001_0001],
      [37, 0x0002_0020],
    ])
    const bench = new ApicBench(38)
    bench.toX2apic()
    for (const [cpu, logicalId] of expected) {
      assert.equal(x2apicLogicalId(cpu), logicalId)
      assert.equal(bench.apics[cpu]!.readMsr(0x80d), BigInt(logicalId))
    }
  })

  test('x2APIC clusters hold sixteen: a destination reaches its bits in its cluster', () => {
    const bench = new ApicBench(40)
    bench.toX2apic()
    bench.apics[0]!.sendCommand(0x0001_8005, LOGICAL | VECTOR)
    const reached = bench.receptions().flatMap((count, cpu) => (count > 0 ? [cpu] : []))
    assert.deepEqual(reached, [16, 18, 31])
    bench.apics[0]!.writeMsr(0x830, 0x0000_0021_0000_08fbn)
    assert.deepEqual(serve(bench.apics[0]!), [0xfb])
    assert.deepEqual(serve(bench.apics[5]!), [0xfb])
  })

  test('D-086: cluster bits beyond the last CPU reach nobody, and are no error', () => {
    const bench = new ApicBench(3)
    bench.toX2apic()
    for (const destination of [0xfff8, 0x0001_ffff, 0x000f_0001, 0xfffe_ffff]) {
      bench.apics[0]!.sendCommand(destination, LOGICAL | VECTOR)
      assert.deepEqual(bench.receptions(), [0, 0, 0])
    }
  })

  test('more cluster destinations than a map remembers still resolve', () => {
    const bench = new ApicBench(32)
    bench.toX2apic()
    for (let bits = 0; bits < 5000; bits++) {
      bench.apics[0]!.sendCommand(0x0001_0000 | bits, LOGICAL | VECTOR)
    }
    bench.receive()
    bench.apics[0]!.sendCommand(0x0001_0004, LOGICAL | VECTOR)
    assert.deepEqual(serve(bench.apics[18]!), [VECTOR])
  })
})

describe('logical odds and ends', () => {
  test('D-084: whatever was sent to whomever, nobody has an extra reception', () => {
    const bench = new ApicBench(8)
    for (let round = 0; round < 300; round++) {
      const mask = (round * 37) & 0xfe
      bench.apics[round % 8]!.sendCommand(mask, LOGICAL | VECTOR)
      assert.deepEqual(
        bench.receptions(),
        onceEach(8).map((_, cpu) => (mask >>> cpu) & 1),
      )
      assert.deepEqual(bench.receptions(), onceEach(8, 0, 1, 2, 3, 4, 5, 6, 7))
    }
  })

  test('D-080: FFh reaches two CPUs, whatever their LDR, in flat and in cluster mode', () => {
    for (const model of ['flat', 'cluster'] as const) {
      for (const ldrs of [
        [0, 0],
        [1, 2],
        [0x21, 0x42],
      ]) {
        const bench = logicalBench(model, ...ldrs)
        bench.apics[0]!.sendCommand(0xff, LOGICAL | VECTOR)
        assert.deepEqual(bench.receptions(), [1, 1])
      }
    }
  })

  test('an unknown DFR model matches nothing but a broadcast', () => {
    const bench = logicalBench('flat', 1, 2)
    bench.apics[1]!.write(DFR, 0x7000_0000)
    bench.apics[0]!.sendCommand(2, LOGICAL | VECTOR)
    assert.deepEqual(bench.receptions(), [0, 0])
    bench.apics[0]!.sendCommand(0xff, LOGICAL | VECTOR)
    assert.deepEqual(bench.receptions(), [1, 1])
  })

  test('each receiver reads the destination by its own mode', () => {
    const bench = new ApicBench(3)
    bench.toX2apic(2)
    bench.apics[0]!.sendCommand(0x04, LOGICAL | VECTOR)
    assert.deepEqual(bench.receptions(), [0, 0, 1], 'bit 2 of cluster 0')
    assert.equal(
      matches(
        {
          cpu: 1,
          mode: 'xapic',
          id: 1,
          logicalId: 2,
          format: 0xf,
          softwareEnabled: true,
          focusEnabled: true,
        },
        0x0001_0002,
        true,
      ),
      false,
      'eight bits cannot answer to seventeen',
    )
  })
})

/** Memory type range registers of one CPU. Row D-224 of docs/conformance.md. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  isMemoryTypeCode,
  MEMORY_TYPE,
  MTRR_MSR,
  MTRR_WORDS,
  MtrrRegisters,
  overlapType,
  PAGE_BYTES,
  PAGE_COUNT,
  VARIABLE_COUNT,
  type MemoryTypeCode,
} from '../../src/hardware/mtrr.ts'

const { uncacheable: UC, 'write-combining': WC } = MEMORY_TYPE
const { 'write-through': WT, 'write-protected': WP, 'write-back': WB } = MEMORY_TYPE
const TYPES = [UC, WC, WT, WP, WB] as const

function registers(): MtrrRegisters {
  const words = new Int32Array(new SharedArrayBuffer(4 * (MTRR_WORDS + 10)))
  const made = new MtrrRegisters(words, 10)
  made.reset()
  return made
}

const type = fc.constantFrom(...TYPES)
/** A range as hardware takes it: a power of two of pages, aligned to itself. */
const range = fc
  .record({ order: fc.nat(24), at: fc.nat(), type })
  .map(({ order, at, type: each }) => {
    const size = 2 ** order
    return { size, base: (at % (PAGE_COUNT / size)) * size, type: each }
  })

/** The rule of the manual, in its own words. */
function naiveType(
  ranges: readonly { base: number; size: number; type: MemoryTypeCode }[],
  page: number,
  defaultType: MemoryTypeCode,
): MemoryTypeCode | undefined {
  const matching = ranges.filter(({ base, size }) => page >= base && page < base + size)
  const types = new Set(matching.map((each) => each.type))
  if (types.size === 0) return defaultType
  if (types.size === 1) return matching[0]!.type
  if (types.has(UC)) return UC
  if (types.size === 2 && types.has(WT) && types.has(WB)) return WT
  return undefined
}

describe('D-224 the effective type', () => {
  test('D-224 of random ranges it is that of the rule', () => {
    fc.assert(
      fc.property(
        fc.array(range, { maxLength: VARIABLE_COUNT }),
        type,
        fc.array(fc.tuple(fc.nat(VARIABLE_COUNT), fc.nat(), fc.nat(PAGE_BYTES - 1))),
        (ranges, defaultType, probes) => {
          const mtrr = registers()
          mtrr.writeMsr(MTRR_MSR.defType, BigInt(defaultType) | 0x800n)
          ranges.forEach((each, reg) => mtrr.setVariable(reg, each))
          for (const [which, seed, offset] of probes) {
            const chosen = ranges[which]
            // In a range, or just behind one, or anywhere.
            const page =
              chosen === undefined
                ? seed % PAGE_COUNT
                : (chosen.base + (seed % (chosen.size + 1))) % PAGE_COUNT
            const found = mtrr.typeAt(page * PAGE_BYTES + offset)
            assert.equal(found, naiveType(ranges, page, defaultType))
          }
        },
      ),
      { numRuns: 500 },
    )
  })

  test('D-224 switched off everything is uncacheable', () => {
    const mtrr = registers()
    assert.equal(mtrr.typeAt(0x40000000), WB)
    mtrr.enabled = false
    assert.equal(mtrr.typeAt(0x40000000), UC)
    assert.equal(mtrr.typeAt(0), UC)
  })

  test('D-224 below 1 MiB fixed ranges go first, each for its own addresses', () => {
    const mtrr = registers()
    mtrr.setVariable(0, { base: 0, size: 0x200, type: WP })
    const places = [
      [MTRR_MSR.fix64k, 8, 0, 0x10000],
      [MTRR_MSR.fix16k, 16, 0x80000, 0x4000],
      [MTRR_MSR.fix4k, 64, 0xc0000, 0x1000],
    ] as const
    for (const [msr, count, start, size] of places) {
      for (let i = 0; i < count; i++) {
        const old = mtrr.readMsr(msr + (i >>> 3))
        const at = BigInt(8 * (i & 7))
        mtrr.writeMsr(msr + (i >>> 3), (old & ~(0xffn << at)) | (BigInt(WC) << at))
        const first = start + i * size
        assert.equal(mtrr.typeAt(first), WC)
        assert.equal(mtrr.typeAt(first + size - 1), WC)
        assert.notEqual(mtrr.typeAt(first - 1 < 0 ? size : first - 1), WC)
        mtrr.writeMsr(msr + (i >>> 3), old)
      }
    }
    assert.equal(mtrr.typeAt(0xfffff), WB, 'they go before the variable one')
    assert.equal(mtrr.typeAt(0x100000), WP)
    mtrr.writeMsr(MTRR_MSR.defType, 0x800n | BigInt(WB))
    assert.equal(mtrr.typeAt(0xfffff), WP, 'without them it is the variable one')
  })

  test('overlaps: the same, uncacheable, or write-through with write-back', () => {
    for (const a of TYPES) {
      for (const b of TYPES) {
        const both = new Set([a, b])
        const wanted =
          a === b ? a : both.has(UC) ? UC : both.has(WT) && both.has(WB) ? WT : undefined
        assert.equal(overlapType(a, b), wanted)
      }
    }
  })
})

describe('the registers', () => {
  test('a pair for 256 MiB write-combining at E000_0000h reads as the manual has it', () => {
    const mtrr = registers()
    mtrr.setVariable(3, { base: 0xe0000, size: 0x10000, type: WC })
    assert.equal(mtrr.readMsr(MTRR_MSR.physBase0 + 6), 0xe0000001n)
    assert.equal(mtrr.readMsr(MTRR_MSR.physBase0 + 7), 0xf_f000_0800n)
    assert.deepEqual(mtrr.variable(3), { base: 0xe0000, size: 0x10000, type: WC })
    mtrr.setVariable(3, { base: 0, size: 0, type: UC })
    assert.equal(mtrr.readMsr(MTRR_MSR.physBase0 + 6), 0xe0000001n, 'only the mask is cleared')
    assert.equal(mtrr.readMsr(MTRR_MSR.physBase0 + 7), 0n)
    assert.equal(mtrr.variable(3), undefined)
  })

  test('every register keeps what it is given, and no other changes', () => {
    const all = [
      MTRR_MSR.defType,
      ...Array.from({ length: 2 * VARIABLE_COUNT }, (_, i) => MTRR_MSR.physBase0 + i),
      MTRR_MSR.fix64k,
      MTRR_MSR.fix16k,
      MTRR_MSR.fix16k + 1,
      ...Array.from({ length: 8 }, (_, i) => MTRR_MSR.fix4k + i),
    ]
    const mtrr = registers()
    const before = all.map((msr) => mtrr.readMsr(msr))
    const values = all.map((msr) =>
      msr === MTRR_MSR.defType
        ? 0xc05n
        : msr >= MTRR_MSR.fix64k
          ? 0x0506040100060504n
          : (msr & 1) === 1
            ? 0xf_8000_0800n
            : 0xa_8000_0006n,
    )
    all.forEach((msr, i) => {
      mtrr.writeMsr(msr, values[i]!)
      all.forEach((other, j) => {
        assert.equal(mtrr.readMsr(other), j <= i ? values[j] : before[j])
      })
    })
  })

  test('what hardware faults on changes nothing', () => {
    const mtrr = registers()
    const faults: readonly (readonly [msr: number, value: bigint])[] = [
      [MTRR_MSR.cap, 0n],
      [MTRR_MSR.defType, 2n],
      [MTRR_MSR.defType, 0x1000n],
      [MTRR_MSR.defType, 1n << 32n],
      [MTRR_MSR.physBase0, 3n],
      [MTRR_MSR.physBase0, 0x100n],
      [MTRR_MSR.physBase0, 1n << 36n],
      [MTRR_MSR.physBase0 + 1, 1n],
      [MTRR_MSR.physBase0 + 1, 1n << 36n],
      [MTRR_MSR.physBase0 + 2 * VARIABLE_COUNT, 0n],
      [MTRR_MSR.fix64k, 7n],
      [MTRR_MSR.fix64k, 2n << 56n],
      [MTRR_MSR.fix64k, -1n],
      [MTRR_MSR.fix64k + 1, 0n],
      [MTRR_MSR.fix4k + 8, 0n],
    ]
    for (const [msr, value] of faults) {
      const read = (): bigint | undefined => {
        try {
          return mtrr.readMsr(msr)
        } catch {
          return undefined
        }
      }
      const before = read()
      assert.throws(() => mtrr.writeMsr(msr, value), { code: 'IPI_APIC_FAULT' }, msr.toString(16))
      assert.equal(read(), before)
    }
    assert.throws(() => mtrr.readMsr(0x251), { code: 'IPI_APIC_FAULT' })
  })

  test('the capabilities: eight variable ranges, fixed ranges, write-combining', () => {
    assert.equal(registers().readMsr(MTRR_MSR.cap), 0x508n)
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5, 6, 7].filter((code) => isMemoryTypeCode(code)),
      [UC, WC, WT, WP, WB],
    )
  })
})

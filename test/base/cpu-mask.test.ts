/** Sets of CPU numbers: against a plain Set of numbers, and at their edges. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { CPU_COUNT_MAX, CpuMask, MASK_WORDS, type CpuSet } from '../../src/base/cpu-mask.ts'

const INVALID_CPU = { code: 'IPI_INVALID_CPU' }

/** CPU numbers, those at the borders of words often. */
const cpu = fc.oneof(
  fc.integer({ min: 0, max: CPU_COUNT_MAX - 1 }),
  fc.constantFrom(0, 31, 32, 63, 64, 255),
)
const cpus = fc.array(cpu, { maxLength: 40 })
const sorted = (set: Iterable<number>): number[] => [...new Set(set)].sort((a, b) => a - b)

describe('CpuMask as a set of numbers', () => {
  test('holds what it was made of, ascending, each once', () => {
    fc.assert(
      fc.property(cpus, (numbers) => {
        const mask = CpuMask.from(numbers)
        const expected = sorted(numbers)
        assert.deepEqual([...mask], expected)
        assert.deepEqual([...CpuMask.of(...numbers)], expected)
        assert.deepEqual([...CpuMask.from(new Set(numbers))], expected)
        assert.deepEqual(JSON.parse(JSON.stringify(mask)), expected)
        assert.equal(mask.size, expected.length)
        assert.equal(mask.isEmpty, expected.length === 0)
        assert.equal(mask.first(), expected[0] ?? -1)
        for (let each = 0; each < CPU_COUNT_MAX; each++) {
          assert.equal(mask.has(each), expected.includes(each))
        }
      }),
      { numRuns: 60 },
    )
  })

  test('and, or, andNot, with, without and equals are those of sets', () => {
    fc.assert(
      fc.property(cpus, cpus, cpu, (first, second, one) => {
        const [a, b] = [CpuMask.from(first), CpuMask.from(second)]
        const both = new Set(second)
        assert.deepEqual([...a.and(b)], sorted(first.filter((each) => both.has(each))))
        assert.deepEqual([...a.or(b)], sorted([...first, ...second]))
        assert.deepEqual([...a.andNot(b)], sorted(first.filter((each) => !both.has(each))))
        const added: Iterable<number> = a.with(one)
        assert.deepEqual([...added], sorted([...first, one]))
        assert.deepEqual([...a.without(one)], sorted(first.filter((each) => each !== one)))
        assert.equal(a.equals(b), String(sorted(first)) === String(sorted(second)))
        assert.deepEqual([...a], sorted(first), 'neither was changed')
      }),
      { numRuns: 200 },
    )
  })

  test('its words are 32 CPUs each, lowest first, and make it again', () => {
    fc.assert(
      fc.property(cpus, (numbers) => {
        const mask = CpuMask.from(numbers)
        const words = Array.from({ length: MASK_WORDS }, (_, i) => mask.word(i))
        for (const each of numbers) assert.notEqual(words[each >>> 5]! & (1 << (each & 31)), 0)
        assert.ok(CpuMask.fromWords(words).equals(mask))
      }),
      { numRuns: 100 },
    )
  })

  test('it prints as the kernel prints cpu lists', () => {
    const rows: [number[], string][] = [
      [[], ''],
      [[0], '0'],
      [[0, 1, 2, 3, 7], '0-3,7'],
      [[5, 3, 4, 9, 11, 12], '3-5,9,11-12'],
      [[30, 31, 32, 33, 255], '30-33,255'],
    ]
    for (const [numbers, text] of rows) assert.equal(String(CpuMask.from(numbers)), text)
    assert.equal(String(CpuMask.first(256)), '0-255')
  })
})

describe('CpuMask at its edges', () => {
  test('numbers that name no CPU are refused', () => {
    for (const wrong of [-1, 256, 1.5, NaN, Infinity, '1', true, null, undefined, 1n]) {
      assert.throws(() => CpuMask.of(wrong as number), INVALID_CPU, String(wrong))
      assert.throws(() => CpuMask.from([0, wrong as number]), INVALID_CPU)
      assert.throws(() => CpuMask.of(0).with(wrong as number), INVALID_CPU)
    }
  })

  test('numbers that name no CPU are in no mask', () => {
    const all = CpuMask.first(CPU_COUNT_MAX)
    for (const wrong of [-1, 256, 1.5, NaN, Infinity]) assert.equal(all.has(wrong), false)
    for (const wrong of [-1, 256, 1.5, NaN]) assert.ok(all.without(wrong).equals(all))
  })

  test('what is no set of numbers is refused with advice', () => {
    const wrongs: unknown[] = [1, 'a', null, undefined, {}, () => [1]]
    for (const wrong of wrongs) {
      assert.throws(() => CpuMask.from(wrong as CpuSet), {
        code: 'IPI_INVALID_ARGUMENT',
        message: /CpuMask\.of\(1, 2\)/,
      })
    }
  })

  test('first(count) holds 0 to count - 1', () => {
    assert.ok(CpuMask.first(0).isEmpty)
    assert.deepEqual([...CpuMask.first(3)], [0, 1, 2])
    assert.equal(CpuMask.first(256).size, 256)
    assert.throws(() => CpuMask.first(257), INVALID_CPU)
  })

  test('a mask is taken as it is; the words of fromWords are copied', () => {
    const mask = CpuMask.of(1)
    assert.equal(CpuMask.from(mask), mask)
    const words = [2, 0, 0, 0, 0, 0, 0, 0]
    const copied = CpuMask.fromWords(words)
    words[0] = 0
    assert.deepEqual([...copied], [1])
    assert.deepEqual([...CpuMask.fromWords([1])], [0], 'missing words are empty')
  })
})

/** A shared store against a Map: whatever is done, it gives what a Map would. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { STORE, storeWordsMin } from '../../src/services/store/layout.ts'
import { SharedStore } from '../../src/services/store/shared-store.ts'
import { KernelBench } from '../support/kernel-bench.ts'
import { auditStore } from '../support/store-audit.ts'

const KEYS = ['a', 'b', 'key', '', 'ключ', 'ÿ', 'Ā', 0, -0, 1, 1.5, -1, NaN, '0', 'x'.repeat(300)]
const key = fc.constantFrom<string | number>(...KEYS)

/** Small ones mostly, and some that are too large for the store. */
const value = fc.oneof(
  { weight: 6, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  { weight: 2, arbitrary: fc.uint8Array({ maxLength: 600 }).map((bytes) => new Uint8Array(bytes)) },
  { weight: 2, arbitrary: fc.string({ maxLength: 3000 }) },
  { weight: 1, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.date({ noInvalidDate: true }) },
  { weight: 1, arbitrary: fc.bigInt() },
  { weight: 1, arbitrary: fc.constant('z'.repeat(100_000)) },
)

type Step =
  | {
      readonly do: 'set' | 'compareAndSet'
      readonly on: 0 | 1
      key: string | number
      value: unknown
      isRight: boolean
    }
  | { readonly do: 'delete' | 'read'; readonly on: 0 | 1; key: string | number }

const on = fc.constantFrom<0 | 1>(0, 1)
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constantFrom('set' as const, 'compareAndSet' as const),
    on,
    key,
    value,
    isRight: fc.boolean(),
  }),
  fc.record({ do: fc.constantFrom('delete' as const, 'read' as const), on, key }),
)

test('two threads of a store see one Map, and every block is accounted for', () => {
  const bench = new KernelBench(2)
  let full = 0
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 120 }), (steps) => {
      const words = new Int32Array(new SharedArrayBuffer(4 * (storeWordsMin(8) + 16_384)))
      const stores = [0, 1].map((cpu) => new SharedStore(bench.kernel(cpu), words))
      const model = new Map<string | number, { value: unknown; version: number }>()
      let newest = 0
      for (const each of steps) {
        const store = stores[each.on]!
        const known = model.get(each.key)
        switch (each.do) {
          case 'read':
            assert.deepEqual(store.read(each.key), known)
            break
          case 'delete':
            assert.equal(store.delete(each.key), model.delete(each.key))
            break
          default: {
            const wanted = (known?.version ?? 0) + (each.isRight ? 0 : 7)
            let version: number | undefined
            try {
              version =
                each.do === 'set'
                  ? store.set(each.key, each.value)
                  : store.compareAndSet(each.key, wanted, each.value)
            } catch (error) {
              assert.equal((error as { code?: unknown }).code, 'IPI_STORE_FULL')
              full++
              break
            }
            if (each.do === 'compareAndSet' && !each.isRight) {
              assert.equal(version, undefined)
              break
            }
            assert.ok(version !== undefined && version > newest, 'versions grow')
            newest = version
            model.set(each.key, { value: each.value, version })
          }
        }
        assert.equal(stores[1 - each.on]!.size, model.size)
      }
      for (const store of stores) {
        for (const each of KEYS) {
          const known = model.get(each)
          assert.equal(store.has(each), known !== undefined)
          const found = store.get(each)
          assert.ok(isDeepStrictEqual(found, known?.value), `${String(each)}: ${String(found)}`)
        }
      }
      assert.equal(auditStore(words), undefined)
      for (const each of model.keys()) stores[0]!.delete(each)
      assert.equal(auditStore(words), undefined)
      assert.equal(stores[0]!.stats().bytesUsed, 0)
    }),
    { numRuns: 300 },
  )
  assert.ok(full > 0, 'it was never full')
})

test('a store that was full holds as much again when its keys are gone, whatever their sizes were', () => {
  const bench = new KernelBench(1)
  const words = new Int32Array(new SharedArrayBuffer(4 * (storeWordsMin(8) + 65_536)))
  const store = new SharedStore<Uint8Array>(bench.kernel(0), words)
  const fill = (bytes: number): number => {
    for (let i = 0; ; i++) {
      try {
        store.set(i, new Uint8Array(bytes).fill(i))
      } catch (error) {
        assert.equal((error as { code?: unknown }).code, 'IPI_STORE_FULL')
        return i
      }
    }
  }
  const counts = new Map<number, number>()
  for (const bytes of [10, 1000, 10, 100, 30_000, 1000, 10]) {
    const count = fill(bytes)
    assert.ok(count > 0)
    assert.equal(counts.get(bytes) ?? count, count, `${bytes} bytes`)
    counts.set(bytes, count)
    for (let i = 0; i < count; i++) assert.deepEqual(store.get(i), new Uint8Array(bytes).fill(i))
    for (let i = 0; i < count; i++) assert.ok(store.delete(i))
    assert.equal(auditStore(words), undefined)
  }
})

test('versions go on when the sequence goes through its range', () => {
  const bench = new KernelBench(1)
  const words = new Int32Array(new SharedArrayBuffer(4 * storeWordsMin(8)))
  const store = new SharedStore<number>(bench.kernel(0), words)
  store.set('old', 0)
  words[STORE.sequence] = -5 // three writes before it is 1 again
  let last = 0
  for (let i = 0; i < 10; i++) {
    const version = store.set('key', i)
    assert.equal(version, last === 0 ? version : last + 1)
    last = version
    assert.deepEqual(store.read('key'), { value: i, version })
    assert.equal(store.compareAndSet('key', version, i), (last = version + 1))
  }
  assert.equal(auditStore(words), undefined)
})

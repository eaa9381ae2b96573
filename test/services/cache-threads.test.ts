/**
 * Coherence on real threads, with an oracle in shared memory that the library does not know: no read may
 * give less than the version whose flush had resolved when it began.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { boot, type Machine } from '../../src/index.ts'
import {
  counts,
  held,
  keyOf,
  KEYS,
  openCacheHere,
  startFetch,
  startReading,
  startWriting,
  TABLE_WORDS,
  theCache,
  WORD,
  write,
  type CacheShape,
  type Flushing,
} from '../support/cache-tasks.ts'
import { until } from '../support/kernel-threads.ts'

const TASKS = new URL('../support/cache-tasks.js', import.meta.url)

/** A machine on whose every CPU the cache is open. */
async function bootCaches(
  cpus: number,
  shape: Omit<CacheShape, 'buffer'> = {},
): Promise<AsyncDisposable & { readonly machine: Machine; readonly words: Int32Array }> {
  const machine = await boot({ cpus, entry: TASKS, timeoutMs: 15_000 })
  const buffer = new SharedArrayBuffer(TABLE_WORDS * 4)
  await machine.cpuhpSetupState('cache', { startup: openCacheHere }, { ...shape, buffer })
  return { machine, words: new Int32Array(buffer), [Symbol.asyncDispose]: () => machine.close() }
}

for (const how of ['visible', 'dropped', 'quiesced'] as const) {
  test(`flush(key, { until: '${how}' }): no thread has the old value when it resolves`, async () => {
    await using caches = await bootCaches(3)
    const { machine, words } = caches
    const keys = [keyOf(1), keyOf(2)]
    await machine.smpCallFunction(startFetch, keys)
    await until(() => Atomics.load(words, WORD.ready) === 2, 'both have fetched')
    for (const [, versions] of await machine.smpCallFunction(held, keys)) {
      assert.deepEqual(versions, [0, 0])
    }
    await write(1, how)
    for (const [, versions] of await machine.smpCallFunction(held, keys)) {
      assert.deepEqual(versions, [undefined, 0])
    }
    assert.equal((await theCache().fetch(keyOf(1)))?.version, 1)
  })
}

describe('readers, writers and an oracle', () => {
  const cases: readonly (readonly [string, readonly Flushing[], CacheShape['options']])[] = [
    ['visible', ['visible'], {}],
    ['dropped', ['dropped'], {}],
    ['everything', ['visible', 'dropped', 'quiesced', 'tag', 'all', 'mutate', 'keys'], {}],
    ['a small buffer', ['visible', 'mutate'], { max: 8 }],
    ['values flushed meanwhile are given, not kept', ['visible'], { onFenced: 'return' }],
  ]
  for (const [name, how, options] of cases) {
    test(`no stale read, nothing comes back: ${name}`, async () => {
      await using caches = await bootCaches(4, { options: options!, turns: 3 })
      const { machine, words } = caches
      await machine.smpCallFunctionMany([1, 2], startReading, { batch: 2000 })
      await machine.smpCallFunctionSingle(3, startWriting, { how })
      await until(() => Atomics.load(words, WORD.ready) === 3, 'all are at work')
      await pause(1500)
      Atomics.store(words, WORD.stop, 1)
      await until(() => Atomics.load(words, WORD.ready) === 0, 'all have ended')
      const count = (word: number): number => Atomics.load(words, word)
      assert.equal(count(WORD.stale), 0)
      assert.ok(count(WORD.flushes) > 10 && count(WORD.hits) > 100, words.subarray(2 * KEYS).join())
    })
  }
})

test('stampede: process: threads that want one key at once walk for it once, and all have it', async () => {
  await using caches = await bootCaches(4, { options: { stampede: 'process' }, gated: true })
  const { machine, words } = caches
  const keys = [keyOf(1)]
  const sums = async (): Promise<{ misses: number; walks: number }> => {
    const all = [...(await machine.smpCallFunction(counts)).values()]
    const sum = (what: 'misses' | 'walks'): number => all.reduce((a, each) => a + each[what], 0)
    return { misses: sum('misses'), walks: sum('walks') }
  }
  await machine.smpCallFunction(startFetch, keys)
  // All have asked, and one of them walks.
  while ((await sums()).misses < 3);
  Atomics.store(words, WORD.gate, 1)
  await until(() => Atomics.load(words, WORD.ready) === 3, 'all have fetched')
  assert.deepEqual([...(await machine.smpCallFunction(held, keys)).values()], [[0], [0], [0]])
  assert.equal((await sums()).walks, 1)
})

test('stampede: process: no stale read, nothing comes back', async () => {
  const options = { stampede: 'process' } as const
  await using caches = await bootCaches(4, { options, turns: 3 })
  const { machine, words } = caches
  await machine.smpCallFunctionMany([1, 2], startReading, { batch: 500 })
  await machine.smpCallFunctionSingle(3, startWriting, { how: ['visible', 'mutate', 'all'] })
  await until(() => Atomics.load(words, WORD.ready) === 3, 'all are at work')
  await until(() => Atomics.load(words, WORD.flushes) > 300, 'there were flushes')
  Atomics.store(words, WORD.stop, 1)
  await until(() => Atomics.load(words, WORD.ready) === 0, 'all have ended')
  assert.equal(Atomics.load(words, WORD.stale), 0)
})

test('setType: uncacheable on all threads at once, and back', async () => {
  await using caches = await bootCaches(3)
  const { machine, words } = caches
  const keys = [keyOf(1), keyOf(2)]
  const fetchEverywhere = async (): Promise<unknown[]> => {
    Atomics.store(words, WORD.ready, 0)
    await machine.smpCallFunction(startFetch, keys)
    await until(() => Atomics.load(words, WORD.ready) === 2, 'both have fetched')
    return [...(await machine.smpCallFunction(held, keys)).values()]
  }
  const [both, one] = [
    [0, 0],
    [undefined, 0],
  ]
  assert.deepEqual(await fetchEverywhere(), [both, both])
  await theCache().setType({ prefix: keyOf(1) }, 'uncacheable')
  const none = [undefined, undefined]
  assert.deepEqual([...(await machine.smpCallFunction(held, keys)).values()], [none, none])
  assert.deepEqual(await fetchEverywhere(), [one, one])
  await theCache().setType({ prefix: keyOf(1) }, undefined)
  assert.deepEqual(await fetchEverywhere(), [both, both])
})

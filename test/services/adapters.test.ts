/** Caches that people have already, coherent across threads. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LRUCache } from 'lru-cache'
import { boot, type Machine } from '../../src/index.ts'
import { coherent } from '../../src/lru-cache.ts'
import {
  openAdapters,
  readBento,
  readLru,
  theBento,
  theLru,
  WORD,
} from '../support/adapter-tasks.ts'
import { until } from '../support/kernel-threads.ts'

const TASKS = new URL('../support/adapter-tasks.js', import.meta.url)

async function bootAdapters(
  cpus: number,
): Promise<AsyncDisposable & { readonly machine: Machine; readonly words: Int32Array }> {
  const machine = await boot({ cpus, entry: TASKS, timeoutMs: 15_000 })
  const buffer = new SharedArrayBuffer(64)
  await machine.cpuhpSetupState('adapters', { startup: openAdapters }, buffer)
  return {
    machine,
    words: new Int32Array(buffer),
    [Symbol.asyncDispose]: async () => {
      // It has a timer, which would keep this process.
      await theBento().disconnectAll()
      await machine.close()
    },
  }
}

test('bentocache: when delete resolves, no other thread has the value', async () => {
  await using adapters = await bootAdapters(2)
  const { machine, words } = adapters
  const readThere = async (): Promise<number> => {
    Atomics.store(words, WORD.ready, 0)
    await machine.smpCallFunction(readBento)
    await until(() => Atomics.load(words, WORD.ready) === 1, 'it has read')
    return words[WORD.stale]!
  }
  assert.equal(await readThere(), 0)
  words[WORD.version] = 1
  assert.equal(await readThere(), 0, 'it has a copy')
  await theBento().delete({ key: 'a' })
  assert.equal(await readThere(), 1)
  words[WORD.version] = 2
  await theBento().clear()
  assert.equal(await readThere(), 2)
})

test('lru-cache: no thread reads what was flushed, and no fetch brings it back', async () => {
  await using adapters = await bootAdapters(3)
  const { machine, words } = adapters
  await machine.smpCallFunction(readLru)
  await until(() => Atomics.load(words, WORD.ready) === 2, 'both read')
  for (let version = 1; version <= 300; version++) {
    Atomics.store(words, WORD.version, version)
    await theLru().flush('a', { until: version % 2 === 0 ? 'visible' : 'dropped' })
    Atomics.store(words, WORD.floor, version)
    if (version % 3 === 0) await new Promise(setImmediate)
  }
  await until(() => Atomics.load(words, WORD.reads) > 20, 'they have read')
  Atomics.store(words, WORD.stop, 1)
  await until(() => Atomics.load(words, WORD.ready) === 0, 'both have ended')
  assert.equal(words[WORD.stale], 0)
})

test('lru-cache: a value that was read before a flush is not kept by a set after it', async () => {
  await using machine = await boot({ cpus: 1 })
  const cache = coherent<string, number>(new LRUCache<string, number>({ max: 2 }), machine, {
    name: 'leases',
  })
  assert.equal(cache.get('a'), undefined)
  await cache.flush('a')
  assert.equal(cache.set('a', 1), false)
  assert.equal(cache.get('a'), undefined)
  assert.equal(cache.set('a', 2), true)
  assert.equal(cache.get('a'), 2)
  assert.ok(cache.has('a'))
  assert.equal(cache.evict('a'), true)
  assert.equal(cache.set('b', 3), true, 'whoever sets without asking has read it now')
  assert.equal(cache.set('c', 4), true)
  await cache.flushAll()
  assert.deepEqual([cache.peek('b'), cache.peek('c')], [undefined, undefined])
  cache.close()
})

test('lru-cache: who asks during a fetch that was flushed gets another, and so do those before', async () => {
  await using machine = await boot({ cpus: 1 })
  const fetches: ((value: number) => void)[] = []
  const lru = new LRUCache<string, number>({
    max: 2,
    fetchMethod: () => new Promise<number>((resolve) => fetches.push(resolve)),
  })
  const cache = coherent<string, number>(lru, machine, { name: 'fetches' })
  const early = cache.fetch('a')
  await cache.flush('a')
  const late = cache.fetch('a')
  assert.equal(fetches.length, 2)
  fetches[0]!(1)
  fetches[1]!(2)
  assert.equal(await late, 2)
  assert.equal(await early, 2)
  assert.equal(cache.get('a'), 2)
  cache.close()
})

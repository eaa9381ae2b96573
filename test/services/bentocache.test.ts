/** bentocache on threads: its bus, its memory driver on a coherent lru-cache, and its own suite for drivers. */

import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { registerCacheDriverTestSuite } from 'bentocache/test_suite'
import { LRUCache } from 'lru-cache'
import { threadBus } from '../../src/bentocache.ts'
import { boot, isIpiError, type Machine } from '../../src/index.ts'
import { coherent } from '../../src/lru-cache.ts'
import * as tasks from '../support/lru-tasks.ts'

let machine: Machine
before(async () => {
  machine = await boot({
    cpus: 3,
    maxCpus: 4,
    entry: new URL('../support/lru-tasks.js', import.meta.url),
  })
  const buffer = new SharedArrayBuffer(tasks.TABLE_WORDS * 4)
  await machine.onEachCpu(tasks.open, buffer)
})
after(async () => {
  await machine.onEachCpu(tasks.close)
  await machine.close()
})

describe('the bus', () => {
  const heldByOthers = async (key: string): Promise<boolean[]> => [
    ...(await machine.smpCallFunction(tasks.heldPlain, key)).values(),
  ]
  /** Lets the other threads have a value that they tell nobody of. */
  const fillOthers = async (key: string): Promise<void> => {
    await machine.smpCallFunction(tasks.fillPlain, key)
    while ((await heldByOthers(key)).includes(false)) await sleep(1)
  }

  test('has told every thread when a delete has resolved', async () => {
    await fillOthers('a')
    await tasks.thePlain().delete({ key: 'a' })
    assert.deepEqual(await heldByOthers('a'), [false, false])
  })

  test('tells of sets, expirations, and of clear', async () => {
    await fillOthers('b')
    await tasks.thePlain().set({ key: 'b', value: 2 })
    assert.deepEqual(await heldByOthers('b'), [false, false])
    await fillOthers('c')
    await tasks.thePlain().expire({ key: 'c' })
    assert.deepEqual(await heldByOthers('c'), [false, false])
    await fillOthers('d')
    await tasks.thePlain().clear()
    assert.deepEqual(await heldByOthers('d'), [false, false])
  })

  test('does not mind threads that have none, and reports one that fails', async () => {
    const bus = threadBus(machine).factory()
    const adopted = new URL('../support/machine-adopted.js', import.meta.url)
    const tasksOfItsOwn = new URL('../../src/index.js', import.meta.url).href
    const worker = new Worker(adopted, { workerData: { tasks: tasksOfItsOwn } })
    const cpu = await machine.bringUp(worker)
    await bus.publish('nobody listens', 1)
    await machine.cpuDown(cpu)
    await worker.terminate()
    await machine.smpCallFunctionSingle(1, tasks.failToHear)
    await assert.rejects(
      bus.publish('failing', 1),
      (error) => isIpiError(error) && error.code === 'IPI_CALL_FAILED',
    )
    await bus.disconnect()
  })

  test('tells other caches of the same thread, and those that are closed no more', async () => {
    const open = () => {
      const store = bentostore().useL1Layer(memoryDriver()).useBus(threadBus(machine))
      return new BentoCache({ default: 'one thread', stores: { 'one thread': store } })
    }
    const [one, two] = [open(), open()]
    await two.set({ key: 'd', value: 1 })
    await one.set({ key: 'd', value: 2 })
    assert.equal(await two.get({ key: 'd' }), undefined)
    assert.equal(await one.get({ key: 'd' }), 2)
    await two.disconnectAll()
    await two.set({ key: 'd', value: 3 })
    await one.delete({ key: 'd' })
    assert.equal(await two.get({ key: 'd' }), 3)
    await one.disconnectAll()
  })
})

test('no read is stale while a thread changes keys', async () => {
  await machine.smpCallFunctionMany([1, 2], tasks.startReading, 'bentocache')
  await tasks.changeAll('bentocache')
  const { reads, loads, stale } = await tasks.endReading()
  assert.equal(stale, 0)
  assert.ok(loads < reads / 2, `${loads} loads for ${reads} reads`)
})

describe("bentocache's own suite for drivers, its memory driver on a coherent lru-cache", () => {
  const started: (() => unknown)[] = []
  const ended: (() => unknown)[] = []
  const cleanups: (() => unknown)[] = []
  const SUITE_LOAD_MS = 2
  let count = 0
  const createDriver = (options: object = { prefix: 'japa' }): unknown => {
    const cacheInstance = coherent(new LRUCache<string, string>({ max: 100 }), machine, {
      name: `suite ${++count}`,
      loadMs: SUITE_LOAD_MS,
    })
    return memoryDriver({ cacheInstance } as object).factory({ ...options, cacheInstance })
  }
  // What it asks of its runner, Japa.
  const assertions = {
    deepEqual: assert.deepEqual,
    notEqual: assert.notEqual,
    isTrue: (value: unknown) => assert.equal(value, true),
    isFalse: (value: unknown) => assert.equal(value, false),
    isUndefined: (value: unknown) => assert.equal(value, undefined),
  }
  const context = { assert: assertions, cleanup: (act: () => unknown) => void cleanups.push(act) }
  const suite = {
    test: (name: string, act: (given: typeof context) => Promise<void>) =>
      void test(name, () => act(context)),
    group: {
      setup: (act: () => Promise<() => unknown>) =>
        void started.push(async () => ended.push(await act())),
      tap: () => undefined,
      each: { teardown: (act: () => unknown) => afterEach(act) },
    },
    createDriver,
  }
  registerCacheDriverTestSuite(suite as never)
  before(async () => {
    for (const act of started) await act()
  })
  afterEach(async () => {
    for (const act of cleanups.splice(0)) await act()
    // Or else what a test sets would be doubtful because one before has looked and then deleted.
    await sleep(2 * SUITE_LOAD_MS)
  })
  after(async () => {
    for (const act of ended) await act()
  })
})

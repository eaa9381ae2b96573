/** The shared store on real threads: one for all, whoever dies in the middle of what. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openStore, type Machine } from '../../src/index.ts'
import { namedMemory } from '../../src/kernel/named-memory.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { withAdopted, withMachine } from '../support/machine-harness.ts'
import { runTask, startTask } from '../support/machine-tasks.ts'
import { auditStore } from '../support/store-audit.ts'
import { STORE } from '../../src/services/store/layout.ts'
import {
  countUp,
  inHandler,
  openHere,
  STORE_OPTIONS,
  stress,
  writeForEver,
} from '../support/store-tasks.ts'

const tasks = new URL('../support/store-tasks.js', import.meta.url)

/** The memory of the store that the tasks use. */
async function wordsOf(machine: Machine): Promise<Int32Array<SharedArrayBuffer>> {
  const { name, bytes } = STORE_OPTIONS
  return new Int32Array(await namedMemory(machine.kernel.calls, `store:${name}`, bytes))
}

describe('one store', () => {
  test('every thread sees what another wrote, values of all kinds', () =>
    withMachine({ cpus: 2, entry: tasks }, async ({ machine }) => {
      const store = await openStore<unknown>(machine, STORE_OPTIONS)
      await settled(runTask(1, openHere), 'opening')
      const values = [
        undefined,
        null,
        'text',
        'ключ',
        1.5,
        new Uint8Array([1, 2, 3]),
        { deep: [1, { two: 'three' }] },
        new Date(0),
        new Map([['a', new Set([1n])]]),
        Array.from({ length: 500 }, (_, i) => ({ i })),
        'x'.repeat(40_000),
      ]
      for (const value of values) {
        store.set('handler', value)
        assert.deepEqual(await machine.smpCallFunctionSingle(1, inHandler, 'seen'), value)
        assert.equal(store.get('handler'), 'seen')
      }
      const kept = { list: [1] }
      store.set('object', kept)
      kept.list.push(2)
      assert.deepEqual(
        store.get('object'),
        { list: [1] },
        'a copy, which later changes do not reach',
      )
      assert.notEqual(store.get('object'), store.get('object'))
    }))

  test('what it cannot keep is refused, and changes nothing', () =>
    withMachine({ cpus: 1 }, async ({ machine }) => {
      const store = await openStore<unknown>(machine, { name: 'small', bytes: 1 << 16 })
      store.set('key', 1)
      for (const bad of [{}, Symbol('key'), null, undefined, 1n, 'x'.repeat(2049)]) {
        assert.throws(() => store.set(bad as string, 1), { code: 'IPI_INVALID_ARGUMENT' })
        assert.throws(() => store.get(bad as string), { code: 'IPI_INVALID_ARGUMENT' })
      }
      assert.throws(() => store.set('key', () => 1), { code: 'IPI_UNCLONEABLE' })
      assert.throws(() => store.set('key', 'x'.repeat(1 << 17)), { code: 'IPI_STORE_FULL' })
      assert.deepEqual([store.get('key'), store.size], [1, 1])
      for (const bytes of [0, 100, 1.5, 2 ** 40, NaN]) {
        await assert.rejects(openStore(machine, { name: 'other', bytes }), {
          code: 'IPI_INVALID_ARGUMENT',
        })
      }
      await assert.rejects(openStore(machine, { name: '' }), { code: 'IPI_INVALID_ARGUMENT' })
      const again = await openStore<unknown>(machine, { name: 'small' })
      assert.equal(again.get('key'), 1, 'the size is that of the first')
    }))

  test('it takes of the memory what it uses, not what it may', () =>
    withMachine({ cpus: 1 }, async ({ machine }) => {
      const before = process.memoryUsage.rss()
      const store = await openStore<Uint8Array>(machine, { name: 'large', bytes: 1 << 28 })
      for (let i = 0; i < 1000; i++) store.set(i, new Uint8Array(100))
      assert.ok(process.memoryUsage.rss() - before < 2 ** 27, 'far from 256 MiB')
      const { entries, bytesUsed, bytesTouched, bytesMax } = store.stats()
      assert.deepEqual([entries, bytesUsed, bytesTouched], [1000, 256_000, 256_000])
      assert.ok(bytesMax > 0.9 * 2 ** 28)
    }))

  test('a thread that has left its machine reads and writes no more', () =>
    withMachine({ cpus: 1 }, async ({ machine }) => {
      const store = await openStore<number>(machine, STORE_OPTIONS)
      store.set('key', 1)
      await machine.close()
      assert.throws(() => store.get('key'), { code: 'IPI_MACHINE_CLOSED' })
      assert.throws(() => store.set('key', 2), { code: 'IPI_MACHINE_CLOSED' })
    }))
})

describe('many at once', () => {
  test('no write is lost between threads that count with compareAndSet', () =>
    withMachine({ cpus: 4, entry: tasks }, async ({ machine, board }) => {
      const times = 3000
      const counting = await Promise.all([1, 2, 3].map((cpu) => startTask(cpu, countUp, times)))
      await board.reached(WORD.entered, 3)
      board.set(WORD.release, 1)
      for (const { result } of counting) await settled(result, 'counting')
      const store = await openStore<number>(machine, STORE_OPTIONS)
      assert.equal(store.get('counter'), 3 * times)
      assert.equal(auditStore(await wordsOf(machine)), undefined)
    }))

  test('one is killed in the middle of a write: the next sets the books up anew', () =>
    withAdopted({ cpus: 2, tasks }, async ({ machine, board, kill, adopt }) => {
      const store = await openStore<unknown>(machine, STORE_OPTIONS)
      const words = await wordsOf(machine)
      store.set('kept', 'kept')
      let caught = 0
      for (let round = 0; caught < 3 && round < 40; round++) {
        await startTask(1, writeForEver)
        await board.reached(WORD.done, board.get(WORD.done) + 2)
        await settled(kill(1), 'the end of a thread')
        caught += words[STORE.busy]!
        assert.equal(store.get('kept'), 'kept')
        store.set('round', round)
        assert.equal(auditStore(words), undefined)
        for (let key = 0; key < 50; key++) store.delete(key)
        assert.equal(store.size, 2)
        assert.equal(auditStore(words), undefined)
        await adopt(1)
      }
      assert.ok(caught > 0, 'nobody was killed in the middle of a write')
    }))

  test('threads are killed at any moment of their writes; nobody reads what is not whole, or too old', () =>
    withAdopted({ cpus: 4, tasks }, async ({ machine, board, kill, adopt }) => {
      const running = new Map<number, Promise<unknown>>()
      const begin = async (cpu: number, seed: number): Promise<void> => {
        const { result } = await startTask(cpu, stress, seed)
        running.set(cpu, result)
        void result.catch((error: unknown) => failures.push(error))
      }
      const failures: unknown[] = []
      const store = await openStore(machine, STORE_OPTIONS)
      const words = await wordsOf(machine)
      for (const cpu of [1, 2, 3]) await begin(cpu, cpu)
      for (let round = 0; round < 15; round++) {
        const victim = 1 + (round % 3)
        await board.reached(WORD.done, board.get(WORD.done) + 3)
        await settled(kill(victim), 'the end of a thread')
        // Who is the first to write finds what the dead left.
        const wrong = await machine.stopMachine(() => {
          store.set('last', round)
          return auditStore(words)
        })
        assert.equal(wrong, undefined)
        await adopt(victim)
        await begin(victim, 100 + round)
        assert.deepEqual(failures, [])
      }
      board.set(WORD.release, 1)
      for (const cpu of [1, 2, 3]) await settled(running.get(cpu)!, 'a survivor')
      assert.deepEqual(failures, [])
      assert.equal(auditStore(await wordsOf(machine)), undefined)
    }))
})

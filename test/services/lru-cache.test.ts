/** An lru-cache that a program has, coherent across threads: every method of it, and loads under way. */

import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { boot, isIpiError, type Machine } from '../../src/index.ts'
import { coherent, type Coherent, type CoherentOptions } from '../../src/lru-cache.ts'
import * as tasks from '../support/lru-tasks.ts'

let machine: Machine
before(async () => {
  const entry = new URL('../support/lru-tasks.js', import.meta.url)
  machine = await boot({ cpus: 3, entry })
  const buffer = new SharedArrayBuffer(tasks.TABLE_WORDS * 4)
  await machine.onEachCpu(tasks.open, buffer)
})
after(async () => {
  await machine.onEachCpu(tasks.close)
  await machine.close()
})
beforeEach(() => tasks.theLru().clear())

let count = 0
/** A cache of this thread alone. */
function open<V extends {}>(
  options: Partial<LRUCache.Options<string, V, unknown>>,
  how: Partial<CoherentOptions> = {},
): LRUCache<string, V> & Coherent<string> {
  const lru = new LRUCache<string, V>({ max: 100, ...options })
  return coherent(lru, machine, { name: `unit ${++count}`, ...how })
}

/** A load that the test lets end. */
class Gate {
  readonly loads: { give: (value: number) => void; fail: (error: Error) => void }[] = []
  readonly load = (): Promise<number> =>
    new Promise((give, fail) => this.loads.push({ give, fail }))
}

describe('what is deleted in one thread', () => {
  test('is gone in all, by every method that looks', async () => {
    const lru = tasks.theLru()
    lru.set('1', 10).set('2', 20)
    assert.equal(lru.get('1'), 10)
    await machine.smpCallFunctionSingle(1, tasks.deleteHere, ['1'])
    assert.equal(lru.size, 2, 'it was not looked at since')
    assert.deepEqual([...lru.entries()], [['2', 20]])
    assert.equal(lru.get('1'), undefined)

    const looks: Record<string, () => unknown> = {
      get: () => lru.get('2'),
      peek: () => lru.peek('2'),
      has: () => lru.has('2'),
      info: () => lru.info('2'),
      getRemainingTTL: () => lru.getRemainingTTL('2'),
      iterator: () => [...lru].length,
      entries: () => [...lru.entries()].length,
      rentries: () => [...lru.rentries()].length,
      keys: () => [...lru.keys()].length,
      rkeys: () => [...lru.rkeys()].length,
      values: () => [...lru.values()].length,
      rvalues: () => [...lru.rvalues()].length,
      find: () => lru.find(() => true),
      forEach: () => {
        let seen = 0
        lru.forEach(() => seen++)
        return seen
      },
      rforEach: () => {
        let seen = 0
        lru.rforEach(() => seen++)
        return seen
      },
      dump: () => lru.dump().length,
      pop: () => lru.pop(),
    }
    for (const [name, look] of Object.entries(looks)) {
      // Another key each time: what is set soon after a look that missed and a flush is not kept.
      lru.clear()
      const fresh = open<number>({})
      fresh.set('2', 20)
      lru.load([])
      assert.equal(lru.size, 0, name)
      assert.ok(!look(), name)
    }
  })

  test('is gone there before delete returns, and threads that have it say so', async () => {
    await machine.smpCallFunctionMany([1, 2], tasks.setHere, [['3', 30]])
    assert.equal(tasks.theLru().delete('3'), false, 'it was not here')
    const held = await machine.smpCallFunction(tasks.held, ['3'])
    assert.deepEqual([...held.values()], [[undefined], [undefined]])
    const [deleted] = await machine.smpCallFunctionSingle(1, tasks.deleteHere, ['3'])
    assert.equal(deleted, false, 'it was there no more')
  })

  test('stays gone while other keys stay', async () => {
    await machine.smpCallFunctionSingle(1, tasks.setHere, [
      ['4', 40],
      ['5', 50],
    ])
    await tasks.theLru().flush(['4', '6'])
    assert.deepEqual(await machine.smpCallFunctionSingle(1, tasks.held, ['4', '5']), [
      undefined,
      50,
    ])
    await tasks.theLru().flushAll()
    assert.deepEqual(await machine.smpCallFunctionSingle(1, tasks.held, ['5']), [undefined])
  })

  test('by clear, too', async () => {
    tasks.theLru().set('7', 70)
    await machine.smpCallFunctionSingle(2, tasks.clearHere)
    assert.equal(tasks.theLru().get('7'), undefined)
  })
})

describe('a fetch under way', () => {
  test('whose key is deleted is fetched again, and nobody joins the old one', async () => {
    const gate = new Gate()
    const lru = open<number>({ fetchMethod: gate.load })
    const first = lru.fetch('a')
    lru.delete('a')
    const second = lru.fetch('a')
    assert.equal(gate.loads.length, 2)
    gate.loads[0]!.give(1)
    gate.loads[1]!.give(2)
    assert.deepEqual(await Promise.all([first, second]), [2, 2])
    assert.equal(lru.get('a'), 2)
    assert.equal(gate.loads.length, 2)
  })

  test('keeps nothing if nobody asks meanwhile, and is fetched again for who waits', async () => {
    const gate = new Gate()
    const lru = open<number>({ fetchMethod: gate.load })
    const fetching = lru.fetch('a')
    await lru.flush('a', { until: 'visible' })
    gate.loads[0]!.give(1)
    while (gate.loads.length < 2) await sleep(1)
    assert.equal(lru.peek('a'), undefined)
    gate.loads[1]!.give(2)
    assert.equal(await fetching, 2)
    assert.equal(lru.peek('a'), 2)
  })

  test('is shared, and fails for all who share it', async () => {
    const gate = new Gate()
    const lru = open<number>({ fetchMethod: gate.load })
    const both = [lru.fetch('a'), lru.forceFetch('a')]
    assert.equal(gate.loads.length, 1)
    gate.loads[0]!.fail(new RangeError('no such row'))
    for (const each of both) await assert.rejects(each, RangeError)
    const again = lru.fetch('a')
    gate.loads[1]!.give(5)
    assert.equal(await again, 5)
  })

  test('after three that were flushed gives the value and does not keep it', async () => {
    const gate = new Gate()
    const lru = open<number>({ fetchMethod: gate.load })
    const fetching = lru.fetch('a')
    for (let i = 0; i < 3; i++) {
      while (gate.loads.length <= i) await sleep(1)
      await lru.flush('a', { until: 'visible' })
      gate.loads[i]!.give(i)
    }
    assert.equal(await fetching, 2)
    assert.equal(lru.get('a'), undefined)
  })
})

describe('get, load, set', () => {
  test('keeps nothing that may have been read before a delete, until loads have ended', async () => {
    const lru = open<number>({}, { loadMs: 40 })
    assert.equal(lru.get('a'), undefined)
    lru.delete('a')
    lru.set('a', 1)
    assert.equal(lru.get('a'), undefined, 'it was read before')
    assert.equal(lru.get('b'), undefined)
    assert.equal(lru.set('b', 1).get('b'), 1, 'another key')
    // That look may have begun another load, which a second delete overtakes.
    lru.delete('a')
    await sleep(41)
    lru.set('a', 2)
    assert.equal(lru.get('a'), 2)
    lru.delete('a')
    lru.set('a', 3)
    assert.equal(lru.get('a'), 3, 'no look had missed for as long as a load takes')
  })

  test('remembers the looks of a doubtful time as well', async () => {
    const lru = open<number>({}, { loadMs: 60 })
    lru.get('a')
    lru.delete('a')
    await sleep(40)
    // A load begins, which may end after the doubt about the first one has.
    lru.get('a')
    lru.delete('a')
    await sleep(30)
    lru.set('a', 1)
    assert.equal(lru.get('a'), undefined)
  })

  test('is not disturbed by what is set without a look', () => {
    const lru = open<number>({})
    lru.set('a', 1)
    lru.delete('a')
    lru.set('a', 2)
    assert.equal(lru.get('a'), 2)
  })
})

test('memo keeps what it made, and makes it anew after a delete', () => {
  let made = 0
  const lru = open<number>({ memoMethod: () => ++made })
  assert.equal(lru.memo('a'), 1)
  assert.equal(lru.memo('a'), 1)
  lru.delete('a')
  assert.equal(lru.memo('a'), 2)
  const during = open<number>({
    memoMethod: (key) => {
      during.delete(key)
      return 7
    },
  })
  assert.equal(during.memo('b'), 7)
  assert.equal(during.get('b'), undefined, 'deleted while it was made')
})

test('what it held before is cleared, and its own bounds hold', () => {
  const lru = new LRUCache<string, number>({ max: 2 })
  lru.set('old', 1)
  const same = coherent(lru, machine, { name: 'bounds' })
  assert.equal(same, lru)
  assert.equal(lru.get('old'), undefined)
  lru.set('a', 1).set('b', 2).set('c', 3)
  assert.deepEqual([...lru.keys()], ['c', 'b'])
  lru.set('d', 4, { ttl: 1 })
  assert.equal(lru.set('b', undefined).has('b'), false)
})

test('says what is wrong', () => {
  const invalid = (act: () => unknown, message: RegExp): void =>
    assert.throws(
      act,
      (error) =>
        isIpiError(error) && error.code === 'IPI_INVALID_ARGUMENT' && message.test(error.message),
    )
  const lru = new LRUCache<string, number>({ max: 2 })
  invalid(() => coherent(lru, machine, { name: '' }), /name/)
  invalid(() => coherent(lru, machine, { name: 'x', loadMs: 0 }), /loadMs/)
  invalid(() => coherent(new Map() as never, machine, { name: 'x' }), /lru-cache of version 11/)
  invalid(() => coherent(new LRUCache({ max: 2 }), machine, { name: 'lru' }), /already/)
  const good = open<number>({})
  invalid(() => good.set({} as never, 1), /a key is a string or a number/)
  invalid(() => good.delete(Symbol('no') as never), /a key is a string or a number/)
})

for (const how of ['fetch', 'get, load, set', 'memo'] as const) {
  test(`no read by ${how} is stale while a thread changes keys`, async () => {
    await machine.smpCallFunctionMany([1, 2], tasks.startReading, how)
    await tasks.changeAll(how)
    const { reads, loads, stale } = await tasks.endReading()
    assert.equal(stale, 0)
    // How often it hits depends on how the threads take turns.
    assert.ok(loads < reads, `${loads} loads for ${reads} reads`)
  })
}

/** A cache in one thread: what it keeps, shares, fences, gives up and freezes. */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { boot, createCache, type Cache, type CacheOptions, type Machine } from '../../src/index.ts'

let machine: Machine
before(async () => {
  machine = await boot({ cpus: 1 })
})
after(() => machine.close())

/** A walk that the test lets end. */
class Gate {
  readonly walks: {
    readonly key: string
    readonly signal: AbortSignal
    readonly give: (value: unknown) => void
    readonly fail: (error: unknown) => void
  }[] = []

  readonly walk = (key: string, { signal }: { signal: AbortSignal }): Promise<unknown> =>
    new Promise<unknown>((give, fail) => this.walks.push({ key, signal, give, fail }))
}

let count = 0
function open(options: Partial<CacheOptions<string, unknown>> = {}): {
  readonly cache: Cache<string, unknown>
  readonly gate: Gate
} {
  const gate = new Gate()
  const authority = options.store === undefined ? { walk: gate.walk } : {}
  const cache = createCache<string, unknown>(machine, {
    name: `unit ${++count}`,
    ...authority,
    ...options,
  })
  return { cache, gate }
}

/** Fetches and lets the walk end at once. */
async function fill(cache: Cache<string, unknown>, gate: Gate, key: string, value: unknown) {
  const fetching = cache.fetch(key)
  gate.walks.at(-1)!.give(value)
  await fetching
}

describe('reading', () => {
  test('get gives copies and never walks; fetch walks once and keeps', async () => {
    const { cache, gate } = open()
    assert.equal(cache.get('a'), undefined)
    await fill(cache, gate, 'a', 1)
    assert.equal(cache.get('a'), 1)
    assert.equal(await cache.fetch('a'), 1)
    assert.equal(gate.walks.length, 1)
    assert.deepEqual(
      { ...cache.stats, walks: 1 },
      { size: 1, hits: 2, misses: 2, walks: 1, fenced: 0, fullFlushes: 0 },
    )
    cache.close()
  })

  test('fetchMany gives a Map of all, and walks for what it lacks', async () => {
    const { cache, gate } = open()
    await fill(cache, gate, 'a', 1)
    const fetching = cache.fetchMany(['a', 'b', 'b', 'c'])
    await nextTurn()
    assert.deepEqual(
      gate.walks.map(({ key }) => key),
      ['a', 'b', 'c'],
    )
    gate.walks[1]!.give(2)
    gate.walks[2]!.give(undefined)
    assert.deepEqual(
      await fetching,
      new Map([
        ['a', 1],
        ['b', 2],
        ['c', undefined],
      ]),
    )
    cache.close()
  })

  test('that there is nothing is kept like a value', async () => {
    const { cache, gate } = open()
    await fill(cache, gate, 'nobody', undefined)
    assert.equal(await cache.fetch('nobody'), undefined)
    assert.equal(gate.walks.length, 1)
    assert.equal(cache.has('nobody'), false)
    await cache.flush('nobody')
    const fetching = cache.fetch('nobody')
    gate.walks[1]!.give('somebody')
    assert.equal(await fetching, 'somebody')
    cache.close()
  })

  test('what a walk throws reaches all who share it, and nothing is kept', async () => {
    const { cache, gate } = open()
    const both = [cache.fetch('a'), cache.fetch('a')]
    const error = new Error('the database is down')
    gate.walks[0]!.fail(error)
    for (const each of both) await assert.rejects(each, error)
    assert.equal(gate.walks.length, 1)
    await fill(cache, gate, 'a', 1)
    assert.equal(cache.get('a'), 1)
    cache.close()
  })

  test('values are frozen all the way down, but not classes, and only if wanted', async () => {
    class Money {
      cents = 1
    }
    for (const freeze of [true, false]) {
      const { cache, gate } = open({ freeze })
      const value = { list: [{ deep: 1 }], money: new Money() }
      await fill(cache, gate, 'a', value)
      assert.equal(Object.isFrozen(value.list[0]), freeze)
      assert.equal(Object.isFrozen(value.money), false)
      assert.equal(cache.get('a'), value)
      cache.close()
    }
  })
})

describe('a flush', () => {
  test('of a key, keys, a tag, everything: forgets those and no others', async () => {
    const { cache, gate } = open({ tags: (value) => [`mod${Number(value) % 2}`] })
    const keys = ['0', '1', '2', '3', '4', '5']
    const left = (): string => keys.filter((key) => cache.has(key)).join()
    for (const key of keys) await fill(cache, gate, key, Number(key))
    await cache.flush('0')
    assert.equal(left(), '1,2,3,4,5')
    await cache.flush(['1', '2'], { until: 'visible' })
    assert.equal(left(), '3,4,5')
    await cache.flush({ tag: 'mod1' }, { until: 'quiesced' })
    assert.equal(left(), '4')
    await cache.flushAll()
    assert.equal(left(), '')
    cache.close()
  })

  test('of a range takes the numbers in it, also the largest', async () => {
    const cache = createCache<number, number>(machine, { name: 'range', walk: (key) => key })
    const keys = [0, 5, 9, 10, 0x7fffffff, 0x80000000, 0xffffffff]
    await cache.fetchMany(keys)
    await cache.flush({ range: [5, 10] })
    assert.deepEqual(
      keys.filter((key) => cache.has(key)),
      [0, 10, 0x7fffffff, 0x80000000, 0xffffffff],
    )
    await cache.flush({ range: [0x7fffffff, 0xffffffff] })
    assert.deepEqual(
      keys.filter((key) => cache.has(key)),
      [0, 10, 0xffffffff],
    )
    cache.close()
  })

  test('during a walk: its signal is aborted, another walk is made, the old value is not kept', async () => {
    const { cache, gate } = open()
    const early = cache.fetch('a')
    await cache.flush('a', { until: 'visible' })
    await nextTurn()
    assert.equal(gate.walks[0]!.signal.aborted, true)
    // Whoever asks now does not join what was read before the flush.
    const late = cache.fetch('a')
    assert.equal(gate.walks.length, 2)
    gate.walks[0]!.give('old')
    gate.walks[1]!.give('new')
    assert.equal(await late, 'new')
    assert.equal(await early, 'new')
    assert.equal(cache.get('a'), 'new')
    assert.equal(gate.walks.length, 2, 'who asked early shares the walk of who asked late')
    cache.close()
  })

  test('a walk that ends because it was aborted is made again, too', async () => {
    const { cache, gate } = open()
    const fetching = cache.fetch('a')
    const first = gate.walks[0]!
    first.signal.addEventListener('abort', () => first.fail(first.signal.reason))
    await cache.flush('a')
    await nextTurn()
    gate.walks[1]!.give(2)
    assert.equal(await fetching, 2)
    cache.close()
  })

  test('after three walks the value is given and not kept', async () => {
    const { cache, gate } = open()
    const fetching = cache.fetch('a')
    for (let walk = 0; walk < 3; walk++) {
      await cache.flush('a')
      gate.walks[walk]!.give(walk)
      await nextTurn()
    }
    assert.equal(await fetching, 2)
    assert.equal(cache.has('a'), false)
    assert.equal(gate.walks.length, 3)
    cache.close()
  })

  test('onFenced return: those who had asked get what was read, and it is not kept', async () => {
    const { cache, gate } = open({ onFenced: 'return' })
    const fetching = cache.fetch('a')
    await cache.flush('a')
    const late = cache.fetch('a')
    gate.walks[0]!.give('old')
    gate.walks[1]!.give('new')
    assert.equal(await fetching, 'old')
    assert.equal(await late, 'new')
    cache.close()
  })

  test('of a tag that a walk turns out to bear: it is not kept', async () => {
    const { cache, gate } = open({ tags: (value) => [String(value)], onFenced: 'return' })
    const fetching = [cache.fetch('a'), cache.fetch('b')]
    await cache.flush({ tag: 'red' })
    gate.walks[0]!.give('red')
    gate.walks[1]!.give('blue')
    await Promise.all(fetching)
    assert.deepEqual([cache.has('a'), cache.has('b')], [false, true])
    cache.close()
  })
})

describe('who gives up', () => {
  test('gets its reason; the others go on', async () => {
    const { cache, gate } = open()
    const controller = new AbortController()
    const reason = new Error('the client has left')
    const leaving = cache.fetch('a', { signal: controller.signal })
    const staying = cache.fetch('a')
    controller.abort(reason)
    await assert.rejects(leaving, reason)
    assert.equal(gate.walks[0]!.signal.aborted, false)
    gate.walks[0]!.give(1)
    assert.equal(await staying, 1)
    cache.close()
  })

  test('last, ends the walk; whoever asks then gets another', async () => {
    const { cache, gate } = open()
    const controllers = [new AbortController(), new AbortController()]
    const fetching = controllers.map(({ signal }) => cache.fetch('a', { signal }))
    for (const [i, controller] of controllers.entries()) {
      controller.abort(i)
      await assert.rejects(fetching[i]!, (reason) => reason === i)
    }
    assert.equal(gate.walks[0]!.signal.aborted, true)
    const again = cache.fetch('a')
    gate.walks[0]!.give('of nobody')
    gate.walks[1]!.give(1)
    assert.equal(await again, 1)
    assert.equal(cache.get('a'), 1)
    await assert.rejects(
      cache.fetch('b', { signal: AbortSignal.abort('before') }),
      (reason) => reason === 'before',
    )
    cache.close()
  })
})

describe('ttl', () => {
  /** The clock of the machine, which goes when the test says so. */
  let now = 1000
  before(() => {
    ;(machine.cpu.platform as { now: () => number }).now = () => now
  })

  /** Some time later, in another turn of the event loop. */
  const later = async (ms: number): Promise<void> => {
    now += ms
    await nextTurn()
    await nextTurn()
  }

  test('ends an entry; fetch gives it once more while it walks, if asked to', async () => {
    for (const staleWhileRevalidate of [0, 100]) {
      const { cache, gate } = open({ ttl: 50, staleWhileRevalidate })
      await fill(cache, gate, 'a', 'old')
      await later(49)
      assert.equal(cache.get('a'), 'old')
      await later(1)
      assert.equal(cache.get('a'), undefined)
      assert.equal(cache.has('a'), false)
      const fetching = cache.fetch('a')
      assert.equal(gate.walks.length, 2)
      if (staleWhileRevalidate > 0) {
        assert.equal(await fetching, 'old')
        assert.equal(await cache.fetch('a'), 'old')
        assert.equal(gate.walks.length, 2, 'one walk is enough')
      }
      gate.walks[1]!.give('new')
      await nextTurn()
      assert.equal(await cache.fetch('a'), 'new')
      await later(150)
      const anew = cache.fetch('a')
      gate.walks[2]!.give('too old to be given')
      assert.equal(await anew, 'too old to be given')
      cache.close()
    }
  })

  test('is looked at in a long turn, too, if not at each look-up', async () => {
    const { cache, gate } = open({ ttl: 50 })
    await fill(cache, gate, 'a', 'old')
    assert.equal(cache.get('a'), 'old')
    now += 50
    let looks = 0
    while (cache.get('a') !== undefined) looks++
    assert.ok(looks > 0 && looks <= 64, `${looks} look-ups`)
    cache.close()
  })

  test('stale-while-revalidate never gives what was flushed', async () => {
    const { cache, gate } = open({ ttl: 5, staleWhileRevalidate: 10_000 })
    await fill(cache, gate, 'a', 'old')
    await later(10)
    await cache.flush('a')
    const fetching = cache.fetch('a')
    gate.walks[1]!.give('new')
    assert.equal(await fetching, 'new')
    cache.close()
  })
})

describe('changing', () => {
  test('mutate: no copies while it runs, each fetch walks, nothing read meanwhile is kept', async () => {
    const { cache, gate } = open()
    await fill(cache, gate, 'a', 0)
    await fill(cache, gate, 'b', 0)
    const given = await cache.mutate('a', async () => {
      assert.equal(cache.get('a'), undefined)
      assert.equal(cache.get('b'), 0)
      const two = [cache.fetch('a'), cache.fetch('a')]
      assert.equal(gate.walks.length, 4)
      gate.walks[2]!.give(1)
      gate.walks[3]!.give(2)
      assert.deepEqual(await Promise.all(two), [1, 2])
      assert.equal(cache.has('a'), false)
      void cache.fetch('a')
      return 'changed'
    })
    assert.equal(given, 'changed')
    gate.walks[4]!.give('read before it was whole')
    await nextTurn()
    assert.equal(cache.has('a'), false)
    await fill(cache, gate, 'a', 3)
    assert.equal(cache.get('a'), 3)
    cache.close()
  })

  test('mutate makes the key whole when the change fails', async () => {
    const { cache, gate } = open()
    const error = new Error('refused')
    await assert.rejects(
      cache.mutate('a', () => Promise.reject(error)),
      error,
    )
    await fill(cache, gate, 'a', 1)
    assert.equal(cache.get('a'), 1)
    cache.close()
  })

  test('set writes to the store; the copy goes, stays, or never was, by the type', async () => {
    for (const [type, after] of [
      ['write-protected', undefined],
      ['write-through', 'new'],
      ['uncacheable', undefined],
    ] as const) {
      const rows = new Map<string, unknown>([['a', 'old']])
      const store = {
        get: (key: string) => rows.get(key),
        set: async (key: string, value: unknown) => {
          await nextTurn()
          rows.set(key, value)
        },
      }
      const { cache } = open({ type, store })
      assert.equal(await cache.fetch('a'), 'old')
      assert.equal(cache.get('a'), type === 'uncacheable' ? undefined : 'old')
      await cache.set('a', 'new')
      assert.equal(cache.get('a'), after)
      assert.equal(await cache.fetch('a'), 'new')
      cache.close()
    }
  })

  test('write-through: what was flushed while it was written is not kept', async () => {
    const rows = new Map<string, unknown>()
    const store = {
      get: (key: string) => rows.get(key),
      set: async (key: string, value: unknown) => {
        rows.set(key, value)
        await nextTurn()
      },
    }
    const { cache } = open({ type: 'write-through', store })
    const setting = cache.set('a', 'first')
    // Somebody else writes, and flushes.
    rows.set('a', 'second')
    await cache.flush('a', { until: 'visible' })
    await setting
    assert.equal(await cache.fetch('a'), 'second')
    cache.close()
  })

  test('evict is for this thread; it, too, keeps a walk from bringing back what it drops', async () => {
    const { cache, gate } = open({ onFenced: 'return' })
    await fill(cache, gate, 'a', 1)
    assert.equal(cache.evict('a'), true)
    assert.equal(cache.evict('a'), false)
    const fetching = cache.fetch('a')
    cache.evict('a')
    gate.walks[1]!.give(2)
    assert.equal(await fetching, 2)
    assert.equal(cache.has('a'), false)
    cache.close()
  })
})

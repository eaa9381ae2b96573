// Tasks from their submission to their end: results, errors, order, what overtakes.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withPool } from '../support/pool-harness.ts'
import {
  begun,
  blocks,
  dies,
  echo,
  fails,
  makeWords,
  notes,
  polls,
  release,
  sleeps,
  uncloneable,
  where,
} from '../support/pool-tasks.ts'

test('a task gives what its function returned, through shared memory or by port', async () => {
  await withPool(2, async (pool) => {
    for (const value of [
      undefined,
      1,
      'text',
      { a: [1, 2] },
      'x'.repeat(10_000),
      new Map([[1, 2]]),
    ])
      assert.deepEqual(await pool.run(echo, value), value)
    const bytes = new Uint8Array(1000).fill(7)
    const copy = (await pool.run(echo, bytes, { transfer: [bytes.buffer] })) as Uint8Array
    assert.equal(bytes.byteLength, 0, 'it was moved')
    assert.equal(copy[999], 7)
  })
})

test('a task that throws rejects with its error and both stacks', async () => {
  await withPool(2, async (pool) => {
    async function caller(): Promise<void> {
      await pool.run(fails, 'no')
    }
    await assert.rejects(caller, (error: RangeError & { detail: number }) => {
      assert(error instanceof RangeError)
      assert.equal(error.message, 'no')
      assert.equal(error.detail, 7)
      assert.match(
        error.stack!,
        /pool-tasks\.[^]*at CPU 1 \("pool.fails", task of CPU 0\)[^]*caller/,
      )
      return true
    })
    await assert.rejects(pool.run(uncloneable), { code: 'IPI_UNCLONEABLE', cpu: 1 })
    await assert.rejects(pool.run('pool.nobody', 1), { code: 'IPI_UNKNOWN_FUNCTION', cpu: 1 })
    await assert.rejects(
      pool.run(echo, () => 1),
      { code: 'IPI_UNCLONEABLE' },
    )
    await assert.rejects(pool.run((() => 1) as never), { code: 'IPI_UNKNOWN_FUNCTION' })
    await assert.rejects(pool.run(echo, 1, { priority: 'now' as never }), {
      code: 'IPI_INVALID_ARGUMENT',
    })
    await assert.rejects(pool.run(echo, 1, { cpu: 99 }), { code: 'IPI_INVALID_CPU' })
    assert.equal(await pool.run(echo, 'goes on'), 'goes on')
  })
})

test('tasks of one priority run in order, and the main thread runs none', async () => {
  await withPool(2, async (pool) => {
    const words = makeWords(200)
    const blocked = pool.run(blocks, words)
    await begun(words)
    const all = Array.from({ length: 100 }, (_, mark) => pool.run(notes, { words, mark }))
    release(words)
    assert.equal(await blocked, 1)
    await Promise.all(all)
    assert.deepEqual(
      [...words.subarray(4, 104)],
      Array.from({ length: 100 }, (_, i) => i),
    )
  })
})

test('what is urgent runs before what waits, the most urgent first', async () => {
  await withPool(2, async (pool) => {
    const words = makeWords()
    const blocked = pool.run(blocks, words)
    await begun(words)
    const all = (['idle', 'normal', 'high', 'realtime'] as const).map((priority, mark) =>
      pool.run(notes, { words, mark }, { priority }),
    )
    release(words)
    await Promise.all([blocked, ...all])
    assert.deepEqual([...words.subarray(4, 8)], [3, 2, 1, 0])
  })
})

test('an urgent task overtakes a running one at its safepoint', async () => {
  await withPool(2, async (pool) => {
    for (let round = 0; round < 20; round++) {
      const words = makeWords()
      const running = pool.run(polls, words)
      await begun(words)
      // The one that runs ends only when the last of these has run on top of it.
      const same = pool.run(notes, { words, mark: 1 })
      const high = pool.run(notes, { words, mark: 2 }, { priority: 'high' })
      const urgent = pool.run(notes, { words, mark: 3, last: true }, { priority: 'realtime' })
      await Promise.all([running, same, high, urgent])
      assert.deepEqual([...words.subarray(4, 7)].indexOf(1), 2, 'what is as urgent has waited')
    }
  })
})

test('asynchronous tasks interleave with others', async () => {
  await withPool(2, async (pool) => {
    const slow = Array.from({ length: 10 }, () => pool.run(sleeps, 30))
    assert.equal(await pool.run(where), 1)
    const began = performance.now()
    assert.deepEqual(
      await Promise.all(slow),
      Array.from({ length: 10 }, () => 1),
    )
    assert(performance.now() - began < 250, 'they have slept at the same time')
  })
})

test('a CPU that is idle takes tasks from one that is not', async () => {
  await withPool(3, async (pool) => {
    const words = makeWords()
    const first = pool.run(blocks, words, { cpu: 1 })
    await begun(words)
    const second = makeWords()
    const other = pool.run(blocks, second, { cpu: 2 })
    await begun(second)
    // Both are busy: these are spread over both queues.
    const spread = Array.from({ length: 20 }, () => pool.run(where))
    release(second)
    assert.deepEqual(new Set(await Promise.all(spread)), new Set([2]))
    release(words)
    assert.deepEqual(await Promise.all([first, other]), [1, 2])
  })
})

test('more tasks than there are slots wait where they were made', async () => {
  await withPool(
    2,
    async (pool) => {
      const results = await Promise.all(Array.from({ length: 1000 }, (_, i) => pool.run(echo, i)))
      assert.deepEqual(
        results,
        Array.from({ length: 1000 }, (_, i) => i),
      )
    },
    {},
    { taskCount: 8 },
  )
})

test('the tasks of a CPU that dies: what ran has died, what waited is run by others', async () => {
  await withPool(3, async (pool, machine) => {
    const words = makeWords()
    const other = pool.run(blocks, words, { cpu: 2 })
    await begun(words)
    const dead = pool.run(dies, undefined, { cpu: 1 })
    const waiting = Array.from({ length: 10 }, () => pool.run(where))
    release(words)
    await assert.rejects(dead, { code: 'IPI_CPU_DIED', cpu: 1, functionName: 'pool.dies' })
    assert.deepEqual(new Set(await Promise.all(waiting)), new Set([2]))
    assert.equal(await other, 2)
    // Its next life takes tasks again.
    await machine.cpuUp(1)
    assert.equal(await pool.run(where, undefined, { cpu: 1 }), 1)
  })
})

test('a CPU that leaves hands on what waits', async () => {
  await withPool(3, async (pool, machine) => {
    const words = makeWords()
    const other = pool.run(blocks, words, { cpu: 2 })
    await begun(words)
    const leaving = machine.cpuDown(1)
    const waiting = Array.from({ length: 10 }, () => pool.run(where))
    release(words)
    await leaving
    const ran = await Promise.all(waiting)
    assert(ran.every((cpu) => cpu === 1 || cpu === 2))
    assert.equal(await pool.run(where), 2)
    assert.equal(await other, 2)
  })
})

// The life of a pool: limits, closing, size, warmth, reports, histograms; and generators and force.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPool } from '../../src/index.ts'
import type * as poolTasks from '../support/pool-tasks.ts'
import { withPool } from '../support/pool-harness.ts'
import {
  begun,
  blocks,
  burns,
  cools,
  dies,
  echo,
  fails,
  lasts,
  makeWords,
  notes,
  release,
  reports,
  runsAway,
  safe,
  sleeps,
  spins,
  warm,
  warms,
  where,
  yields,
} from '../support/pool-tasks.ts'

test('as many wait as may; then one is refused, or waits for a place', async () => {
  await withPool(
    2,
    async (pool, machine) => {
      const words = makeWords()
      const blocked = pool.run(blocks, words)
      await begun(words)
      const waiting = [pool.run(echo, 1), pool.run(echo, 2)]
      assert.equal(pool.needsDrain, true)
      await assert.rejects(pool.run(echo, 3), { code: 'IPI_QUEUE_FULL' })
      const patient = createPool(machine, { maxQueue: 1, whenFull: 'wait' })
      const drained = new Promise((resolve) => {
        patient.on('drain', () => resolve('drained'))
      })
      const all = [1, 2, 3, 4, 5].map((value) => patient.run(echo, value))
      assert.equal(patient.stats.queued, 5)
      release(words)
      assert.deepEqual(await Promise.all(all), [1, 2, 3, 4, 5])
      assert.equal(await drained, 'drained')
      assert.deepEqual(await Promise.all(waiting), [1, 2])
      await blocked
      assert.equal(pool.needsDrain, false)
      assert.equal(await pool.run(echo, 6), 6)
    },
    { maxQueue: 2 },
  )
})

test('a pool that closes lets its tasks end, and takes no more', async () => {
  await withPool(2, async (pool) => {
    const tasks = [pool.run(sleeps, 50), pool.run(echo, 1)]
    const closed = pool.close()
    await assert.rejects(pool.run(echo, 2), { code: 'IPI_POOL_CLOSED' })
    await closed
    assert.deepEqual(await Promise.all(tasks), [1, 1])
  })
})

test('a pool that closes cancels what does not end in time', async () => {
  await withPool(2, async (pool) => {
    const words = makeWords()
    const runaway = pool.run(runsAway, words, { timeoutMs: 60_000 })
    runaway.catch(() => undefined)
    await begun(words)
    const waits = pool.run(echo, 1)
    waits.catch(() => undefined)
    await pool.close({ timeoutMs: 20 })
    await assert.rejects(runaway, { code: 'IPI_ABORTED', outcome: 'aborted' })
    await assert.rejects(waits, { code: 'IPI_ABORTED', outcome: 'queued' })
  })
})

test('a pool that closes replaces a thread that is stuck in a task without a signal', async () => {
  await withPool(2, async (pool, machine) => {
    const words = makeWords()
    const runaway = pool.run(runsAway, words)
    runaway.catch(() => undefined)
    await begun(words)
    await pool.close({ timeoutMs: 0 })
    await assert.rejects(runaway, { code: 'IPI_ABORTED', outcome: 'replaced' })
    const other = createPool(machine)
    await other.ready
    assert.equal(await other.run(where), 1)
  })
})

test('a pool grows and shrinks, and a CPU that goes ends what it has begun', async () => {
  await withPool(2, async (pool) => {
    await pool.resize(3)
    assert.deepEqual(pool.stats.cpus, [1, 2, 3])
    const words = makeWords()
    const slow = pool.run(lasts, words, { cpu: 3 })
    await begun(words)
    const smaller = pool.resize(1)
    const waiting = Array.from({ length: 10 }, () => pool.run(where))
    assert.ok((await Promise.all(waiting)).every((cpu) => [1, 2, 3].includes(cpu)))
    release(words)
    assert.equal(await slow, 3)
    await smaller
    assert.deepEqual(pool.stats.cpus, [1])
    assert.equal(await pool.run(where), 1)
    await assert.rejects(pool.run(where, undefined, { cpu: 3 }), { code: 'IPI_NO_CPU' })
  })
})

test('every CPU is warm before its first task, a later one too', async () => {
  await withPool(
    2,
    async (pool, machine) => {
      assert.equal(await pool.run(warm), 1)
      const cpu = await machine.cpuUp()
      assert.equal(await pool.run(warm, undefined, { cpu }), 1)
      await pool.close()
      const other = createPool(machine)
      assert.deepEqual(
        await other.runOnAll(warm),
        new Map([
          [1, 0],
          [2, 0],
        ]),
      )
    },
    { warmUp: warms, teardown: cools },
  )
})

test('runOnAll runs on each CPU, and keeps what others gave if one fails', async () => {
  await withPool(3, async (pool) => {
    assert.deepEqual(
      await pool.runOnAll(where),
      new Map([
        [1, 1],
        [2, 2],
      ]),
    )
    await assert.rejects(pool.runOnAll(fails, 'no'), { code: 'IPI_CALL_FAILED' })
  })
})

test('a task reports, before it ends', async () => {
  await withPool(2, async (pool) => {
    const seen: unknown[] = []
    assert.equal(await pool.run(reports, 3, { onReport: (value) => seen.push(value) }), 3)
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual(seen, [{ done: 1 }, { done: 2 }, { done: 3 }])
  })
})

test('histograms have the shape of piscina, in milliseconds', async () => {
  await withPool(2, async (pool) => {
    await Promise.all([pool.run(sleeps, 30), pool.run(sleeps, 30)])
    const { runTime, waitTime } = pool.histogram
    assert.ok(runTime.min >= 25 && runTime.p50 >= 25 && runTime.max < 5000, JSON.stringify(runTime))
    assert.ok(waitTime.average >= 0 && waitTime.p99 <= waitTime.max)
    pool.histogram.resetRunTime()
    assert.equal(pool.histogram.runTime.max, 0)
    assert.equal(pool.stats.completed, 2)
  })
})

test('the functions of a module run in the pool, with their types', async () => {
  await withPool(3, async (pool) => {
    const url = new URL('../support/pool-tasks.js', import.meta.url)
    const tasks = pool.module<typeof poolTasks>(url)
    const sum: number = await tasks.adds(1, 2)
    assert.equal(sum, 3)
    assert.equal(await tasks.addsLater(3, 4), 7)
    assert.equal(await tasks.adds.with({ priority: 'high' })(5, 6), 11)
    const none = tasks as unknown as { nothing: () => Promise<unknown> }
    await assert.rejects(none.nothing(), { code: 'IPI_UNKNOWN_FUNCTION' })
  })
})

test('generators take turns at their yields, and what is urgent comes between', async () => {
  await withPool(2, async (pool) => {
    const words = makeWords(64)
    const blocked = pool.run(blocks, words)
    await begun(words)
    const two = [1, 2].map((mark) => pool.run(yields, { words, mark, count: 4 }))
    const urgent = pool.run(notes, { words, mark: 9 }, { priority: 'high' })
    release(words)
    assert.deepEqual(await Promise.all(two), [4, 4])
    await Promise.all([blocked, urgent])
    const order = [...words.subarray(4, 13)]
    assert.equal(order[0], 9)
    assert.ok(order.lastIndexOf(1) > order.indexOf(2), `in turns: ${order.join()}`)
  })
})

test('an urgent task that is safe overtakes one without safepoints, by force', async () => {
  await withPool(2, async (pool, machine) => {
    if (!machine.capabilities.forcedEntry) return
    const words = makeWords()
    const running = pool.run(spins, words)
    await begun(words)
    // Only this lets the other go.
    await pool.run(safe, words, { priority: 'realtime' })
    assert.equal(await running, 1)
  })
})

test('tasks of a worker go to the others, and the main thread is none of them', async () => {
  await withPool(3, async (pool, machine) => {
    // A task that submits: the pool of its own thread shares the CPUs.
    const answers = await pool.run('pool.submits', 20)
    assert.deepEqual(
      answers,
      Array.from({ length: 20 }, (_, i) => i),
    )
    assert.ok(machine.cpu.id === 0)
  })
})

test('a thousand rounds with deaths leave no task behind', async () => {
  await withPool(3, async (pool, machine) => {
    for (let round = 0; round < 5; round++) {
      const tasks = Array.from({ length: 50 }, (_, i) => pool.run(echo, i))
      const dead = pool.run(dies)
      const more = Array.from({ length: 50 }, (_, i) => pool.run(echo, i))
      await assert.rejects(dead, { code: 'IPI_CPU_DIED' })
      const ends = await Promise.allSettled([...tasks, ...more])
      for (const end of ends) {
        if (end.status === 'rejected') assert.equal(end.reason.code, 'IPI_CPU_DIED')
      }
      assert.equal(pool.stats.open, 0)
      const lost = [1, 2].find((cpu) => !machine.onlineMask.has(cpu))
      if (lost !== undefined) await machine.cpuUp(lost)
    }
  })
})

test('as many asynchronous tasks run on a CPU as may, and what is urgent does not wait', async () => {
  await withPool(
    2,
    async (pool) => {
      const words = [makeWords(), makeWords()] as const
      const first = pool.run(lasts, words[0])
      await begun(words[0])
      const second = pool.run(lasts, words[1])
      assert.equal(await pool.run(where, undefined, { priority: 'high' }), 1)
      assert.equal(words[1][0], 0, 'it waits for the first')
      release(words[0])
      await first
      await begun(words[1])
      release(words[1])
      assert.equal(await second, 1)
    },
    { concurrency: 1 },
  )
})

test('nothing starves: what has waited for long comes between what is urgent', async () => {
  await withPool(2, async (pool) => {
    const blocked = makeWords()
    const blocker = pool.run(blocks, blocked, { priority: 'realtime' })
    await begun(blocked)
    let isOver = false
    const weak = pool.run(where, undefined, { priority: 'idle' }).then(() => (isOver = true))
    // There is always something urgent, until the other has run.
    const urge = async (): Promise<void> => {
      while (!isOver) await pool.run(burns, 1, { priority: 'realtime' })
    }
    const urgent = Array.from({ length: 64 }, urge)
    release(blocked)
    await Promise.all([weak, blocker, ...urgent])
  })
})

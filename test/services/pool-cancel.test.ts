// Cancelling tasks: each step, and that nobody else is harmed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { load } from '../../src/hardware/memory.ts'
import { withPool } from '../support/pool-harness.ts'
import {
  awaitsSignal,
  begun,
  blocks,
  echo,
  heeds,
  makeWords,
  neverEnds,
  pollsForEver,
  release,
  runsAway,
  sleeps,
  where,
  yields,
} from '../support/pool-tasks.ts'

const reason = new Error('not wanted any more')

/** Begins a task, cancels it when it runs, and gives how that ended. */
async function cancelRunning(
  run: (signal: AbortSignal) => Promise<unknown>,
  running: () => Promise<void>,
): Promise<{ name: string; outcome: string; code: string; cause: unknown; cpu: number }> {
  const controller = new AbortController()
  const task = run(controller.signal)
  // It is awaited below; until then nobody need hear of it.
  task.catch(() => undefined)
  await running()
  controller.abort(reason)
  try {
    await task
  } catch (error) {
    return error as never
  }
  return assert.fail('it has ended well')
}

test('a task that waits is cancelled at once, and the others run', async () => {
  await withPool(2, async (pool) => {
    const words = makeWords()
    const blocked = pool.run(blocks, words)
    await begun(words)
    const controller = new AbortController()
    const { signal } = controller
    const cancelled = pool.run(echo, 1, { signal })
    const other = pool.run(echo, 2)
    controller.abort(reason)
    await assert.rejects(cancelled, {
      name: 'AbortError',
      code: 'IPI_ABORTED',
      outcome: 'queued',
      cause: reason,
    })
    await assert.rejects(pool.run(echo, 3, { signal }), { outcome: 'queued' })
    release(words)
    assert.equal(await other, 2)
    assert.equal(await blocked, 1)
    assert.equal(pool.stats.open, 0)
  })
})

test('a task that polls is asked, and its finally runs', async () => {
  await withPool(
    2,
    async (pool) => {
      for (let round = 0; round < 5; round++) {
        const words = makeWords()
        const end = await cancelRunning(
          (signal) => pool.run(pollsForEver, words, { signal }),
          () => begun(words),
        )
        assert.deepEqual([end.name, end.outcome, end.cause], ['AbortError', 'soft', reason])
        assert.equal(load(words, 3), 1, 'finally')
        assert.equal(await pool.run(where), 1)
      }
    },
    // On a machine that is busy with other things its thread may not run at all for a while.
    { cancel: { lookMs: 10_000 } },
  )
})

test('a task that looks at its signal ends by itself, without the event loop', async () => {
  await withPool(2, async (pool) => {
    const words = makeWords()
    const controller = new AbortController()
    const task = pool.run(heeds, words, { signal: controller.signal })
    await begun(words)
    controller.abort()
    assert.equal(await task, 'ended by itself')
  })
})

test('a task that runs away is aborted, and its thread is kept', async () => {
  await withPool(2, async (pool, machine) => {
    const sleeping = pool.run(sleeps, 300)
    const life = machine.interrupts()
    assert.ok(life)
    for (let round = 0; round < 5; round++) {
      const words = makeWords()
      const end = await cancelRunning(
        (signal) => pool.run(runsAway, words, { signal }),
        () => begun(words),
      )
      assert.deepEqual([end.outcome, end.cause, end.cpu], ['aborted', reason, 1])
      assert.equal(await pool.run(where), 1)
    }
    assert.equal(await sleeping, 1, 'another task of that thread is not harmed')
  })
})

test('a deadline cancels as a signal does', async () => {
  await withPool(2, async (pool) => {
    const words = makeWords()
    await assert.rejects(pool.run(runsAway, words, { timeoutMs: 50 }), {
      name: 'TimeoutError',
      code: 'IPI_TIMEOUT',
      outcome: 'aborted',
    })
    assert.equal(await pool.run(echo, 1, { timeoutMs: 60_000 }), 1)
  })
})

test('an asynchronous task hears of it by its signal; one that does not is abandoned', async () => {
  await withPool(
    2,
    async (pool) => {
      const words = makeWords()
      const heard = await cancelRunning(
        (signal) => pool.run(awaitsSignal, words, { signal }),
        () => begun(words),
      )
      assert.equal(heard.outcome, 'soft')
      assert.equal(load(words, 3), 1)
      const deaf = makeWords()
      const sleeping = pool.run(sleeps, 200)
      const end = await cancelRunning(
        (signal) => pool.run(neverEnds, deaf, { signal }),
        async () => {
          await begun(deaf)
          // By then it is past its first await.
          await pool.run(where)
        },
      )
      assert.equal(end.outcome, 'abandoned')
      assert.equal(await sleeping, 1)
    },
    { cancel: { softMs: 30 } },
  )
})

test('a task that can neither be asked nor aborted ends with its thread, which is replaced', async () => {
  await withPool(
    2,
    async (pool) => {
      const words = makeWords()
      const end = await cancelRunning(
        (signal) => pool.run(blocks, words, { signal }),
        () => begun(words),
      )
      assert.ok(['replaced', 'aborted', 'unsafe'].includes(end.outcome), end.outcome)
      assert.equal(await pool.run(where), 1)
    },
    { cancel: { softMs: 10, abortMs: 20 } },
  )
})

test('a generator is led to its end where it yields', async () => {
  await withPool(2, async (pool) => {
    const words = makeWords(100_000)
    const end = await cancelRunning(
      (signal) => pool.run(yields, { words, mark: 1, count: Infinity }, { signal }),
      () => begun(words, 10),
    )
    assert.ok(['soft', 'aborted'].includes(end.outcome), end.outcome)
    assert.equal(await pool.run(where), 1)
  })
})

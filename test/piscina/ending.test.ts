// How tasks, threads and pools end: aborted, thrown out, closed, destroyed.

import assert from 'node:assert/strict'
import { EventEmitter, getEventListeners, once } from 'node:events'
import { boot, thisMachine } from 'interprocessor'
import { both, letGo, only, running, words, type Pool } from '../support/piscina-pools.ts'

/** The workers by number: of a pool whose threads may be others later. */
const threadIds = (pool: Pool): number[] => pool.threads.map(({ threadId }) => threadId)

both('refuses a task whose signal is aborted already', async ({ pool }) => {
  const made = pool()
  const reason = new Error('not today')
  const bytes = new Uint8Array(4)
  const task = made.run(bytes, {
    signal: AbortSignal.abort(reason),
    transferList: [bytes.buffer],
  })
  await assert.rejects(task, {
    name: 'AbortError',
    message: 'The task has been aborted',
    cause: reason,
  })
  assert.equal(bytes.length, 4)
})

both('takes an aborted task out of the queue', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1 })
  const held = words()
  const first = made.run(held)
  for (const signal of [new EventEmitter(), new AbortController()]) {
    const aborted = made.run(words(), { signal: 'signal' in signal ? signal.signal : signal })
    assert.equal(made.queueSize, 1)
    if ('signal' in signal) signal.abort()
    else signal.emit('abort')
    assert.equal(made.queueSize, 0)
    await assert.rejects(aborted, { name: 'AbortError' })
  }
  letGo(held)
  await first
})

both('aborts a task that runs and never ends, and runs the next', async ({ pool }) => {
  const made = pool({ maxThreads: 1 })
  const held = words()
  const controller = new AbortController()
  const reason = new Error('enough')
  const task = made.run(held, { name: 'spin', signal: controller.signal })
  await running(held)
  controller.abort(reason)
  await assert.rejects(task, { name: 'AbortError', cause: reason })
  assert.equal(await made.run(1), 2)
})

both('aborts a task that waits for ever, and runs the next', async ({ pool }) => {
  const made = pool({ maxThreads: 1 })
  for (const name of ['hold', 'holdAsync']) {
    const held = words()
    const signal = new EventEmitter()
    const task = made.run(held, { name, signal })
    await running(held)
    signal.emit('abort')
    await assert.rejects(task, { name: 'AbortError' })
    assert.equal(await made.run(1), 2)
  }
})

both('aborts several at once, those that run and those that wait', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1 })
  const held = words()
  const controllers = [new AbortController(), new AbortController()]
  const tasks = controllers.map(({ signal }) => made.run(held, { signal }))
  await running(held)
  for (const controller of controllers) controller.abort()
  const results = await Promise.allSettled(tasks)
  for (const result of results) assert.equal(result.status, 'rejected')
  letGo(held)
  await made.run(held, { signal: new AbortController().signal })
})

both('leaves no listener behind on a signal', async ({ pool }) => {
  const made = pool()
  const emitter = new EventEmitter()
  const { signal } = new AbortController()
  await made.run(1, { signal: emitter })
  await made.run(1, { signal })
  assert.equal(emitter.listenerCount('abort'), 0)
  assert.equal(getEventListeners(signal, 'abort').length, 0)
})

both('rejects the task of a thread that exits, and has another', async ({ pool }) => {
  const made = pool({ minThreads: 1, maxThreads: 1 })
  assert.equal(await made.run(1), 2)
  const before = threadIds(made)
  await assert.rejects(made.run(3, { name: 'exit' }), { message: 'worker exited with code: 3' })
  assert.equal(made.threads.length, 1)
  assert.notDeepEqual(threadIds(made), before)
  assert.equal(await made.run(1), 2)
})

both('emits the error of a thread that had no task', async ({ pool }) => {
  const made = pool({ maxThreads: 1, atomics: 'disabled' })
  const error = once(made, 'error')
  assert.equal(await made.run('behind', { name: 'failBehind' }), 'fine')
  made.threads[0]?.ref()
  assert.equal(((await error)[0] as Error).message, 'behind')
  assert.equal(await made.run(1), 2)
})

both('rejects the task of a thread that has no memory left', async ({ pool }) => {
  const made = pool({
    maxThreads: 1,
    resourceLimits: {
      maxOldGenerationSizeMb: 16,
      maxYoungGenerationSizeMb: 4,
      codeRangeSizeMb: 16,
    },
  })
  made.on('error', () => undefined)
  await assert.rejects(made.run(0, { name: 'fill' }), { code: 'ERR_WORKER_OUT_OF_MEMORY' })
})

both('closes after the tasks it has, and refuses others meanwhile', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1 })
  const held = words()
  const tasks = [made.run(held), made.run(held)]
  await running(held)
  const event = once(made, 'close')
  const closed = made.close()
  await assert.rejects(made.run(held), {
    name: 'AbortError',
    cause: 'queue is being terminated',
  })
  letGo(held)
  await Promise.all([...tasks, closed, event])
  assert.equal(made.threads.length, 0)
})

both('closes a pool without tasks, and one without threads', async ({ pool }) => {
  await pool().close()
  await pool({ minThreads: 0 }).close()
})

both('aborts what has not begun when it is closed by force', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1 })
  const held = words()
  const [first, second] = [made.run(held), made.run(held)]
  await running(held)
  const closed = made.close({ force: true })
  await assert.rejects(second, { name: 'AbortError', cause: 'pool is closed' })
  letGo(held)
  await first
  await closed
})

both('closes in time all the same, with an error event', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1, closeTimeout: 5 })
  const held = words()
  const tasks = [made.run(held), made.run(held)]
  const refused = tasks.map((task) =>
    assert.rejects(task, { message: 'Terminating worker thread' }),
  )
  await running(held)
  const error = once(made, 'error')
  await made.close()
  assert.equal(((await error)[0] as Error).message, 'Close operation timed out')
  await Promise.all(refused)
})

both('destroys threads that never end by themselves', async ({ pool }) => {
  const made = pool({ name: 'spin', maxThreads: 1 })
  const held = words()
  const tasks = [made.run(held), made.run(held)]
  const refused = tasks.map((task) =>
    assert.rejects(task, { message: 'Terminating worker thread' }),
  )
  await running(held)
  await made.destroy()
  await Promise.all(refused)
  assert.equal(made.threads.length, 0)
})

both('can be used again after it was destroyed', async ({ pool }) => {
  const made = pool({ maxThreads: 1 })
  assert.equal(await made.run(1), 2)
  await made.destroy()
  assert.equal(await made.run(1), 2)
})

both('checks what close is given', async ({ pool }) => {
  const made = pool()
  await assert.rejects(made.close(1 as unknown as object), { message: 'options must be an object' })
  await assert.rejects(made.close({ force: 1 } as object), {
    message: 'force argument must be a boolean',
  })
})

both('is closed by disposing of it', async ({ pool }) => {
  const made = pool()
  const event = once(made, 'close')
  await made[Symbol.asyncDispose]()
  await event
  const other = pool()
  const otherEvent = once(other, 'close')
  other[Symbol.dispose]()
  await otherEvent
})

only('pools share one machine, which goes with the last of them', async ({ pool }) => {
  assert.throws(() => thisMachine(), { code: 'IPI_NOT_BOOTED' })
  const [first, second] = [pool({ maxThreads: 1 }), pool({ maxThreads: 1 })]
  assert.deepEqual(await Promise.all([first.run(1), second.run(1)]), [2, 2])
  assert.deepEqual([...thisMachine().onlineMask], [0, 1, 2])
  await first.close()
  assert.deepEqual([...thisMachine().onlineMask], [0, 2])
  await second.close()
  assert.throws(() => thisMachine(), { code: 'IPI_NOT_BOOTED' })
})

only(
  'a pool stands on the machine that the program has made, and leaves it there',
  async ({ pool }) => {
    await using machine = await boot({ cpus: 1 })
    const made = pool({ maxThreads: 1 })
    assert.equal(await made.run(1), 2)
    assert.deepEqual([...machine.onlineMask], [0, 1])
    await made.close()
    assert.deepEqual([...machine.onlineMask], [0])
  },
)

only(
  'a task that waits gets a thread when the only one was ended for another',
  async ({ pool }) => {
    const made = pool({ minThreads: 0, maxThreads: 1 })
    const held = words()
    const controller = new AbortController()
    const task = made.run(held, { name: 'hold', signal: controller.signal })
    await running(held)
    const next = made.run(1)
    controller.abort()
    await assert.rejects(task, { name: 'AbortError' })
    assert.equal(await next, 2)
  },
)

// Threads, queues and events: how many there are, who waits, and who is told.

import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { availableParallelism } from 'node:os'
import {
  queueOptionsSymbol,
  type PiscinaTask,
  type PiscinaWorker,
  type Task,
  type TaskQueue,
} from 'interprocessor/piscina'
import { both, LIBRARIES, letGo, only, running, until, words } from '../support/piscina-pools.ts'
import { test } from 'node:test'

both('starts minThreads, and others up to maxThreads when tasks wait', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', minThreads: 2, maxThreads: 4 })
  const held = words()
  const counts = [made.threads.length]
  const created: unknown[] = []
  made.on('workerCreate', (worker) => created.push(worker))
  const tasks: Promise<unknown>[] = []
  for (let i = 0; i < 5; i++) {
    tasks.push(made.run(held))
    counts.push(made.threads.length)
  }
  assert.deepEqual(counts, [2, 2, 2, 3, 4, 4])
  await until(made, 'workerCreate', () => created.length === 4)
  letGo(held)
  await Promise.all(tasks)
  await made.destroy()
  assert.equal(made.threads.length, 0)
})

both('has the defaults of the options', ({ pool }) => {
  const made = pool()
  const processors = availableParallelism()
  assert.equal(made.minThreads, Math.max(Math.floor(processors / 2), 1))
  assert.equal(made.maxThreads, processors * 1.5)
  const { options } = made
  const { name, idleTimeout, maxQueue, concurrentTasksPerWorker, closeTimeout, atomics } = options
  assert.deepEqual(
    { name, idleTimeout, maxQueue, concurrentTasksPerWorker, closeTimeout, atomics },
    {
      name: 'default',
      idleTimeout: 0,
      maxQueue: Infinity,
      concurrentTasksPerWorker: 1,
      closeTimeout: 30_000,
      atomics: 'sync',
    },
  )
})

both('makes one limit fit the other', ({ pool }) => {
  const { options: low } = pool({ maxThreads: 1 })
  assert.deepEqual([low.minThreads, low.maxThreads], [1, 1])
  const { options: high } = pool({ minThreads: 5 })
  assert.deepEqual([high.minThreads, high.maxThreads], [5, 5])
  assert.equal(pool({ maxQueue: 'auto', maxThreads: 2 }).options.maxQueue, 4)
})

const refused: readonly (readonly [object, string])[] = [
  [{ filename: 12 }, 'options.filename must be a string or null'],
  [{ name: 12 }, 'options.name must be a string or null'],
  [{ minThreads: -1 }, 'options.minThreads must be a non-negative integer'],
  [{ maxThreads: 0 }, 'options.maxThreads must be a positive integer'],
  [{ idleTimeout: 'a' }, 'options.idleTimeout must be a non-negative integer'],
  [{ maxQueue: -1 }, 'options.maxQueue must be a non-negative integer'],
  [{ concurrentTasksPerWorker: 0 }, 'options.concurrentTasksPerWorker must be a positive integer'],
  [{ atomics: 'a' }, 'options.atomics should be a value of sync, sync or disabled.'],
  [{ resourceLimits: 0 }, 'options.resourceLimits must be an object'],
  [{ taskQueue: {} }, 'options.taskQueue must be a TaskQueue object'],
  [{ taskQueue: null }, 'options.taskQueue must be a TaskQueue object'],
  [{ niceIncrement: 'a' }, 'options.niceIncrement must be a non-negative integer on Unix systems'],
  [{ trackUnmanagedFds: 1 }, 'options.trackUnmanagedFds must be a boolean value'],
  [{ closeTimeout: -1 }, 'options.closeTimeout must be a non-negative integer'],
  [{ loadBalancer: () => null }, 'options.loadBalancer must be a function with at least two args'],
  [{ workerHistogram: 1 }, 'options.workerHistogram must be a boolean'],
  [{ stricterFIFO: 1 }, 'options.stricterFIFO must be a boolean'],
]

both('refuses bad options in the same words', ({ pool }) => {
  for (const [options, message] of refused) {
    assert.throws(() => pool(options), { name: 'TypeError', message })
  }
  assert.throws(() => pool({ minThreads: 2, maxThreads: 1 }), {
    name: 'RangeError',
    message: 'options.minThreads and options.maxThreads must not conflict',
  })
})

both('tells how many threads have nothing to do', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', minThreads: 2, maxThreads: 2 })
  const held = words()
  const counts = [made.idleThreads]
  const tasks = [0, 1].map(() => {
    const task = made.run(held)
    counts.push(made.idleThreads)
    return task
  })
  letGo(held)
  await Promise.all(tasks)
  counts.push(made.idleThreads)
  await made.destroy()
  counts.push(made.idleThreads)
  assert.deepEqual(counts, [2, 1, 0, 2, 0])
})

both('lets idle threads above minThreads go, and no others', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', minThreads: 1, maxThreads: 2, idleTimeout: 20 })
  const held = words()
  const tasks = [made.run(held), made.run(held)]
  await running(held, 2)
  const gone = once(made, 'workerDestroy')
  letGo(held)
  const [first, second] = await Promise.all(tasks)
  assert.notEqual(first, second)
  const [worker] = (await gone) as [PiscinaWorker]
  assert.equal(worker.destroyed, true)
  assert.equal(made.threads.length, 1)
  assert.ok([first, second].includes(await made.run(held)))
})

both('keeps idle threads for ever with an idleTimeout of Infinity', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', minThreads: 0, maxThreads: 2, idleTimeout: Infinity })
  const held = words()
  letGo(held)
  await Promise.all([made.run(held), made.run(held)])
  // Whoever is let go is so by a timer, and this one is behind it.
  await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(made.threads.length, 2)
})

both('queues what no thread can take, and says how much it is', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1 })
  const held = words()
  const tasks = [made.run(held), made.run(held), made.run(held)]
  assert.equal(made.queueSize, 2)
  letGo(held)
  await Promise.all(tasks)
  assert.equal(made.queueSize, 0)
})

both('refuses what the queue has no place for', async ({ pool }) => {
  const held = words()
  const short = pool({ name: 'holdAsync', maxThreads: 1, maxQueue: 1 })
  const tasks = [short.run(held), short.run(held)]
  await assert.rejects(short.run(held), { message: 'Task queue is at limit' })
  const none = pool({ name: 'holdAsync', maxThreads: 1, maxQueue: 0 })
  tasks.push(none.run(held))
  await assert.rejects(none.run(held), {
    message: 'No task queue available and all Workers are busy',
  })
  letGo(held)
  await Promise.all(tasks)
  assert.equal(await short.run(1, { name: 'default' }), 2)
})

only('does not run what it has refused', async ({ pool }) => {
  const made = pool({ name: 'note', maxThreads: 1, maxQueue: 0 })
  const task = made.run('first')
  await assert.rejects(made.run('second'), {
    message: 'No task queue available and all Workers are busy',
  })
  await task
  assert.deepEqual(await made.run(0, { name: 'noted' }), ['first'])
})

both('lets tasks share a thread when it is told so', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1, concurrentTasksPerWorker: 2 })
  const held = words()
  const tasks = [made.run(held), made.run(held)]
  const third = words()
  letGo(third)
  tasks.push(made.run(third))
  await running(held, 2)
  assert.equal(made.queueSize, 1)
  letGo(held)
  await Promise.all(tasks)
})

both('gives a task that can be aborted a thread for itself', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1, concurrentTasksPerWorker: 2 })
  const [first, second] = [words(), words()]
  const tasks = [made.run(first, { signal: new EventEmitter() }), made.run(second)]
  await running(first)
  assert.equal(made.queueSize, 1)
  letGo(first)
  letGo(second)
  await Promise.all(tasks)
})

both('uses a queue of the user, with what a task says to it', async ({ pool, library }) => {
  assert.equal(library.queueOptionsSymbol, queueOptionsSymbol)
  class Backwards implements TaskQueue {
    readonly tasks: Task[] = []
    readonly seen: unknown[] = []
    get size(): number {
      return this.tasks.length
    }
    shift(): Task | null {
      return this.tasks.pop() ?? null
    }
    push(task: Task): void {
      this.seen.push(task[queueOptionsSymbol])
      this.tasks.push(task)
    }
    unshift(task: Task): void {
      this.tasks.push(task)
    }
    remove(task: Task): void {
      this.tasks.splice(this.tasks.indexOf(task), 1)
    }
  }
  const taskQueue = new Backwards()
  const made = pool({ name: 'note', maxThreads: 1, taskQueue })
  const held = words()
  const first = made.run(held, { name: 'holdAsync' })
  const tasks = [1, 2, 3].map((n) => made.run({ n, [queueOptionsSymbol]: { option: n } }))
  tasks.push(made.run({ n: 4 }))
  assert.deepEqual(taskQueue.seen, [{ option: 1 }, { option: 2 }, { option: 3 }, null])
  letGo(held)
  await Promise.all([first, ...tasks])
  const noted = (await made.run(0, { name: 'noted' })) as { n: number }[]
  // piscina takes a waiting task out, finds no thread for it and puts it back; both ends are right.
  assert.deepEqual(noted.map(({ n }) => n).sort(), [1, 2, 3, 4])
})

both('runs what waits in order, with stricterFIFO', async ({ pool }) => {
  const made = pool({ name: 'note', maxThreads: 1, stricterFIFO: true })
  const numbers = Array.from({ length: 20 }, (_, n) => n)
  await Promise.all(numbers.map((n) => made.run(n)))
  assert.deepEqual(await made.run(0, { name: 'noted' }), numbers)
})

both('lets a balancer of the user choose', async ({ pool }) => {
  const chosen: number[] = []
  const made = pool({
    minThreads: 2,
    maxThreads: 2,
    loadBalancer: (task: PiscinaTask, workers: PiscinaWorker[]) => {
      assert.equal(task.name, 'default')
      assert.equal(typeof task.taskId, 'number')
      assert.equal(task.isAbortable, false)
      const last = workers.at(-1)!
      if (last.currentUsage > 0) return null
      chosen.push(last.id)
      return last
    },
  })
  const results = await Promise.all([1, 2, 3].map((n) => made.run(n)))
  assert.deepEqual(results, [2, 3, 4])
  assert.equal(new Set(chosen).size, 1)
})

both('emits needsDrain when all threads have enough, and drain after it', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1 })
  assert.equal(made.needsDrain, false)
  const held = words()
  const needsDrain = once(made, 'needsDrain')
  const drain = once(made, 'drain')
  const task = made.run(held)
  await needsDrain
  assert.equal(made.needsDrain, true)
  letGo(held)
  await task
  await drain
  assert.equal(made.needsDrain, false)
})

both('makes its threads nicer', async ({ pool, t }) => {
  if (process.platform !== 'linux') return t.skip('looks into /proc')
  const usual = await pool().run(0, { name: 'niceness' })
  const expected = Math.min(usual + 2, 19)
  assert.equal(await pool({ niceIncrement: 2 }).run(0, { name: 'niceness' }), expected)
})

both('emits what a worker posts', async ({ pool }) => {
  const made = pool()
  const message = once(made, 'message')
  await made.run({ some: 'news' }, { name: 'post' })
  assert.deepEqual(await message, [{ some: 'news' }])
})

both('keeps histograms of wait and run times', async ({ pool }) => {
  const made = pool({ maxThreads: 1, minThreads: 1 })
  assert.equal(made.utilization, 0)
  await Promise.all([1, 2, 3].map((n) => made.run(n)))
  const { histogram } = made
  for (const summary of [histogram.runTime, histogram.waitTime]) {
    for (const key of ['average', 'mean', 'stddev', 'min', 'max', 'p50', 'p2_5', 'p99_999']) {
      assert.equal(typeof summary[key as 'p50'], 'number', key)
    }
    assert.ok(summary.min <= summary.p50 && summary.p50 <= summary.max)
  }
  assert.ok(made.duration > 0)
  assert.ok(made.utilization > 0 && made.utilization < 1)
  histogram.resetRunTime()
  histogram.resetWaitTime()
  assert.ok(Number.isNaN(histogram.runTime.mean))
  assert.equal(histogram.waitTime.max, 0)
  assert.deepEqual(Object.keys(histogram.runTime).sort(), Object.keys(histogram.waitTime).sort())
})

both('keeps none when it is told so, and one for each thread when asked', async ({ pool }) => {
  const none = pool({ recordTiming: false })
  await none.run(1)
  assert.equal(none.histogram.runTime, undefined)
  assert.equal(none.histogram.waitTime, undefined)

  const seen: (PiscinaWorker['histogram'] | undefined)[] = []
  const made = pool({
    maxThreads: 1,
    workerHistogram: true,
    loadBalancer: (_task: PiscinaTask, [worker]: PiscinaWorker[]) => {
      seen.push(worker?.histogram)
      return worker?.currentUsage === 0 ? worker : null
    },
  })
  await made.run(1)
  await made.run(1)
  assert.equal(typeof seen.at(-1)?.max, 'number')
})

test('the histograms of both have the same fields', async () => {
  const fields: string[][] = []
  for (const library of Object.values(LIBRARIES)) {
    const made = new library.Piscina()
    fields.push(Object.keys(made.histogram.runTime).sort())
    await made.destroy()
  }
  assert.deepEqual(fields[0], fields[1])
})

for (const [name, library] of Object.entries(LIBRARIES)) {
  for (const Queue of [library.FixedQueue, library.ArrayTaskQueue]) {
    test(`${name}: ${Queue.name} keeps order, takes back and removes`, () => {
      const queue = new Queue()
      const tasks = Array.from({ length: 5000 }, () => ({ [library.queueOptionsSymbol]: null }))
      assert.equal(queue.shift(), null)
      for (const task of tasks) queue.push(task)
      assert.equal(queue.size, 5000)
      assert.equal(queue.shift(), tasks[0])
      queue.unshift(tasks[0]!)
      for (const task of [tasks[3]!, tasks[4999]!, tasks[0]!]) queue.remove(task)
      const left = tasks.filter((_, i) => i !== 0 && i !== 3 && i !== 4999)
      for (const task of left) assert.equal(queue.shift(), task)
      assert.equal(queue.size, 0)
      queue.push(tasks[0]!)
      assert.equal(queue.shift(), tasks[0])
    })
  }
}

only('tasks that can be aborted count in the limit of the queue', async ({ pool }) => {
  const made = pool({ name: 'holdAsync', maxThreads: 1, maxQueue: 1 })
  const held = words()
  const signal = new EventEmitter()
  const tasks = [made.run(held, { signal }), made.run(held, { signal })]
  await assert.rejects(made.run(held, { signal }), { message: 'Task queue is at limit' })
  letGo(held)
  await Promise.all(tasks)
})

only('runs what waits in order without being told so', async ({ pool }) => {
  const made = pool({ name: 'note', maxThreads: 1 })
  const numbers = Array.from({ length: 200 }, (_, n) => n)
  await Promise.all(numbers.map((n) => made.run(n)))
  assert.deepEqual(await made.run(0, { name: 'noted' }), numbers)
})

/** The pools that are compared, each behind the same few verbs. A library is loaded when it is opened. */

import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type * as library from '../../src/index.ts'
import type * as poolCpu from '../workers/pool-cpu.ts'
import type { Busy } from '../workers/pool-tasks.ts'

/** An open pool. */
export interface Pool {
  increment(value: number): Promise<unknown>
  echo(value: unknown): Promise<unknown>
  /** Keeps one of its threads busy. */
  compute?(busy: Busy): Promise<unknown>
  /** The same as `increment`, as urgent as this pool can say it. */
  urgent?(value: number): Promise<unknown>
  /** Starts a task that never ends; gives what aborts it. */
  runAway?(busy: Busy): () => void
  /** Has every thread do something, and waits for all. */
  everyone?(): Promise<unknown>
  close(): Promise<unknown>
}

/**
 * Opens a pool of so many threads, every one of which has started. `urgentFirst`: set up so that
 * `urgent` goes before other tasks that wait, at whatever this costs the rest.
 */
export type Open = (threads: number, urgentFirst?: boolean) => Promise<Pool>

const file = (name: string): string =>
  fileURLToPath(new URL(`../workers/${name}.js`, import.meta.url))

/** Runs something on each of so many threads, to see them started. */
async function warm(pool: Pool, threads: number): Promise<Pool> {
  await Promise.all(Array.from({ length: threads * 4 }, (_, i) => pool.increment(i)))
  return pool
}

/** For pools that have no broadcast: as many tasks as there are idle threads. */
function onAll(run: () => Promise<unknown>, threads: number): () => Promise<unknown> {
  return () => Promise.all(Array.from({ length: threads }, run))
}

/** What people write by hand: a number for each message, and a map of who waits for which. */
export const bare: Open = async (threads) => {
  const workers = Array.from({ length: threads }, () => new Worker(file('pool-bare')))
  const waiting = new Map<number, (value: unknown) => void>()
  let lastId = 0
  for (const worker of workers) {
    worker.on('message', ({ id, value }: { id: number; value: unknown }) => {
      waiting.get(id)?.(value)
      waiting.delete(id)
    })
  }
  const post = (name: string, value: unknown): Promise<unknown> =>
    new Promise((resolve) => {
      const id = ++lastId
      waiting.set(id, resolve)
      workers[id % threads]!.postMessage({ id, name, value })
    })
  const pool: Pool = {
    increment: (value) => post('increment', value),
    echo: (value) => post('echo', value),
    everyone: onAll(() => post('increment', 1), threads),
    close: () => Promise.all(workers.map((worker) => worker.terminate())),
  }
  return warm(pool, threads)
}

/** A queue that puts first what is urgent: for piscina and tinypool, which have it from the user. */
class UrgentFirst {
  readonly #tasks: object[] = []
  get size(): number {
    return this.#tasks.length
  }
  shift(): never {
    return (this.#tasks.shift() ?? null) as never
  }
  push(task: object): void {
    if ('name' in task && task.name === 'increment') this.#tasks.unshift(task)
    else this.#tasks.push(task)
  }
  remove(task: object): void {
    const index = this.#tasks.indexOf(task)
    if (index >= 0) this.#tasks.splice(index, 1)
  }
  /** For tinypool, which asks for it when it is closed. */
  cancel(): void {
    this.#tasks.length = 0
  }
}

/** What piscina, tinypool and our drop-in have in common. */
interface PiscinaLike {
  run(task: unknown, options: { name: string; signal?: AbortSignal }): Promise<unknown>
  destroy(): Promise<void>
}

function likePiscina(made: PiscinaLike, threads: number): Promise<Pool> {
  const run = (name: string) => (task: unknown) => made.run(task, { name })
  const pool: Pool = {
    increment: run('increment'),
    echo: run('echo'),
    compute: run('compute'),
    urgent: run('increment'),
    runAway: (busy) => {
      const controller = new AbortController()
      const { signal } = controller
      made.run(busy, { name: 'runAway', signal }).catch(() => undefined)
      return () => controller.abort()
    },
    everyone: onAll(() => made.run(1, { name: 'increment' }), threads),
    close: () => made.destroy(),
  }
  return warm(pool, threads)
}

const settings = (threads: number, urgentFirst = false) => ({
  filename: file('pool-tasks'),
  minThreads: threads,
  maxThreads: threads,
  ...(urgentFirst ? { taskQueue: new UrgentFirst() } : {}),
})

/** The other libraries. */
export const PEERS = {
  piscina: async (threads, urgentFirst) => {
    const { Piscina } = await import('piscina')
    return likePiscina(new Piscina(settings(threads, urgentFirst)), threads)
  },
  tinypool: async (threads, urgentFirst) => {
    const { Tinypool } = await import('tinypool')
    return likePiscina(new Tinypool(settings(threads, urgentFirst)), threads)
  },
  poolifier: async (threads, urgentFirst = false) => {
    const { FixedThreadPool } = await import('poolifier')
    // Only with a queue does it know priorities; and a queue that steals loses threads.
    const made = new FixedThreadPool<unknown, unknown>(threads, file('pool-poolifier'), {
      enableTasksQueue: urgentFirst,
      tasksQueueOptions: {
        concurrency: 1,
        taskStealing: false,
        tasksStealingOnBackPressure: false,
      },
    })
    const run = (name: string) => (value: unknown) => made.execute(value, name)
    return warm(
      {
        increment: run('increment'),
        echo: run('echo'),
        compute: run('compute'),
        urgent: run('increment'),
        everyone: onAll(() => made.execute(1, 'increment'), threads),
        close: () => made.destroy(),
      },
      threads,
    )
  },
  workerpool: async (threads, urgentFirst = false) => {
    const { default: workerpool } = await import('workerpool')
    const made = workerpool.pool(file('pool-workerpool'), {
      minWorkers: threads,
      maxWorkers: threads,
      workerType: 'thread',
      workerTerminateTimeout: 1,
      queueStrategy: urgentFirst ? 'lifo' : 'fifo',
    })
    const run =
      (name: string) =>
      async (value: unknown): Promise<unknown> =>
        made.exec(name, [value])
    return warm(
      {
        increment: run('increment'),
        echo: run('echo'),
        compute: run('compute'),
        urgent: run('increment'),
        runAway: (busy) => {
          const task = made.exec('runAway', [busy])
          task.catch(() => undefined)
          return () => void task.cancel()
        },
        everyone: onAll(run('increment').bind(null, 1), threads),
        close: async () => made.terminate(true),
      },
      threads,
    )
  },
} satisfies Record<string, Open>

/** The other libraries' names. */
export type PeerName = keyof typeof PEERS

/** Set in processes that load the package as it is published, and not the rooms one by one. */
const PACKAGE = 'BENCH_PACKAGE'

/** What a process needs in its environment for that. */
export function packageEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, [PACKAGE]: '1' }
}

const isPackage = process.env[PACKAGE] === '1'

/** Our pool. Its machine has room for the threads of the drop-in, which uses it too if it is there. */
export const ours: Open = async (threads) => {
  const { boot, createPool } = isPackage
    ? ((await import('interprocessor')) as unknown as typeof library)
    : await import('../../src/index.ts')
  const cpuModule = isPackage ? 'pool-cpu-package' : 'pool-cpu'
  const entry = new URL(`../workers/${cpuModule}.js`, import.meta.url)
  const { tasks } = (await import(entry.href)) as typeof poolCpu
  const machine = await boot({ cpus: threads + 1, maxCpus: threads * 2 + 1, entry })
  const cpus = Array.from({ length: threads }, (_, i) => i + 1)
  const made = createPool(machine, { cpus })
  await made.ready
  return warm(
    {
      increment: (value) => made.run(tasks.increment, value),
      echo: (value) => made.run(tasks.echo, value),
      compute: (busy) => made.run(tasks.compute, busy),
      urgent: (value) => made.run(tasks.increment, value, { priority: 'realtime' }),
      runAway: (busy) => {
        const controller = new AbortController()
        const { signal } = controller
        made.run(tasks.runAway, busy, { signal }).catch(() => undefined)
        return () => controller.abort()
      },
      everyone: () => made.runOnAll(tasks.nothing),
      close: () => machine.close(),
    },
    threads,
  )
}

/** The drop-in for piscina. */
export const dropIn: Open = async (threads) => {
  const { Piscina } = isPackage
    ? await import('interprocessor/piscina')
    : await import('../../src/piscina.ts')
  return likePiscina(new Piscina(settings(threads)), threads)
}

/** All of them by name, the hand-written one first. */
export const POOLS: Readonly<Record<string, Open>> = { bare, ...PEERS, ours, dropIn }

/** How they are called in the results. */
export const NAMES: Readonly<Record<string, string>> = {
  bare: 'bare postMessage with ids',
  dropIn: 'interprocessor/piscina',
  ours: 'createPool',
}

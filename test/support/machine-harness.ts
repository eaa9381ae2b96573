/** Machines for tests: booted or made of adopted workers, each with a board on all its CPUs. */

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { boot, createMachine, type BootOptions, type Machine } from '../../src/index.ts'
import { Board, settled } from './machine-board.ts'
import { setBoard } from './machine-tasks.ts'

/** What a test gets. */
export interface Bench {
  readonly machine: Machine
  readonly board: Board
}

const TASKS = new URL('./machine-tasks.js', import.meta.url)
const ADOPTED = new URL('./machine-adopted.js', import.meta.url)

/** Boots a machine, runs a test on it, closes it. `entry` must import machine-tasks. */
export async function withMachine(
  options: BootOptions,
  test: (bench: Bench) => Promise<void>,
): Promise<void> {
  const machine = await boot({ entry: TASKS, ...options })
  await run(machine, new Board(), test)
}

/** A worker of the application's own that is, or was, a CPU. */
export interface Adopted {
  readonly worker: Worker
  readonly cpu: number
}

/** A machine whose CPUs are workers that the test may terminate. */
export interface AdoptedBench extends Bench {
  /** A worker that waits to be brought up, and is ended with the test. */
  readonly makeWorker: () => Worker
  /** Brings up one more worker. */
  readonly adopt: (cpu?: number) => Promise<Adopted>
  /** The workers of the CPUs that were there from the start, CPU 1 first. */
  readonly adopted: readonly Adopted[]
  /** Ends the thread of a CPU from outside; resolves once the machine has buried it. */
  readonly kill: (cpu: number) => Promise<void>
}

/** The same with workers of the test's own, which it may terminate. */
export async function withAdopted(
  options: BootOptions & { readonly tasks?: URL },
  test: (bench: AdoptedBench) => Promise<void>,
): Promise<void> {
  const { cpus = 2, tasks = TASKS, ...rest } = options
  const machine = createMachine(rest)
  const workers = new Set<Worker>()
  const byCpu = new Map<number, Worker>()
  const makeWorker = (): Worker => {
    const worker = new Worker(ADOPTED, { workerData: { tasks: tasks.href } })
    worker.on('error', () => undefined)
    workers.add(worker)
    return worker
  }
  const adopt = async (cpu?: number): Promise<Adopted> => {
    const worker = makeWorker()
    const number = await settled(machine.bringUp(worker, cpu), 'bringUp')
    byCpu.set(number, worker)
    return { worker, cpu: number }
  }
  const kill = async (cpu: number): Promise<void> => {
    const buried = died(machine, cpu)
    await byCpu.get(cpu)!.terminate()
    await buried
  }
  try {
    await run(machine, new Board(), async ({ board }) => {
      const adopted: Adopted[] = []
      while (adopted.length < cpus - 1) adopted.push(await adopt())
      await test({ machine, board, makeWorker, adopt, adopted, kill })
    })
  } finally {
    await Promise.all([...workers].map((worker) => worker.terminate()))
  }
}

async function run(machine: Machine, board: Board, test: (bench: Bench) => Promise<void>) {
  try {
    await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
    await test({ machine, board })
  } finally {
    // Whoever is held goes on, or closing would have to end it by force.
    board.set(1, 1)
    await machine.close()
  }
}

/** Resolves once the machine has told that a CPU died, with the error that ended its thread. */
export async function died(machine: Machine, cpu: number): Promise<unknown> {
  return settled(
    new Promise((resolve) => {
      machine.on('died', (details) => {
        if (details.cpu === cpu) resolve(details.error)
      })
    }),
    `the death of CPU ${cpu}`,
  )
}

/** The worker has begun to run: Node's own 'online'. */
export async function started(worker: Worker): Promise<void> {
  await once(worker, 'online')
}

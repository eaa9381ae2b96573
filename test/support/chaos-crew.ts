/** The threads of a machine under chaos: made, watched and ended from CPU 0. */

import { Worker } from 'node:worker_threads'
import {
  boot,
  createMachine,
  isIpiError,
  type Machine,
  type MachineOptions,
} from '../../src/index.ts'
import { describeError } from './chaos-calls.ts'
import { AT, type Ledger } from './chaos-ledger.ts'
import { comeUp, goDown, type Outfit } from './chaos-tasks.ts'
import { until } from './machine-board.ts'

const TASKS = new URL('./chaos-tasks.js', import.meta.url)
const ADOPTED = new URL('./machine-adopted.js', import.meta.url)

/** How a machine is made. */
export interface CrewOptions {
  readonly cpus: number
  /** Workers of the application's own, or the machine's. */
  readonly adopted: boolean
  readonly machine: MachineOptions
}

/** A machine and its threads. */
export class Crew {
  readonly machine: Machine
  readonly #book: Ledger
  readonly #options: CrewOptions
  readonly #threads = new Map<number, Worker>()
  #newest: Worker | undefined
  /** CPUs that are being brought up: who asked for that is told of their ends by its failure. */
  readonly #coming = new Set<number>()
  /** Ends of threads that no cpuDown had asked to leave, after they were online. */
  #unasked = 0
  #died = 0

  private constructor(machine: Machine, book: Ledger, options: CrewOptions) {
    this.machine = machine
    this.#book = book
    this.#options = options
    machine.on('died', ({ cpu, error }) => {
      if (!this.#coming.has(cpu)) this.#died++
      this.#checkEnd(error)
    })
    machine.on('stuck', ({ kind }) => {
      book.count(kind === 'call' ? 'reported as stuck' : 'found locked up')
    })
  }

  /** Boots; resolves when every CPU is online and has its ledger. */
  static async make(book: Ledger, options: CrewOptions): Promise<Crew> {
    const { cpus, adopted, machine: given } = options
    const threads: Worker[] = []
    const onWorker = (worker: Worker): void => void threads.push(worker)
    process.on('worker', onWorker)
    const machine = adopted
      ? createMachine({ ...given, maxCpus: cpus })
      : await boot({ ...given, maxCpus: cpus, cpus, entry: TASKS })
    process.off('worker', onWorker)
    const crew = new Crew(machine, book, options)
    for (const worker of threads) crew.#watch(worker)
    process.on('worker', crew.#watch)
    const outfit: Outfit = {
      buffer: book.words.buffer,
      vectors: [machine.allocVector(), 0xd5],
    }
    await machine.cpuhpSetupState('chaos', { startup: comeUp, teardown: goDown }, outfit)
    for (let cpu = 1; adopted && cpu < cpus; cpu++) await crew.#bringUp(cpu)
    return crew
  }

  readonly #watch = (worker: Worker): void => {
    const { threadId } = worker
    if (this.#threads.has(threadId)) return
    this.#newest = worker
    this.#threads.set(threadId, worker)
    // What ends it is told by the machine, or is judged there.
    worker.on('error', () => undefined)
    worker.on('exit', () => this.#onExit(threadId))
  }

  #onExit(threadId: number): void {
    this.#threads.delete(threadId)
    for (let cpu = 1; cpu < this.#options.cpus; cpu++) {
      if (this.#book.get(AT.threads + cpu) !== threadId) continue
      if (this.#book.get(AT.leaving + cpu) === 0 && !this.#coming.has(cpu)) this.#unasked++
      this.#book.set(AT.threads + cpu, 0)
      this.#book.forget(cpu)
    }
  }

  /** Threads end only by what chaos does to them. */
  #checkEnd(error: unknown): void {
    if (error === undefined) return
    if (error instanceof Error && error.message.startsWith('chaos: ')) return
    this.#book.accuse(`a thread ended by ${describeError(error)}`)
  }

  /** The thread of a CPU; undefined if there is none. */
  readonly threadOf = (cpu: number): Worker | undefined =>
    this.#threads.get(this.#book.get(AT.threads + cpu))

  /** The youngest thread, whatever it is by now. */
  get newest(): Worker | undefined {
    return this.#newest
  }

  /** How many threads there are. */
  get size(): number {
    return this.#threads.size
  }

  /** Deaths that must have been told but were not, if more than 0. */
  get untold(): number {
    return this.#unasked - this.#died
  }

  /** CPUs that are not online. */
  get missing(): number[] {
    return [...this.machine.possibleMask].filter((cpu) => !this.machine.onlineMask.has(cpu))
  }

  /** Brings a number up again, whatever has become of it; rejects as the machine does. */
  async restore(cpu: number): Promise<void> {
    const { machine } = this
    if (machine.onlineMask.has(cpu)) return
    await this.threadOf(cpu)?.terminate()
    await until(
      () => !machine.presentMask.has(cpu) && this.#book.get(AT.threads + cpu) === 0,
      () => `CPU ${cpu} is still present, thread ${this.#book.get(AT.threads + cpu)}`,
    )
    await this.#bringUp(cpu)
  }

  async #bringUp(cpu: number): Promise<void> {
    this.#coming.add(cpu)
    try {
      await (this.#options.adopted ? this.#adopt(cpu) : this.machine.cpuUp(cpu))
    } finally {
      this.#coming.delete(cpu)
    }
  }

  async #adopt(cpu: number): Promise<void> {
    const worker = new Worker(ADOPTED, { workerData: { tasks: TASKS.href } })
    this.#watch(worker)
    try {
      await this.machine.bringUp(worker, cpu)
    } catch (error) {
      await worker.terminate()
      throw error
    }
  }

  /** Closes the machine; afterwards none of its threads may be left. */
  async close(): Promise<void> {
    await this.machine.close()
    if (this.#options.adopted) {
      await Promise.all([...this.#threads.values()].map((worker) => worker.terminate()))
    }
    await until(
      () => this.#threads.size === 0,
      () => `${this.#threads.size} threads are left after close()`,
    ).catch((error: unknown) => this.#book.accuse(String(error)))
    process.off('worker', this.#watch)
  }
}

/** Whether a failed bring-up is what a thread that chaos ended looks like. */
export function endedWhileComingUp(error: unknown): boolean {
  if (!isIpiError(error)) return false
  return error.code === 'IPI_BOOT_FAILED' || error.code === 'IPI_INVALID_ARGUMENT'
}

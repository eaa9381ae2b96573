/** The class that people hold: piscina's methods, properties and statics, on our threads. */

import { EventEmitterAsyncResource } from 'node:events'
import type { TransferListItem, Worker } from 'node:worker_threads'
import type { Ground } from './ground.ts'
import type { PiscinaHistogram } from './histogram.ts'
import { move, transferableSymbol, valueSymbol } from './movable.ts'
import {
  fillOptions,
  withoutPrototype,
  type FilledOptions,
  type PiscinaOptions,
} from './options.ts'
import type { AbortSignalAny } from './task-info.ts'
import { ArrayTaskQueue, FixedQueue, queueOptionsSymbol } from './task-queues.ts'
import { ThreadPool } from './thread-pool.ts'
import { threadRole } from './thread-role.ts'

/** The version of piscina whose behaviour this is. */
export const version = '5.3.2'

/** How one task is run. */
export interface PiscinaRunOptions {
  /** What of the task is moved to the thread and not copied. */
  transferList?: readonly TransferListItem[]
  /** Another file than the pool's. */
  filename?: string | null
  /** Aborts the task: an AbortSignal, or an emitter of `abort`. */
  signal?: AbortSignalAny | null
  /** Another export than the pool's. */
  name?: string | null
}

/** How `close` closes. */
export interface PiscinaCloseOptions {
  /** Whether tasks that have not begun are aborted. Default false. */
  force?: boolean
}

/**
 * piscina's class, on a ground that the entry file binds. `Task` is what handlers are given, `Result`
 * what they return.
 */
export class PiscinaOn<Task, Result> extends EventEmitterAsyncResource {
  readonly #pool: ThreadPool
  readonly #histogram: PiscinaHistogram

  /** Throws TypeError and RangeError for bad options, and what `new Worker` throws. */
  constructor(ground: Ground, given: PiscinaOptions) {
    super({ name: 'Piscina' })
    const pool = new ThreadPool(ground, fillOptions(given), {
      emit: (event, detail) => (detail === undefined ? this.emit(event) : this.emit(event, detail)),
      asyncId: this.asyncId,
    })
    this.#pool = pool
    this.#histogram = {
      get runTime() {
        return pool.runTimes?.summary as PiscinaHistogram['runTime']
      },
      get waitTime() {
        return pool.waitTimes?.summary as PiscinaHistogram['waitTime']
      },
      resetRunTime: () => pool.runTimes?.reset(),
      resetWaitTime: () => pool.waitTimes?.reset(),
    }
  }

  /**
   * Runs a task on one of the threads; resolves with what the handler returned. Rejects with what it
   * threw, with an AbortError when its signal says so, when the queue is full, and when its thread ends.
   */
  run(task: Task, options: PiscinaRunOptions = {}): Promise<Result> {
    if (options === null || typeof options !== 'object') {
      return Promise.reject(new TypeError('options must be an object'))
    }
    const {
      transferList = [],
      filename = null,
      name = null,
      signal = null,
    } = withoutPrototype(options)
    const wrong = !Array.isArray(transferList)
      ? 'transferList argument must be an Array'
      : !isText(filename)
        ? 'filename argument must be a string'
        : !isText(name)
          ? 'name argument must be a string'
          : signal !== null && typeof signal !== 'object'
            ? 'signal argument must be an object'
            : undefined
    if (wrong !== undefined) return Promise.reject(new TypeError(wrong))
    return this.#pool.run(task, { transferList, filename, name, signal }) as Promise<Result>
  }

  /**
   * Takes no more tasks, waits for those it has and ends the threads; after `closeTimeout` it ends them
   * all the same, with an `error` event. Resolves when they have ended.
   */
  async close(options: PiscinaCloseOptions = {}): Promise<void> {
    if (options === null || typeof options !== 'object') {
      throw new TypeError('options must be an object')
    }
    const { force = false } = withoutPrototype(options)
    if (typeof force !== 'boolean') throw new TypeError('force argument must be a boolean')
    await this.#pool.close(force)
  }

  /** Ends the threads at once; tasks that have not ended reject. Resolves when they have ended. */
  destroy(): Promise<void> {
    return this.#pool.destroy()
  }

  /** `using pool = new Piscina(…)`: closes, and nobody waits for it. */
  [Symbol.dispose](): void {
    void this.close()
  }

  /** `await using pool = new Piscina(…)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  get maxThreads(): number {
    return this.options.maxThreads
  }

  get minThreads(): number {
    return this.options.minThreads
  }

  /** The options in force. */
  get options(): FilledOptions {
    return this.#pool.options
  }

  /** The workers. */
  get threads(): Worker[] {
    return Array.from(this.#pool.threads, ({ worker }) => worker)
  }

  /** How many threads are there and have nothing to do. */
  get idleThreads(): number {
    return [...this.#pool.threads].filter((thread) => thread.isOpen && thread.tasks.size === 0)
      .length
  }

  /** How many tasks wait. */
  get queueSize(): number {
    return this.#pool.queueSize
  }

  /** How many tasks have ended that had begun. */
  get completed(): number {
    return this.#pool.completed
  }

  /** Times that tasks waited and ran. */
  get histogram(): PiscinaHistogram {
    return this.#histogram
  }

  /** The share of the threads' time in which tasks ran: 0 to 1. */
  get utilization(): number {
    const { runTimes, options } = this.#pool
    return (runTimes?.sumMs ?? 0) / (this.duration * options.maxThreads)
  }

  /** The age of the pool, in milliseconds. */
  get duration(): number {
    return performance.now() - this.#pool.createdAt
  }

  /** Whether all threads have as many tasks as they may. */
  get needsDrain(): boolean {
    return this.#pool.needsDrain
  }

  static get isWorkerThread(): boolean {
    return threadRole.isWorkerThread
  }

  static get workerData(): unknown {
    return threadRole.workerData
  }

  static get version(): string {
    return version
  }

  static get FixedQueue(): typeof FixedQueue {
    return FixedQueue
  }

  static get ArrayTaskQueue(): typeof ArrayTaskQueue {
    return ArrayTaskQueue
  }

  static readonly move: typeof move = move

  static get transferableSymbol(): typeof transferableSymbol {
    return transferableSymbol
  }

  static get valueSymbol(): typeof valueSymbol {
    return valueSymbol
  }

  static get queueOptionsSymbol(): typeof queueOptionsSymbol {
    return queueOptionsSymbol
  }
}

function isText(value: unknown): boolean {
  return value === null || typeof value === 'string'
}

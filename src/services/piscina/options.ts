/** The options of a Piscina: piscina's names, defaults, checks and words of refusal. */

import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { ResourceLimits, WorkerOptions } from 'node:worker_threads'
import type { LoadBalancer } from './balancer.ts'
import { FixedQueue, isTaskQueue, type TaskQueue } from './task-queues.ts'

/** What `new Piscina(options)` takes. The README of piscina 5 describes each. */
export interface PiscinaOptions {
  /** The file of the handler: an absolute path or a `file:` URL. */
  filename?: string | null
  /** Which of its exports is the handler. Default `default`. */
  name?: string | null
  /** Threads that always run. Default: half the processors, at least 1. */
  minThreads?: number
  /** Threads that run at most. Default: one and a half times the processors. */
  maxThreads?: number
  /** How long a thread above `minThreads` may be idle, in milliseconds. Default 0. */
  idleTimeout?: number
  /** How many tasks may wait. `auto`: the square of `maxThreads`. Default Infinity. */
  maxQueue?: number | 'auto'
  /** How many tasks may share a thread. Default 1. */
  concurrentTasksPerWorker?: number
  /** Accepted, and means nothing here: threads never freeze their event loops. */
  atomics?: 'sync' | 'async' | 'disabled'
  /** The name that `atomics` had in piscina 3 and 4; accepted as well. */
  useAtomics?: boolean
  resourceLimits?: ResourceLimits
  argv?: string[]
  execArgv?: string[]
  env?: NonNullable<WorkerOptions['env']>
  workerData?: unknown
  /** A queue of your own. Default: first in, first out. */
  taskQueue?: TaskQueue
  /** How much the threads are to be nicer; needs the package `@napi-rs/nice`. Default 0. */
  niceIncrement?: number
  /** Whether a thread closes the files it has opened when it ends. Default true. */
  trackUnmanagedFds?: boolean
  /** How long `close()` waits for tasks, in milliseconds. Default 30,000. */
  closeTimeout?: number
  /** Whether wait and run times are recorded. Default true. */
  recordTiming?: boolean
  /** Accepted, and always so here: what waits keeps its order. */
  stricterFIFO?: boolean
  /** Chooses the thread of a task. Default: the one that is least busy. */
  loadBalancer?: LoadBalancer
  /** Whether each thread records its run times. Default false. */
  workerHistogram?: boolean
}

/** The options that are in force. */
export interface FilledOptions extends PiscinaOptions {
  filename: string | null
  name: string
  minThreads: number
  maxThreads: number
  idleTimeout: number
  maxQueue: number
  concurrentTasksPerWorker: number
  atomics: 'sync' | 'async' | 'disabled'
  taskQueue: TaskQueue
  niceIncrement: number
  trackUnmanagedFds: boolean
  closeTimeout: number
  recordTiming: boolean
  stricterFIFO: boolean
  workerHistogram: boolean
}

/** An object without a prototype: an option that somebody put into Object.prototype is none. */
export function withoutPrototype<T extends object>(source: T): T {
  return Object.assign(Object.create(null) as T, source)
}

/** The path of a file that is named by its path or its URL. */
export function filePath(filename: string): string {
  return filename.startsWith('file:') ? fileURLToPath(filename) : filename
}

type Check = readonly [fine: (value: unknown) => boolean, refusal: string]

const isNumberFrom =
  (least: number) =>
  (value: unknown): boolean =>
    typeof value === 'number' && value >= least
const isBoolean = (value: unknown): boolean => typeof value === 'boolean'
const isText = (value: unknown): boolean => value === null || typeof value === 'string'

const CHECKS: Readonly<Record<string, Check>> = {
  filename: [isText, 'must be a string or null'],
  name: [isText, 'must be a string or null'],
  minThreads: [isNumberFrom(0), 'must be a non-negative integer'],
  maxThreads: [isNumberFrom(1), 'must be a positive integer'],
  idleTimeout: [isNumberFrom(0), 'must be a non-negative integer'],
  maxQueue: [
    (value) => value === 'auto' || isNumberFrom(0)(value),
    'must be a non-negative integer',
  ],
  concurrentTasksPerWorker: [isNumberFrom(1), 'must be a positive integer'],
  atomics: [
    (value) => value === null || ['sync', 'async', 'disabled'].includes(value as string),
    'should be a value of sync, sync or disabled.',
  ],
  resourceLimits: [(value) => typeof value === 'object' && value !== null, 'must be an object'],
  taskQueue: [isTaskQueue, 'must be a TaskQueue object'],
  niceIncrement: [
    (value) => isNumberFrom(process.platform === 'win32' ? -Infinity : 0)(value),
    'must be a non-negative integer on Unix systems',
  ],
  trackUnmanagedFds: [isBoolean, 'must be a boolean value'],
  closeTimeout: [isNumberFrom(0), 'must be a non-negative integer'],
  loadBalancer: [
    (value) => typeof value === 'function' && value.length >= 1,
    'must be a function with at least two args',
  ],
  workerHistogram: [isBoolean, 'must be a boolean'],
  stricterFIFO: [isBoolean, 'must be a boolean'],
}

/** Checks what the constructor was given and fills in the rest. Throws TypeError, RangeError. */
export function fillOptions(given: PiscinaOptions): FilledOptions {
  const options = withoutPrototype(given)
  for (const [key, [fine, refusal]] of Object.entries(CHECKS)) {
    const value = (options as Record<string, unknown>)[key]
    if (value !== undefined && !fine(value)) throw new TypeError(`options.${key} ${refusal}`)
  }
  const { minThreads: least, maxThreads: most } = options
  if (least !== undefined && most !== undefined && least > most) {
    throw new RangeError('options.minThreads and options.maxThreads must not conflict')
  }
  const processors = availableParallelism()
  const minThreads = least ?? Math.max(Math.floor(processors / 2), 1)
  const maxThreads = most ?? processors * 1.5
  const threads = {
    minThreads: most === undefined ? minThreads : Math.min(minThreads, most),
    maxThreads: least === undefined ? maxThreads : Math.max(maxThreads, least),
  }
  return withoutPrototype<FilledOptions>({
    concurrentTasksPerWorker: 1,
    idleTimeout: 0,
    niceIncrement: 0,
    trackUnmanagedFds: true,
    closeTimeout: 30_000,
    recordTiming: true,
    stricterFIFO: false,
    workerHistogram: false,
    ...options,
    ...threads,
    filename: typeof options.filename === 'string' ? filePath(options.filename) : null,
    name: options.name ?? 'default',
    maxQueue:
      options.maxQueue === 'auto' ? threads.maxThreads ** 2 : (options.maxQueue ?? Infinity),
    atomics: options.atomics ?? 'sync',
    taskQueue: options.taskQueue ?? new FixedQueue(),
  })
}

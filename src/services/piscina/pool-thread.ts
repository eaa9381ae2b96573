/** One thread of a Piscina: a worker that is a CPU, and the tasks that it has. */

import { Worker } from 'node:worker_threads'
import { isIpiError } from '../../base/errors.ts'
import type { PiscinaWorker } from './balancer.ts'
import type { Ground, Seat } from './ground.ts'
import { HANDLER_FUNCTIONS, type LoadRequest, type NamedTask } from './handler-protocol.ts'
import { Times } from './histogram.ts'
import type { FilledOptions } from './options.ts'
import type { TaskHolder, TaskInfo } from './task-info.ts'

/** What a thread tells its pool. */
export interface ThreadOwner {
  /** It can run tasks. */
  onReady(thread: PoolThread): void
  /** A task has ended, and so there is room for one. */
  onTaskDone(thread: PoolThread): void
  /** It failed, or its worker did: it is of no more use. */
  onError(thread: PoolThread, error: unknown): void
  /** Its worker has ended. */
  onExit(thread: PoolThread, code: number): void
  /** The worker's own code has posted something. */
  onMessage(message: unknown): void
  /** A task that was aborted would not end. */
  onStuck(thread: PoolThread): void
}

/** How long a CPU that is not needed has to leave before its thread is ended. */
const LEAVE_MS = 1000

/** What became of a task, when the thread under it is gone: its exit tells more. */
const GONE = ['IPI_CPU_DIED', 'IPI_NO_CPU', 'IPI_CPU_OFFLINE']

/** One worker, one CPU. */
export class PoolThread implements TaskHolder {
  readonly worker: Worker
  readonly tasks = new Set<TaskInfo>()
  /** What load balancers and events get to see. */
  readonly shown: PiscinaWorker
  readonly #owner: ThreadOwner
  readonly #options: FilledOptions
  readonly #times: Times | undefined
  readonly #exited: Promise<void>
  /** Tasks that came before the worker was a CPU. */
  #held: TaskInfo[] = []
  #seat: Seat | undefined
  #idleTimer: NodeJS.Timeout | undefined
  isDestroyed = false
  /** Whether it may be given tasks: it is ready, or was there from the start. */
  isOpen = false
  /** It has run its first lines, and has its handler. */
  isReady = false

  constructor(ground: Ground, options: FilledOptions, owner: ThreadOwner) {
    this.#owner = owner
    this.#options = options
    this.#times = options.workerHistogram ? new Times() : undefined
    this.worker = new Worker(ground.threadScript, workerOptions(options))
    // A program whose own work is done ends; a task under way keeps it alive, in the kernel's way.
    this.worker.unref()
    this.worker.on('message', (message: unknown) => owner.onMessage(message))
    this.worker.on('error', (error) => owner.onError(this, error))
    this.#exited = new Promise((resolve) => {
      this.worker.on('exit', (code) => {
        resolve()
        owner.onExit(this, code)
      })
    })
    this.shown = show(this, this.worker.threadId)
    void this.#start(ground)
  }

  /** How many tasks it has, as load balancers count: see PiscinaWorker. */
  get usage(): number {
    return this.isRunningAbortableTask ? Infinity : this.tasks.size
  }

  get isRunningAbortableTask(): boolean {
    if (this.tasks.size !== 1) return false
    const [task] = this.tasks
    return task!.isAbortable
  }

  get times(): Times | undefined {
    return this.#times
  }

  async #start(ground: Ground): Promise<void> {
    try {
      const seat = await ground.seat(this.worker)
      const { filename, name, niceIncrement } = this.#options
      const request: LoadRequest = { filename, name, niceIncrement }
      await seat.pool.run(HANDLER_FUNCTIONS.load, request)
      this.#seat = seat
      for (const task of this.#held.splice(0)) this.#submit(task, seat)
      this.isReady = true
      this.#owner.onReady(this)
    } catch (error) {
      if (!this.isDestroyed && !isGone(error)) this.#owner.onError(this, error)
    }
  }

  /** Gives it a task. */
  post(task: TaskInfo): void {
    clearTimeout(this.#idleTimer)
    task.holder = this
    this.tasks.add(task)
    if (this.#seat === undefined) this.#held.push(task)
    else this.#submit(task, this.#seat)
  }

  #submit(task: TaskInfo, { pool }: Seat): void {
    const { filename, name } = this.#options
    const transfer = task.transferList
    const options = transfer.length === 0 ? undefined : { transfer }
    const isDefault = task.filename === filename && task.name === name
    const named: NamedTask = { task: task.task, filename: task.filename, name: task.name }
    const result = isDefault
      ? pool.run(HANDLER_FUNCTIONS.run, task.task, options)
      : pool.run(HANDLER_FUNCTIONS.runNamed, named, options)
    result.then(
      (value) => this.#end(task, () => task.done(value)),
      (error: unknown) => {
        // The worker's exit follows, or its error: they say what has happened.
        if (!isGone(error)) this.#end(task, () => task.fail(refusalOf(error)))
      },
    )
  }

  #end(task: TaskInfo, settle: () => void): void {
    if (!this.tasks.delete(task)) return
    this.#times?.record(performance.now() - task.started)
    settle()
    this.#owner.onTaskDone(this)
  }

  /** Ends a task whose caller has been told so already. */
  cancel(task: TaskInfo): void {
    const waits = this.#held.indexOf(task)
    if (waits < 0) return this.#owner.onStuck(this)
    this.#held.splice(waits, 1)
    this.tasks.delete(task)
    this.#owner.onTaskDone(this)
  }

  /** Calls `retire` after some idle time, unless a task comes. */
  whenIdle(timeMs: number, retire: () => void): void {
    clearTimeout(this.#idleTimer)
    this.#idleTimer = setTimeout(retire, timeMs).unref()
  }

  /** Ends an idle thread in good order. */
  async retire(): Promise<void> {
    const seat = this.#close()
    await seat?.machine.cpuDown(seat.cpu, { timeoutMs: LEAVE_MS }).catch(() => undefined)
    void this.worker.terminate()
    await this.#exited
  }

  /** Ends it at once; its tasks reject with `error`. */
  async destroy(error: unknown): Promise<void> {
    this.#close()
    const tasks = [...this.tasks]
    this.tasks.clear()
    void this.worker.terminate()
    for (const task of tasks) task.fail(error)
    await this.#exited
  }

  #close(): Seat | undefined {
    this.isDestroyed = true
    clearTimeout(this.#idleTimer)
    const seat = this.#seat
    this.#seat = undefined
    return seat
  }
}

function isGone(error: unknown): boolean {
  return isIpiError(error) && GONE.includes(error.code)
}

/** What cannot be cloned is refused in the words of structured clone, as in piscina. */
function refusalOf(error: unknown): unknown {
  if (!isIpiError(error) || error.code !== 'IPI_UNCLONEABLE') return error
  return error.cause ?? error
}

function workerOptions(options: FilledOptions): object {
  const { env, argv, execArgv, resourceLimits, workerData, trackUnmanagedFds } = options
  return Object.assign(Object.create(null) as object, {
    env,
    argv,
    execArgv,
    resourceLimits,
    workerData,
    trackUnmanagedFds,
  })
}

function show(thread: PoolThread, id: number): PiscinaWorker {
  return {
    id,
    get currentUsage() {
      return thread.usage
    },
    get isRunningAbortableTask() {
      return thread.isRunningAbortableTask
    },
    get histogram() {
      return thread.times?.summary ?? null
    },
    // Nothing can be seen in between: it is marked in one step.
    terminating: false,
    get destroyed() {
      return thread.isDestroyed
    },
  }
}

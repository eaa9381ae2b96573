/** Who runs what, and when: the threads of one Piscina, and the tasks that wait for one. */

import { leastBusy, type LoadBalancer, type PiscinaWorker } from './balancer.ts'
import type { Ground } from './ground.ts'
import { Times } from './histogram.ts'
import { filePath, type FilledOptions } from './options.ts'
import { PoolThread, type ThreadOwner } from './pool-thread.ts'
import { AbortError, TaskInfo, type AbortSignalAny } from './task-info.ts'

/** What a pool tells the object that people hold. */
export interface PoolEvents {
  emit(event: string, detail?: unknown): unknown
  readonly asyncId: number
}

/** How a task is to be run; the rest is as the pool has it. */
export interface TaskRequest {
  readonly transferList: readonly unknown[]
  readonly filename: string | null
  readonly name: string | null
  readonly signal: AbortSignalAny | null
}

const endOfThread = (): Error => new Error('Terminating worker thread')

/** The threads and the queue of one Piscina. */
export class ThreadPool implements ThreadOwner {
  readonly options: FilledOptions
  readonly threads = new Set<PoolThread>()
  readonly waitTimes: Times | undefined
  readonly runTimes: Times | undefined
  readonly createdAt = performance.now()
  readonly #ground: Ground
  readonly #events: PoolEvents
  readonly #balancer: LoadBalancer
  readonly #capacity: number
  /** Tasks that no thread could take when it was their turn: they go before all others. */
  readonly #first: TaskInfo[] = []
  /** What balancers choose from. Made anew at each change. */
  #open: PoolThread[] = []
  #shown: PiscinaWorker[] = []
  #holdsGround = false
  /** Tasks are taken no more. */
  #isEnding = false
  /** Threads die before they are ready: more of them would die, too. */
  #failsToStart = false
  #whenEmpty: (() => void) | undefined
  /** Tasks submitted and not ended. */
  #tasks = 0
  completed = 0
  needsDrain = false

  constructor(ground: Ground, options: FilledOptions, events: PoolEvents) {
    this.#ground = ground
    this.options = options
    this.#events = events
    this.waitTimes = options.recordTiming ? new Times() : undefined
    this.runTimes = options.recordTiming ? new Times() : undefined
    this.#balancer = options.loadBalancer ?? leastBusy(options.concurrentTasksPerWorker)
    // There can be half a processor too many in the default.
    this.#capacity = Math.ceil(options.maxThreads) * options.concurrentTasksPerWorker
    this.#ensureThreads(true)
  }

  /** How many tasks wait beyond what threads that are starting will take. */
  get queueSize(): number {
    return Math.max(this.#waiting - this.#startingCapacity, 0)
  }

  get #waiting(): number {
    return this.options.taskQueue.size + this.#first.length
  }

  get #startingCapacity(): number {
    return (this.threads.size - this.#open.length) * this.options.concurrentTasksPerWorker
  }

  // Threads.

  #ensureThreads(isFirst = false): void {
    if (this.#isEnding) return
    while (this.threads.size < this.options.minThreads) this.#addThread(isFirst)
  }

  /** Those that are there from the start may be given tasks at once: nobody else could run them. */
  #addThread(isFirst = false): void {
    if (!this.#holdsGround) this.#ground.hold()
    this.#holdsGround = true
    const thread = new PoolThread(this.#ground, this.options, this)
    this.threads.add(thread)
    if (!isFirst) return
    this.#openThread(thread)
    // Whoever makes a pool has to have time to listen.
    queueMicrotask(() => this.#events.emit('workerCreate', thread.shown))
  }

  #addThreadIfMay(): void {
    if (this.threads.size < this.options.maxThreads) this.#addThread()
  }

  #openThread(thread: PoolThread): void {
    thread.isOpen = true
    this.#setOpen([...this.#open, thread])
  }

  #setOpen(threads: PoolThread[]): void {
    this.#open = threads
    this.#shown = threads.map(({ shown }) => shown)
  }

  onReady(thread: PoolThread): void {
    this.#failsToStart = false
    if (!thread.isOpen) {
      this.#openThread(thread)
      this.#events.emit('workerCreate', thread.shown)
    }
    this.#onRoom(thread)
  }

  onTaskDone(thread: PoolThread): void {
    this.#onRoom(thread)
  }

  onMessage(message: unknown): void {
    this.#events.emit('message', message)
  }

  onError(thread: PoolThread, error: unknown): void {
    const hadTasks = thread.tasks.size > 0
    if (!this.#remove(thread, error)) return
    const isHeard = this.#replace(thread, error)
    if (!hadTasks && !isHeard) this.#events.emit('error', error)
  }

  onExit(thread: PoolThread, code: number): void {
    const error = new Error(`worker exited with code: ${code}`)
    if (this.#remove(thread, error)) this.#replace(thread, error)
  }

  onStuck(thread: PoolThread): void {
    const error = endOfThread()
    if (this.#remove(thread, error)) this.#replace(thread, error)
  }

  /**
   * Starts others in the place of one that is gone; gives whether somebody was told why. If it was never
   * ready, the next would not be either, and what waits is told so.
   */
  #replace(thread: PoolThread, error: unknown): boolean {
    if (!thread.isReady) this.#failsToStart = true
    if (!this.#failsToStart) {
      this.#ensureThreads()
      if (this.#waiting > 0 && !this.#isEnding) this.#addThreadIfMay()
      return false
    }
    return this.threads.size === 0 && this.#rejectWaiting(() => error)
  }

  /** Gives whether it was still ours. */
  #remove(thread: PoolThread, error: unknown): boolean {
    if (!this.#forget(thread)) return false
    void thread.destroy(error)
    this.#events.emit('workerDestroy', thread.shown)
    return true
  }

  #forget(thread: PoolThread): boolean {
    if (!this.threads.delete(thread)) return false
    this.#setOpen(this.#open.filter((other) => other !== thread))
    return true
  }

  /** A thread has room: tasks that wait get it, and one that has nothing to do may go. */
  #onRoom(thread: PoolThread): void {
    this.#dispatch()
    const { idleTimeout, minThreads } = this.options
    const mayGo = (): boolean => thread.tasks.size === 0 && this.threads.size > minThreads
    if (idleTimeout === Infinity || !mayGo()) return
    thread.whenIdle(idleTimeout, () => {
      if (!mayGo() || !this.#forget(thread)) return
      void thread.retire()
      this.#events.emit('workerDestroy', thread.shown)
    })
  }

  // Tasks.

  /** Runs a task; see `Piscina.run`. */
  run(task: unknown, request: TaskRequest): Promise<unknown> {
    const filename = request.filename ?? this.options.filename
    if (filename === null) {
      return Promise.reject(new Error('filename must be provided to run() or in options object'))
    }
    const { signal, transferList } = request
    if (this.#isEnding) return Promise.reject(new AbortError('queue is being terminated'))
    if (signal?.aborted === true) return Promise.reject(new AbortError(signal.reason))
    return new Promise((resolve, reject) => {
      const parts = {
        task,
        transferList,
        filename: filePath(filename),
        name: request.name ?? this.options.name,
        signal,
        triggerAsyncId: this.#events.asyncId,
      }
      const info = new TaskInfo(parts, (isFailed, outcome) => {
        this.#onEnd(info)
        if (isFailed) reject(outcome)
        else resolve(outcome)
      })
      this.#tasks++
      info.onAbort(() => this.#abort(info, signal?.reason))
      this.#submit(info)
      this.#checkDrain()
    })
  }

  #submit(task: TaskInfo): void {
    const { taskQueue, maxQueue } = this.options
    const isNext = this.#waiting === 0
    if (isNext && this.#place(task)) return
    // Each that waits brings a thread, without waiting for the one before it to be ready.
    this.#addThreadIfMay()
    if (this.#waiting < maxQueue + this.#startingCapacity) {
      if (isNext && task.isAbortable) this.#first.push(task)
      else taskQueue.push(task)
    } else if (maxQueue > 0) task.fail(new Error('Task queue is at limit'))
    else task.fail(new Error('No task queue available and all Workers are busy'))
  }

  #dispatch(): void {
    const { taskQueue } = this.options
    while (this.#waiting > 0 && this.#hasRoom) {
      const task = this.#first.shift() ?? (taskQueue.shift() as TaskInfo | null)
      if (task === null || task.isDone) continue
      if (this.#place(task)) continue
      this.#putBack(task)
      this.#addThreadIfMay()
      break
    }
    this.#checkDrain()
  }

  /** A balancer of the user's own may see room where we see none. */
  get #hasRoom(): boolean {
    if (this.options.loadBalancer !== undefined) return true
    return this.#open.some((thread) => thread.usage < this.options.concurrentTasksPerWorker)
  }

  #putBack(task: TaskInfo): void {
    const { taskQueue } = this.options
    if (task.isAbortable) this.#first.unshift(task)
    else if (taskQueue.unshift !== undefined) taskQueue.unshift(task)
    else taskQueue.push(task)
  }

  /** Gives a task to the thread that the balancer chooses; gives whether it chose one. */
  #place(task: TaskInfo): boolean {
    const chosen = this.#balancer(task, this.#shown)
    const thread = this.#open.find(({ shown }) => shown === chosen)
    if (thread === undefined) return false
    const now = performance.now()
    this.waitTimes?.record(now - task.created)
    task.started = now
    thread.post(task)
    return true
  }

  #abort(task: TaskInfo, reason: unknown): void {
    const { holder } = task
    // The caller is told before anything is done that could tell him otherwise.
    task.fail(new AbortError(reason))
    if (holder !== undefined) holder.cancel(task)
    else this.#takeOut(task)
  }

  #takeOut(task: TaskInfo): void {
    const index = this.#first.indexOf(task)
    if (index >= 0) this.#first.splice(index, 1)
    else this.options.taskQueue.remove(task)
  }

  #onEnd(task: TaskInfo): void {
    this.#tasks--
    if (task.started > 0) {
      this.completed++
      this.runTimes?.record(performance.now() - task.started)
    }
    if (this.#tasks === 0) this.#whenEmpty?.()
    queueMicrotask(() => this.#checkDrain())
  }

  #checkDrain(): void {
    let running = 0
    for (const thread of this.#open) running += thread.tasks.size
    if (running >= this.#capacity) {
      this.needsDrain = true
      queueMicrotask(() => this.#events.emit('needsDrain'))
    } else if (this.needsDrain) {
      this.needsDrain = false
      queueMicrotask(() => this.#events.emit('drain'))
    }
  }

  // The end.

  /** Lets tasks end, with `force` only those that run; then ends the threads. */
  async close(force: boolean): Promise<void> {
    this.#isEnding = true
    if (force) this.#rejectWaiting(() => new AbortError('pool is closed'))
    if (!(await this.#isDoneIn(this.options.closeTimeout))) {
      this.#events.emit('error', new Error('Close operation timed out'))
    }
    await this.destroy()
    this.#events.emit('close')
  }

  async #isDoneIn(timeMs: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined
    const isDone = await new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, timeMs, false).unref()
      this.#whenEmpty = () => resolve(true)
      if (this.#tasks === 0) resolve(true)
    })
    clearTimeout(timer)
    return isDone
  }

  /** Rejects all that wait; gives whether anybody did. */
  #rejectWaiting(refusal: () => unknown): boolean {
    const { taskQueue } = this.options
    const waited = this.#waiting > 0
    for (const task of this.#first.splice(0)) task.fail(refusal())
    while (taskQueue.size > 0) (taskQueue.shift() as TaskInfo | null)?.fail(refusal())
    return waited
  }

  /** Ends all threads at once; tasks reject. */
  async destroy(): Promise<void> {
    this.#isEnding = true
    this.#rejectWaiting(endOfThread)
    const ends = [...this.threads].map((thread) => {
      this.#forget(thread)
      const end = thread.destroy(endOfThread())
      this.#events.emit('workerDestroy', thread.shown)
      return end
    })
    await Promise.all(ends)
    this.#isEnding = false
    if (!this.#holdsGround || this.threads.size > 0) return
    this.#holdsGround = false
    await this.#ground.release()
  }
}

/**
 * The scheduler of one CPU: picks the most urgent task, runs it, tells its submitter. Linux
 * `kernel/sched.c` schedule, with its rule that what is more urgent overtakes and what is as urgent
 * waits. A synchronous task cannot be put aside, so what overtakes it runs on top of it, at one of its
 * safepoints.
 */

import { ATTENTION, CPU, HEADER, PRIORITY_COUNT, SCHED, TASK_SLOT } from '../../hardware/layout.ts'
import { add, load, store } from '../../hardware/memory.ts'
import type { FunctionRecord } from '../functions.ts'
import { isThenable } from '../idt.ts'
import type { Kernel } from '../kernel.ts'
import { describeError, runSharedFunction } from '../remote-error.ts'
import { wakeEverybody } from '../robust-lock.ts'
import { TIF } from '../thread-flags.ts'
import { RunQueues, type Claim } from './run-queue.ts'
import { pushTask } from './task-list.ts'
import { TaskValues } from './task-values.ts'
import {
  cpuOf,
  movedTo,
  priorityOf,
  TASK_STATE,
  TASK_STATUS,
  TaskMemory,
  taskState,
} from './task.ts'

/** How long tasks that follow each other keep the event loop of a CPU from turning. */
const TURN_MS = 10

/** Nothing runs: what is on the level of the idle loop. */
const IDLE_LEVEL = -1

/** The executor's half of tasks on one CPU. Private to its thread. */
export class Scheduler {
  readonly #kernel: Kernel
  readonly #tasks: TaskMemory
  readonly #queues: RunQueues
  readonly #values: TaskValues
  readonly #id: number
  readonly #page: number
  /** The priority of what runs, or IDLE_LEVEL. */
  #level = IDLE_LEVEL
  /** What stands in CPU.schedState. */
  #told: number = SCHED.closed
  #isOpen = false
  /** Asynchronous tasks that have begun and not ended. */
  #pending = 0
  /** When the last task ended, on the platform's clock: the next begins then. */
  #clock = 0

  constructor(kernel: Kernel) {
    const { cpu, rescheduler, idle } = kernel
    this.#kernel = kernel
    this.#tasks = new TaskMemory(cpu.memory)
    this.#queues = new RunQueues(this.#tasks)
    this.#values = new TaskValues(this.#tasks, kernel.values)
    this.#id = cpu.id
    this.#page = cpu.page
    rescheduler.onSchedule = () => this.schedule()
    rescheduler.isHookSafe = false
    idle.mayPoll = () => this.#pending === 0
  }

  /** Opens the run queue: from here on others push into it, and this CPU steals from them. */
  open(): void {
    if (this.#isOpen) return
    this.#isOpen = true
    this.#setState(SCHED.idle)
    this.#announceChange()
    // Work may wait for a thief.
    this.#kernel.rescheduler.reschedTask(this.#id)
    this.#kernel.idle.leave()
  }

  /**
   * Closes the run queue: who pushes from now on finds it closed, and moves on. What is in it is moved by
   * those who submitted it, when they hear of the change.
   */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#setState(SCHED.closed)
    this.#announceChange()
  }

  /** Submitters have to look after their tasks. */
  #announceChange(): void {
    const { cpu } = this.#kernel
    add(cpu.memory.words, HEADER.schedulerChanges, 1)
    wakeEverybody(cpu)
  }

  #setState(state: number): void {
    if (this.#told === state) return
    this.#told = state
    store(this.#kernel.cpu.memory.words, this.#page + CPU.schedState, state)
  }

  /**
   * `schedule`: runs what is more urgent than what is running, the most urgent first. On the level of the
   * idle loop that is everything; the event loop gets its turn now and then. Called with interrupts on,
   * NEED_RESCHED cleared.
   */
  schedule(): void {
    if (!this.#isOpen) return
    const { cpu } = this.#kernel
    const level = this.#level
    cpu.localIrqDisable()
    const until = (this.#clock = cpu.platform.now()) + TURN_MS
    for (let task = this.#pick(level); task >= 0; task = this.#pick(level)) {
      this.#run(task)
      this.#level = level
      if (level === IDLE_LEVEL && this.#clock >= until) {
        this.#setState(SCHED.idle)
        cpu.setThreadFlags(TIF.NEED_RESCHED)
        break
      }
    }
    cpu.localIrqEnable()
  }

  /**
   * Claims the most urgent task above `level`, or -1. Before it says that there is none it tells
   * submitters what runs from now on, and then looks once more for sure: whoever pushes does so and then
   * reads CPU.schedState (TaskBook). So either is seen by the other.
   */
  #pick(level: number): number {
    const own = this.#id
    for (let priority = PRIORITY_COUNT - 1; priority > level; priority--) {
      const task = this.#queues.take(own, priority, false, this.#claim)
      if (task >= 0) return task
    }
    this.#setState(level === IDLE_LEVEL ? SCHED.idle : SCHED.running + level)
    for (let priority = PRIORITY_COUNT - 1; priority > level; priority--) {
      const task = this.#queues.take(own, priority, true, this.#claim)
      if (task >= 0) return task
    }
    return level === IDLE_LEVEL ? this.#steal() : -1
  }

  /** Takes a task from another CPU's queue, the most urgent first. */
  #steal(): number {
    const { cpuCount } = this.#tasks.memory
    for (let priority = PRIORITY_COUNT - 1; priority >= 0; priority--) {
      for (let i = 1; i < cpuCount; i++) {
        const victim = (this.#id + i) % cpuCount
        const task = this.#queues.take(victim, priority, false, this.#claim)
        if (task >= 0) return task
      }
    }
    return -1
  }

  readonly #claim: Claim = (task) => {
    const tasks = this.#tasks
    for (;;) {
      const flags = tasks.flags(task)
      switch (taskState(flags)) {
        case TASK_STATE.queued:
          if (!tasks.mayRun(task, flags, this.#id)) return 'not mine'
          // Publishes to whoever buries us that it went down with us.
          if (tasks.change(task, flags, movedTo(flags, TASK_STATE.running, this.#id))) {
            return 'claimed'
          }
          break
        case TASK_STATE.cancelled:
          // Its slot goes home.
          if (tasks.change(task, flags, movedTo(flags, TASK_STATE.done, this.#id))) {
            this.#announce(task)
            return 'over'
          }
          break
        default:
          return 'over'
      }
    }
  }

  /** Runs a claimed task up to its end or its first await. Interrupts are off, but for the task itself. */
  #run(task: number): void {
    const tasks = this.#tasks
    const { cpu, functions } = this.#kernel
    const { words } = tasks
    const at = tasks.at(task)
    const level = priorityOf(words[at + TASK_SLOT.flags]!)
    const low = words[at + TASK_SLOT.function]!
    const high = words[at + TASK_SLOT.function + 1]!
    tasks.times[(at + TASK_SLOT.times) / 2 + 1] = this.#clock
    const record = functions.find(low, high)
    if (record === undefined) {
      return this.#complete(task, TASK_STATUS.unknownFunction, undefined)
    }
    let info: unknown
    try {
      info = this.#values.takeInfo(task)
    } catch (error) {
      return this.#complete(task, TASK_STATUS.lost, error)
    }
    words[this.#page + CPU.currentFunction] = low
    words[this.#page + CPU.currentFunction + 1] = high
    this.#level = level
    this.#setState(SCHED.running + level)
    cpu.localIrqEnable()
    let result: unknown
    let status: number = TASK_STATUS.returned
    try {
      result = runSharedFunction(record.run, info)
    } catch (error) {
      status = TASK_STATUS.threw
      result = error
    }
    cpu.localIrqDisable()
    this.#clock = cpu.platform.now()
    if (status === TASK_STATUS.returned && isThenable(result)) this.#await(task, result, record)
    else this.#complete(task, status, result)
  }

  /** An asynchronous task goes on by its event loop, among others. */
  #await(task: number, result: PromiseLike<unknown>, _record: FunctionRecord): void {
    this.#pending++
    result.then(
      (value) => this.#settle(task, TASK_STATUS.returned, value),
      (error: unknown) => this.#settle(task, TASK_STATUS.threw, error),
    )
  }

  #settle(task: number, status: number, value: unknown): void {
    const { cpu } = this.#kernel
    this.#pending--
    const flags = cpu.localIrqSave()
    this.#clock = cpu.platform.now()
    this.#complete(task, status, value)
    cpu.localIrqRestore(flags)
  }

  /**
   * Writes how a task ended, and tells its submitter. The status and the payload were written before: the
   * compare-and-swap publishes them to whoever loads `done` (TaskBook.takeCompletions).
   */
  #complete(task: number, status: number, value: unknown): void {
    const tasks = this.#tasks
    if (this.#kernel.cpu.isBuried) return
    const at = tasks.at(task)
    tasks.times[(at + TASK_SLOT.times) / 2 + 2] = this.#clock
    this.#answer(task, at, status, value)
    for (;;) {
      const flags = tasks.flags(task)
      // Buried by mistake, or by another of this thread's last acts.
      if (taskState(flags) !== TASK_STATE.running || cpuOf(flags) !== this.#id) return
      if (tasks.change(task, flags, movedTo(flags, TASK_STATE.done, this.#id))) break
    }
    this.#announce(task)
  }

  #answer(task: number, at: number, status: number, value: unknown): void {
    const { words } = this.#tasks
    words[at + TASK_SLOT.status] = status
    if (status === TASK_STATUS.returned) {
      try {
        return this.#values.putResult(task, value)
      } catch (error) {
        words[at + TASK_SLOT.status] = TASK_STATUS.uncloneable
        value = error
      }
    }
    const { platform } = this.#kernel.cpu
    const description =
      value === undefined && status === TASK_STATUS.unknownFunction
        ? undefined
        : describeError(value, (field) => platform.isCloneable(field))
    try {
      this.#values.putResult(task, description)
    } catch {
      // The submitter's thread is gone, and its port with it: nobody will read this.
      this.#values.putResult(task, undefined)
    }
  }

  /** The first on the list tells its owner; whoever finds one on it relies on that. */
  #announce(task: number): void {
    const source = this.#tasks.sourceOf(task)
    if (pushTask(this.#tasks, source, task) !== 'first') return
    this.#kernel.cpu.descriptors[source]!.attend(ATTENTION.tasks)
  }

  /** How many asynchronous tasks have begun here and not ended. */
  get pending(): number {
    return this.#pending
  }

  /** Whether this CPU takes tasks. */
  get isOpen(): boolean {
    return this.#isOpen && load(this.#tasks.words, this.#page + CPU.schedState) !== SCHED.closed
  }
}

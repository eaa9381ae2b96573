/**
 * The scheduler of one CPU: picks the most urgent task and has it run. Linux `kernel/sched.c` schedule,
 * with its rule that what is more urgent overtakes and what is as urgent waits. A synchronous task cannot
 * be put aside, so what overtakes it runs on top of it, at one of its safepoints.
 */

import { CPU, HEADER, PRIORITY_COUNT, SCHED, TASK_SLOT } from '../../hardware/layout.ts'
import { add, store } from '../../hardware/memory.ts'
import type { Kernel } from '../kernel.ts'
import { wakeEverybody } from '../robust-lock.ts'
import type { TaskGuard } from '../task-guard.ts'
import { TIF } from '../thread-flags.ts'
import { Execution } from './execution.ts'
import { RunQueues, type Claim } from './run-queue.ts'
import { TaskValues } from './task-values.ts'
import {
  cpuOf,
  movedTo,
  priorityOf,
  TASK_CONTROL,
  TASK_STATE,
  TaskMemory,
  taskNumber,
  taskState,
} from './task.ts'

/** How long tasks that follow each other keep the event loop of a CPU from turning. */
const TURN_MS = 10
/** What has waited so long for each level above its own comes before its turn, one of so many picks. */
const AGE_MS = 1000
const AGE_MASK = 15
/** Nothing runs: what is on the level of the idle loop. */
const IDLE_LEVEL = -1

/** Tasks of one CPU. Private to its thread. */
export class Scheduler {
  readonly #kernel: Kernel
  readonly #tasks: TaskMemory
  readonly #queues: RunQueues
  readonly #id: number
  readonly #page: number
  /** What runs a task that was picked. */
  readonly execution: Execution
  /** The priority of what runs, or IDLE_LEVEL. */
  #level = IDLE_LEVEL
  /** What stands in CPU.schedState. */
  #told: number = SCHED.closed
  #isOpen = false
  /** Picked, and not run yet. */
  #next = -1
  /** Generators that have yielded, by priority, and whether their turn comes before the queue's. */
  readonly #yielded: number[][] = Array.from({ length: PRIORITY_COUNT }, () => [])
  readonly #yieldedFirst: boolean[] = Array.from({ length: PRIORITY_COUNT }, () => false)
  /** What tasks that can be aborted run in; made when there is one. */
  #guard: TaskGuard | undefined
  #guardIsLoading = false
  #picks = 0
  /** There is none to be had. */
  #isGuardless = false
  /** Claimed tasks that wait for the guard. */
  readonly #unguarded: number[] = []

  constructor(kernel: Kernel) {
    const { cpu, rescheduler, idle } = kernel
    this.#kernel = kernel
    this.#tasks = new TaskMemory(cpu.memory)
    this.#queues = new RunQueues(this.#tasks)
    this.execution = new Execution(kernel, this.#tasks, new TaskValues(this.#tasks, kernel.values))
    this.execution.onYield = (task, level) => void this.#yielded[level]!.push(task)
    this.#id = cpu.id
    this.#page = cpu.page
    rescheduler.onSchedule = () => this.schedule()
    rescheduler.isHookSafe = () => this.#isSafe()
    idle.mayPoll = () => this.execution.asyncCount === 0 && this.#unguarded.length === 0
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
   * those who submitted it, when they hear of the change. What has begun goes on to its end.
   */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#setState(SCHED.closed)
    this.#announceChange()
  }

  /** How many tasks have begun here and not ended. */
  get begun(): number {
    return this.execution.pending + this.execution.depth + this.#unguarded.length
  }

  /** Submitters have to look after their tasks. */
  #announceChange(): void {
    const { cpu } = this.#kernel
    add(cpu.memory.words, HEADER.schedulerChanges, 1)
    wakeEverybody(cpu)
  }

  #setState(wanted: number): void {
    const state = this.#isOpen ? wanted : SCHED.closed
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
    const { cpu } = this.#kernel
    const level = this.#level
    cpu.localIrqDisable()
    const until = (this.execution.clock = cpu.platform.now()) + TURN_MS
    this.#next = this.#pick(level)
    while (this.#next >= 0) {
      if (this.#guard !== undefined && this.#isAbortable(this.#next)) {
        this.#drainGuarded(this.#guard, level, until)
      } else {
        this.#drain(level, until, false)
      }
    }
    cpu.localIrqEnable()
  }

  /** What can be aborted runs in a guard, and what follows it too: a guard costs more than a task. */
  #drainGuarded(guard: TaskGuard, level: number, until: number): void {
    const { depth } = this.execution
    guard.run(
      () => this.#drain(level, until, true),
      ({ isSafe }) => {
        this.execution.aborted(depth, isSafe)
        this.#leave(level, until)
      },
    )
  }

  #drain(level: number, until: number, guarded: boolean): void {
    while (this.#next >= 0) {
      const task = this.#next
      if (!guarded && this.#isAbortable(task)) {
        if (this.#guard !== undefined) return
        this.#awaitGuard(task)
      } else {
        this.#next = -1
        this.#run(task)
      }
      this.#leave(level, until)
    }
  }

  /** A task has ended, or was put aside: what is next on this level? */
  #leave(level: number, until: number): void {
    this.#level = level
    if (level === IDLE_LEVEL && this.execution.clock >= until) {
      this.#next = -1
      this.#setState(SCHED.idle)
      this.#kernel.cpu.setThreadFlags(TIF.NEED_RESCHED)
    } else {
      this.#next = this.#pick(level)
    }
  }

  #run(task: number): void {
    const flags = this.#tasks.flags(task)
    this.#level = priorityOf(flags)
    this.#setState(SCHED.running + this.#level)
    const guard = this.#guard
    // Whoever is in front of a task that may be aborted must be known: it is not meant.
    if (guard === undefined || (this.execution.depth === 0 && !this.#isAbortable(task))) {
      this.execution.run(task)
      return
    }
    guard.enter(taskNumber(task, flags))
    this.execution.run(task)
    guard.leave()
  }

  /** Whether it runs in a guard. Not below a forced entry: guards are the inspector's, and so is that. */
  #isAbortable(task: number): boolean {
    if (this.#isGuardless || this.#kernel.cpu.core.isForced) return false
    const control = this.#tasks.words[this.#tasks.at(task) + TASK_SLOT.control]!
    return (control & TASK_CONTROL.abortable) !== 0
  }

  /** The first that can be aborted has the guard loaded, and waits for it. */
  #awaitGuard(task: number): void {
    this.#unguarded.push(task)
    if (this.#guardIsLoading) return
    this.#guardIsLoading = true
    const goOn = (): void => {
      for (const waiting of this.#unguarded.splice(0)) {
        this.#yielded[priorityOf(this.#tasks.flags(waiting))]!.push(waiting)
      }
      this.#kernel.rescheduler.kick(this.#id)
      this.#kernel.idle.leave()
    }
    this.#kernel.sched.guardTasks().then(
      (guard) => {
        this.#guard = guard
        goOn()
      },
      (error: unknown) => {
        this.#isGuardless = true
        this.#kernel.cpu.platform.warn(`interprocessor: tasks cannot be aborted: ${String(error)}`)
        goOn()
      },
    )
  }

  /**
   * Claims the most urgent task above `level`, or -1. Before it says that there is none it tells
   * submitters what runs from now on, and then looks once more for sure: whoever pushes does so and then
   * reads CPU.schedState (TaskBook). So either is seen by the other.
   */
  #pick(level: number): number {
    if (level === IDLE_LEVEL && (++this.#picks & AGE_MASK) === 0) {
      const task = this.#takeAged()
      if (task >= 0) return task
    }
    for (let priority = PRIORITY_COUNT - 1; priority > level; priority--) {
      const task = this.#takeOwn(priority)
      if (task >= 0) return task
    }
    this.#setState(level === IDLE_LEVEL ? SCHED.idle : SCHED.running + level)
    if (!this.#isOpen) return -1
    for (let priority = PRIORITY_COUNT - 1; priority > level; priority--) {
      const task = this.#queues.take(this.#id, priority, true, this.#claim)
      if (task >= 0) return task
    }
    return level === IDLE_LEVEL ? this.#steal() : -1
  }

  /** What has waited long enough is as urgent as anything: nothing starves. */
  #takeAged(): number {
    for (let priority = 0; priority < PRIORITY_COUNT - 1; priority++) {
      const task = this.#queues.first(this.#id, priority)
      if (task < 0) continue
      const submittedAt = this.#tasks.times[(this.#tasks.at(task) + TASK_SLOT.times) / 2]!
      const ageMs = AGE_MS * (PRIORITY_COUNT - 1 - priority)
      if (this.execution.clock - submittedAt > ageMs) return this.#takeNew(priority)
    }
    return -1
  }

  /** Generators that have yielded and tasks that have not begun take turns. */
  #takeOwn(priority: number): number {
    const yielded = this.#yielded[priority]!
    if (yielded.length === 0 || this.#kernel.cpu.core.isForced) return this.#takeNew(priority)
    const yieldedFirst = (this.#yieldedFirst[priority] = !this.#yieldedFirst[priority])
    const task = yieldedFirst ? -1 : this.#takeNew(priority)
    return task >= 0 ? task : yielded.shift()!
  }

  #takeNew(priority: number): number {
    return this.#isOpen ? this.#queues.take(this.#id, priority, false, this.#claim) : -1
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

  readonly #claim: Claim = (task, cpu) => {
    const tasks = this.#tasks
    for (;;) {
      const flags = tasks.flags(task)
      // What was taken back stands elsewhere now. It must not keep those behind it waiting.
      if (cpuOf(flags) !== cpu) return 'over'
      switch (taskState(flags)) {
        case TASK_STATE.queued:
          if (!tasks.mayRun(task, flags, this.#id) || !this.#mayRunHere(task)) return 'not mine'
          if (!this.#mayBegin(task, flags)) return 'not mine'
          // Publishes to whoever buries us that it went down with us.
          if (tasks.change(task, flags, movedTo(flags, TASK_STATE.running, this.#id))) {
            return 'claimed'
          }
          break
        case TASK_STATE.cancelled:
          // Its argument may have come here, and only here.
          if (!tasks.mayRun(task, flags, this.#id)) return 'not mine'
          // Its slot goes home.
          if (tasks.change(task, flags, movedTo(flags, TASK_STATE.done, this.#id))) {
            this.execution.drop(task)
            return 'over'
          }
          break
        default:
          return 'over'
      }
    }
  }

  /** Whether so few have begun here and not ended, of those that are as urgent, that one more may begin. */
  #mayBegin(task: number, flags: number): boolean {
    const control = this.#tasks.words[this.#tasks.at(task) + TASK_SLOT.control]!
    const limit = control >>> TASK_CONTROL.limitShift
    if (limit === 0 || this.execution.begunFrom(priorityOf(flags)) < limit) return true
    this.execution.isHeldBack = true
    return false
  }

  /** Below a forced entry, in the middle of other JavaScript, only what its author has declared safe. */
  #mayRunHere(task: number): boolean {
    if (!this.#kernel.cpu.core.isForced) return true
    const { words } = this.#tasks
    const at = this.#tasks.at(task) + TASK_SLOT.function
    return this.#kernel.functions.find(words[at]!, words[at + 1]!)?.interruptSafe === true
  }

  /** Whether a forced entry would find something that may run there: the most urgent decides. */
  #isSafe(): boolean {
    for (let priority = PRIORITY_COUNT - 1; priority > this.#level; priority--) {
      const task = this.#queues.first(this.#id, priority)
      if (task < 0) continue
      const { words } = this.#tasks
      const at = this.#tasks.at(task) + TASK_SLOT.function
      return this.#kernel.functions.find(words[at]!, words[at + 1]!)?.interruptSafe === true
    }
    return false
  }
}

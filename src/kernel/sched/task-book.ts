/**
 * The submitter's book of tasks: which slots are out, who waits for a slot, what came back. The private
 * half of Linux `kernel/sched.c` try_to_wake_up, and of everybody who waits for what was woken.
 */

import { MASK_WORDS } from '../../base/cpu-mask.ts'
import { CPU, CPU_STATE, PRIORITY_COUNT, SCHED, TASK_SLOT } from '../../hardware/layout.ts'
import { store } from '../../hardware/memory.ts'
import type { Timer } from '../../hardware/platform.ts'
import type { Kernel } from '../kernel.ts'
import { noCpu, Placement } from './placement.ts'
import { Reports } from './reports.ts'
import { RunQueues } from './run-queue.ts'
import { TaskLine, type Task } from './submission.ts'
import { askTaskToEnd, type RunningAt } from './task-control.ts'
import { takeTasks, tasksOldestFirst } from './task-list.ts'
import { TaskValues } from './task-values.ts'
import { cpuOf, movedTo, TASK_FLAG, TASK_STATE, TaskMemory, taskState } from './task.ts'

/** The part of the slots, as a divisor, that is kept for what is more urgent than `normal`. */
const RESERVE = 8
/** How long to wait for a place in a ring that others have filled. */
const RETRY_MS = 1

/** The tasks of one CPU that are out or wait to be. Private to its thread. */
export class TaskBook {
  readonly #kernel: Kernel
  readonly #tasks: TaskMemory
  readonly #queues: RunQueues
  readonly #values: TaskValues
  readonly #first: number
  readonly #free: number[] = []
  readonly #reserve: number
  /** What is out, by slot. An earlier life's tasks are out and nobody's. */
  readonly #out: (Task | undefined)[]
  readonly #placement: Placement
  /** What waits for a slot: by priority, in order. */
  readonly #waiting = Array.from({ length: PRIORITY_COUNT }, () => new TaskLine())
  /** What waits for a CPU that may run it. */
  #homeless: Task[] = []
  #ticket = 0
  /** How many have been submitted and not settled. */
  #open = 0
  #retry: Timer | undefined
  readonly #reports: Reports

  constructor(kernel: Kernel) {
    const { memory, id } = kernel.cpu
    this.#kernel = kernel
    this.#tasks = new TaskMemory(memory)
    this.#queues = new RunQueues(this.#tasks)
    this.#values = new TaskValues(this.#tasks, kernel.values)
    this.#first = this.#tasks.firstOf(id)
    this.#out = Array.from({ length: memory.taskCount }, () => undefined)
    this.#placement = new Placement(memory)
    this.#reports = new Reports(memory, this.#values)
    this.#reserve = Math.floor(memory.taskCount / RESERVE)
    for (let i = memory.taskCount - 1; i >= 0; i--) this.#inherit(this.#first + i)
    this.#closeTaken()
  }

  /** An earlier life of this CPU may have left a task behind, and somebody may yet run it. */
  #inherit(task: number): void {
    const flags = this.#tasks.flags(task)
    if (taskState(flags) === TASK_STATE.free) this.#free.push(task)
    else if (taskState(flags) === TASK_STATE.queued) {
      // Nobody wants to know. If it is claimed at this moment, it comes home when it has ended.
      this.#tasks.change(task, flags, movedTo(flags, TASK_STATE.cancelled, cpuOf(flags)))
    }
  }

  /** How many tasks have been submitted and not settled. */
  get openCount(): number {
    return this.#open
  }

  /** How many wait for a slot, or for a CPU that may run them. */
  get waitingCount(): number {
    return this.#waiting.reduce((sum, line) => sum + line.length, this.#homeless.length)
  }

  /** Hands a task over, or lets it wait for a slot. It is settled through its `owner`. */
  submit(task: Task): void {
    if (this.#open++ === 0) this.#kernel.waits.hold()
    task.submittedAt = this.#kernel.cpu.platform.now()
    const line = this.#waiting[task.priority]!
    if (line.isEmpty && this.#hasRoom(task.priority)) this.#place(task)
    else line.push(task)
  }

  #hasRoom(priority: number): boolean {
    return this.#free.length > (priority > 1 ? 0 : this.#reserve)
  }

  /**
   * Puts a task into a run queue, or among the homeless if no CPU may run it. A slot is free. Interrupts are
   * off all the while: see TaskValues, and whoever opens a queue then tells us to look at the homeless.
   */
  #place(task: Task): void {
    const { cpu } = this.#kernel
    const flags = cpu.localIrqSave()
    for (;;) {
      const target = this.#placement.choose(task.mask, false)
      const sure = target < 0 ? this.#placement.choose(task.mask, true) : target
      if (sure < 0) this.#keepHomeless(task)
      if (sure < 0 || this.#fill(task, sure)) break
    }
    cpu.localIrqRestore(flags)
  }

  /** Nobody takes it now. It waits for a CPU that comes up, or for its scheduler; else it fails. */
  #keepHomeless(task: Task): void {
    if (this.#placement.mayCome(task.mask)) {
      this.#homeless.push(task)
      return
    }
    this.#end(task)
    task.owner.fail(task, noCpu(task))
  }

  /** Fills a slot and pushes it. Gives false if that CPU has closed its queue: then it is in no slot. */
  #fill(task: Task, cpu: number): boolean {
    const tasks = this.#tasks
    const { words } = tasks
    const id = this.#free.pop()!
    const at = tasks.at(id)
    const { record, mask } = task
    words[at + TASK_SLOT.function] = record.id.low
    words[at + TASK_SLOT.function + 1] = record.id.high
    words[at + TASK_SLOT.ticket] = this.#ticket = (this.#ticket + 1) | 0
    if (task.onReport !== undefined) this.#reports.expect(this.#ticket, task.onReport)
    words[at + TASK_SLOT.control] = task.control
    tasks.times[(at + TASK_SLOT.times) / 2] = task.submittedAt
    let affine = mask
    if (!this.#values.encode(id, task.info) || task.transfer.length > 0) {
      // Only the CPU that gets the message can run it.
      try {
        this.#values.sendInfo(id, cpu, task.info, task.transfer)
      } catch (error) {
        this.#free.push(id)
        this.#end(task)
        task.owner.fail(task, error)
        return true
      }
      affine = task.pinTo(cpu)
    }
    if (affine !== undefined) {
      for (let i = 0; i < MASK_WORDS; i++) words[at + TASK_SLOT.affinity + i] = affine.word(i)
    }
    const sequence = (words[at + TASK_SLOT.flags]! >>> TASK_FLAG.sequenceShift) + 1
    store(
      words,
      at + TASK_SLOT.flags,
      (sequence << TASK_FLAG.sequenceShift) |
        (cpu << TASK_FLAG.cpuShift) |
        (task.priority << TASK_FLAG.priorityShift) |
        (affine === undefined ? 0 : TASK_FLAG.affine) |
        TASK_STATE.queued,
    )
    task.id = id
    task.cpu = cpu
    this.#out[id - this.#first] = task
    this.#placement.add(cpu)
    return this.#push(task, id, cpu)
  }

  /**
   * `try_to_wake_up`: pushes, then looks what the target does. Its partner tells what it does, then looks
   * into its queue (Scheduler.#pick), so either it finds the task or we find it idle.
   */
  #push(task: Task, id: number, cpu: number): boolean {
    if (this.#queues.push(cpu, task.priority, id) === 'full') {
      this.#takeBack(task)
      this.#waiting[task.priority]!.push(task)
      this.#tryLater()
      return true
    }
    const state = this.#tasks.schedState(cpu)
    // Claimed all the same, it runs; else it is ours again.
    if (state === SCHED.closed) return !this.#takeBack(task)
    if (state < SCHED.running + task.priority) this.#kernel.rescheduler.kick(cpu)
    return true
  }

  /** Takes a queued task back out of its slot; gives whether nobody had claimed it. */
  #takeBack(task: Task): boolean {
    const { id } = task
    const flags = this.#tasks.flags(id)
    if (taskState(flags) !== TASK_STATE.queued) return false
    if (!this.#tasks.change(id, flags, movedTo(flags, TASK_STATE.free, 0))) return false
    this.#forget(task)
    this.#free.push(id)
    return true
  }

  #forget(task: Task): void {
    if (task.onReport !== undefined) {
      this.#reports.forget(this.#tasks.words[this.#tasks.at(task.id) + TASK_SLOT.ticket]!)
    }
    this.#out[task.id - this.#first] = undefined
    this.#placement.remove(task.cpu)
    task.id = -1
  }

  /** A ring is full of the tasks of others: nobody tells us when it is not. */
  #tryLater(): void {
    this.#retry ??= this.#kernel.cpu.platform.startTimer(RETRY_MS, () => {
      this.#retry = undefined
      this.#handOver()
    })
  }

  /** ATTENTION.tasks: takes the list of completed tasks and settles them. */
  takeCompletions(): void {
    const { words, memory } = this.#tasks
    const { id } = this.#kernel.cpu
    // Noted before anything else is called: if this thread ends here, its next life goes on.
    words[memory.cpuPage(id) + CPU.tasksTaken] = takeTasks(this.#tasks, id)
    // What a task reports is sent before its end is announced, so it is here before that.
    this.#reports.take()
    this.#closeTaken()
    this.#handOver()
    if (this.#open > 0) this.#kernel.idle.expectAnswer()
  }

  #closeTaken(): void {
    const { words } = this.#tasks
    const taken = this.#kernel.cpu.page + CPU.tasksTaken
    const done: number[] = []
    tasksOldestFirst(this.#tasks, words[taken]!, done)
    for (const id of done) this.#close(id)
    words[taken] = 0
  }

  /**
   * A task has ended. Loading `done` from its flags orders everything that its executor wrote before it
   * (Scheduler.#complete).
   */
  #close(id: number): void {
    const tasks = this.#tasks
    const task = this.#out[id - this.#first]
    const flags = tasks.flags(id)
    if (task === undefined) {
      this.#release(id, flags)
      return
    }
    const at = tasks.at(id)
    const { words } = tasks
    task.status = words[at + TASK_SLOT.status]!
    task.ranOn = cpuOf(flags)
    task.startedAt = tasks.times[(at + TASK_SLOT.times) / 2 + 1]!
    task.endedAt = tasks.times[(at + TASK_SLOT.times) / 2 + 2]!
    let value: unknown
    let lost: unknown
    try {
      value = this.#values.takeResult(id, flags)
    } catch (error) {
      lost = error
    }
    this.#forget(task)
    this.#release(id, flags)
    this.#end(task)
    if (lost === undefined) task.owner.settle(task, value)
    else task.owner.fail(task, lost)
  }

  #release(id: number, flags: number): void {
    if (taskState(flags) === TASK_STATE.free) return
    store(
      this.#tasks.words,
      this.#tasks.at(id) + TASK_SLOT.flags,
      flags & (-1 << TASK_FLAG.sequenceShift),
    )
    this.#free.push(id)
  }

  #end(task: Task): void {
    task.isOver = true
    if (task.watch !== undefined) task.watch.resume()
    if (task.overdue !== undefined) this.#kernel.escalation.forget(task.overdue)
    if (--this.#open === 0) this.#kernel.waits.release()
  }

  /** Hands over what has waited, as far as there are slots. */
  #handOver(): void {
    for (let priority = PRIORITY_COUNT - 1; priority >= 0; priority--) {
      const line = this.#waiting[priority]!
      while (this.#hasRoom(priority) && this.#retry === undefined) {
        const task = line.shift()
        if (task === undefined) break
        this.#place(task)
      }
    }
  }

  /**
   * Gives up on a task. Gives whether it will not run: it waited, or nobody had claimed it. What runs
   * goes on.
   */
  withdraw(task: Task): boolean {
    if (task.isOver) return false
    if (task.id < 0) {
      this.#end(task)
      return true
    }
    for (;;) {
      const flags = this.#tasks.flags(task.id)
      if (taskState(flags) !== TASK_STATE.queued) return false
      const next = movedTo(flags, TASK_STATE.cancelled, cpuOf(flags))
      if (!this.#tasks.change(task.id, flags, next)) continue
      // Its slot comes home when somebody finds it in the queue.
      this.#forget(task)
      this.#end(task)
      return true
    }
  }

  /** Asks a running task to end; see task-control.ts. */
  askToEnd(task: Task): RunningAt | undefined {
    return askTaskToEnd(this.#kernel, this.#tasks, task)
  }

  /** Waits no longer for a task that does not end. Its slot comes home when it does. */
  abandon(task: Task): void {
    if (task.isOver) return
    this.#forget(task)
    this.#end(task)
  }

  /** Whether nobody has begun a task. */
  isWaiting(task: Task): boolean {
    return task.id < 0 ? !task.isOver : taskState(this.#tasks.flags(task.id)) === TASK_STATE.queued
  }

  /** Run queues were opened or closed, or somebody was buried: looks after everything that is out. */
  sweep(): void {
    this.#placement.refresh()
    this.takeCompletions()
    const flags = this.#kernel.cpu.localIrqSave()
    for (let i = 0; i < this.#out.length; i++) this.#lookAfter(this.#first + i)
    this.#kernel.cpu.localIrqRestore(flags)
    for (const task of this.#homeless.splice(0)) {
      if (!task.isOver) this.#waiting[task.priority]!.push(task)
    }
    this.#handOver()
  }

  #lookAfter(id: number): void {
    const flags = this.#tasks.flags(id)
    const task = this.#out[id - this.#first]
    switch (taskState(flags)) {
      case TASK_STATE.died:
        if (task === undefined) return this.#release(id, flags)
        this.#forget(task)
        this.#release(id, flags)
        this.#end(task)
        return task.owner.died(task, cpuOf(flags))
      case TASK_STATE.done:
        // What its executor had announced is off the list by now: this it had not.
        if ((flags & TASK_FLAG.orphaned) !== 0) this.#close(id)
        return
      case TASK_STATE.queued:
        if (task !== undefined && this.#isClosed(cpuOf(flags))) this.#move(task)
        return
      case TASK_STATE.cancelled:
        if (this.#isClosed(cpuOf(flags))) this.#release(id, flags)
        return
      default:
    }
  }

  #isClosed(cpu: number): boolean {
    return (
      this.#tasks.schedState(cpu) === SCHED.closed ||
      this.#tasks.memory.readCpu(cpu, CPU.state) === CPU_STATE.dead
    )
  }

  /** Its queue is closed: another CPU gets it, in its turn. */
  #move(task: Task): void {
    if (!this.#takeBack(task)) return
    this.#waiting[task.priority]!.push(task)
  }
}

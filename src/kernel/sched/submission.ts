/** A task as its submitter keeps it, and who hears how it ends. */

import type { BagMember } from '../../base/bag.ts'
import { CpuMask } from '../../base/cpu-mask.ts'
import type { Overdue } from '../escalation.ts'
import type { FunctionRecord } from '../functions.ts'
import type { SuspendedWait } from '../suspended-wait.ts'

/** Who submitted a task. Called in interrupt context: promises are settled, nothing else is run. */
export interface TaskOwner {
  /** It has ended: `task.status` says how, with what it returned, or what describes its error. */
  settle(task: Task, value: unknown): void
  /** It failed on this side of the threads. */
  fail(task: Task, error: unknown): void
  /** The CPU that ran it is gone. */
  died(task: Task, cpu: number): void
}

/** One task, from its submission to its end. */
export class Task implements BagMember {
  /** Its place among those of its owner. */
  place = -1
  readonly owner: TaskOwner
  readonly record: FunctionRecord
  readonly info: unknown
  readonly priority: number
  /** The CPUs that may run it; undefined: all that take tasks, but the boot CPU. */
  readonly mask: CpuMask | undefined
  readonly transfer: readonly unknown[]
  /** What its executor must know of it: the bits of TASK_CONTROL that its submitter sets. */
  control = 0
  /** Whether its owner has kept it back yet. */
  isHeld = false
  /** Told what it reports of itself. */
  onReport: ((value: unknown) => void) | undefined
  /** Ends when it does: its deadline, its signal. */
  watch: SuspendedWait | undefined
  /** Ends when it does: entered by force, if its CPU does not come to it. */
  overdue: Overdue | undefined
  /** Why it shall end, if it shall. */
  cancelled: { readonly reason: unknown; readonly timedOut: boolean } | undefined
  resolve!: (value: unknown) => void
  reject!: (error: unknown) => void
  /** Its slot, or -1 while it waits for one and when it has ended. */
  id = -1
  /** The CPU in whose queue it was put. */
  cpu = -1
  isOver = false
  status = 0
  /** The CPU that ran it. */
  ranOn = -1
  /** On the platform's clock, in milliseconds. */
  submittedAt = 0
  startedAt = 0
  endedAt = 0

  constructor(
    owner: TaskOwner,
    record: FunctionRecord,
    info: unknown,
    priority: number,
    mask: CpuMask | undefined,
    transfer: readonly unknown[],
  ) {
    this.owner = owner
    this.record = record
    this.info = info
    this.priority = priority
    this.mask = mask
    this.transfer = transfer
  }

  /** The mask of the one CPU that its argument was sent to. */
  pinTo(cpu: number): CpuMask {
    return CpuMask.of(cpu)
  }
}

/** How many served places at the head of a line are kept before they are dropped together. */
const SERVED_MAX = 1024

/** Tasks that wait, first come, first served; those that gave up are passed over. */
export class TaskLine {
  #tasks: Task[] = []
  #head = 0

  /** Appends a task. */
  push(task: Task): void {
    this.#tasks.push(task)
  }

  /** Takes the first that still waits. */
  shift(): Task | undefined {
    if (this.isEmpty) return undefined
    const task = this.#tasks[this.#head++]
    if (this.#head > SERVED_MAX) {
      this.#tasks = this.#tasks.slice(this.#head)
      this.#head = 0
    }
    return task
  }

  /** Whether nobody waits. */
  get isEmpty(): boolean {
    while (this.#tasks[this.#head]?.isOver === true) this.#head++
    return this.#head === this.#tasks.length
  }

  /** How many stand in it, some of which may have given up. */
  get length(): number {
    return this.#tasks.length - this.#head
  }
}

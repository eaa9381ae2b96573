/** Asking a running task to end, from its submitter's side. */

import { ATTENTION, CPU, TASK_SLOT } from '../../hardware/layout.ts'
import { or } from '../../hardware/memory.ts'
import type { Kernel } from '../kernel.ts'
import { askToEnd, findTask } from '../task-words.ts'
import { TIF } from '../thread-flags.ts'
import type { Task } from './submission.ts'
import { cpuOf, TASK_CONTROL, TASK_STATE, taskNumber, taskState, type TaskMemory } from './task.ts'

/** Where a task runs. */
export interface RunningAt {
  readonly cpu: number
  /** The number by which an abort knows it. */
  readonly number: number
  /** Whether it has asked for itself, and so may know how to end. */
  readonly isCooperative: boolean
}

/**
 * Sets its signal and has its next safepoint throw. Gives where it runs; undefined if it has not begun, or
 * has ended.
 */
export function askTaskToEnd(kernel: Kernel, tasks: TaskMemory, task: Task): RunningAt | undefined {
  if (task.id < 0) return undefined
  const { words, memory } = tasks
  const flags = tasks.flags(task.id)
  if (taskState(flags) !== TASK_STATE.running) return undefined
  const control = or(words, tasks.at(task.id) + TASK_SLOT.control, TASK_CONTROL.cancel)
  const cpu = cpuOf(flags)
  const number = taskNumber(task.id, flags)
  const record = findTask(memory, cpu, number)
  if (record >= 0 && askToEnd(memory, record, number)) {
    // After the state: the owner takes the mark back and then looks at the states.
    or(words, memory.cpuPage(cpu) + CPU.threadFlags, TIF.SIGPENDING)
  }
  kernel.cpu.descriptors[cpu]!.attend(ATTENTION.tasks)
  return { cpu, number, isCooperative: (control & TASK_CONTROL.cooperative) !== 0 }
}

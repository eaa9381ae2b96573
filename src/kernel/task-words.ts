/**
 * The shared words of a task that can be aborted: who may change which, and when. One word says which
 * task runs and whether it shall end, so nobody can ask for the end of one and hit another.
 *
 *                 enter                 asked for                   entered, in a place where it can be
 *      0 -----------------> running -----------------> asked -----------------------------> aborting
 *      ^                       | leave                   | leave                                |
 *      +-----------------------+<------------------------+<-------------------------------------+
 *                                                                 the guard, once it is unwound
 *
 * From aborting it comes back to asked if another forced entry finds it where it must not be torn: the
 * engine was late, or its termination has hit nothing but an entry.
 *
 * Only running -> asked is done by others. Whoever asks learns from `end` what came of it, which is
 * written before the task leaves; its lock keeps `end` as it is until it has been read.
 */

import { CPU, TASK, TASK_LEVELS, TASK_WORDS } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { compareExchange, load } from '../hardware/memory.ts'

/** The state of a task, in the low bits of its word; above it the task's number. */
export const TASK_STATE = { running: 1, asked: 2, aborting: 3 } as const
/** How a task ended that was asked to, in the low bits of `end`; above it the task's number. */
export const TASK_END = { finished: 1, aborted: 2, unsafe: 3 } as const
/** What `check` asks of the owner: to abort in the task's own code, or in the environment's as well … */
export const CHECK_AT = { task: 1, environment: 2 } as const
/** … and what the owner answers: why it did not. */
export const CHECK_FOUND = { environment: 4, library: 5, behind: 6 } as const

const SHIFT = 2
const LOW_BITS = 3

/** The highest number that a task can have; the lowest is 1. */
export const TASK_NUMBER_MAX = 2 ** 29 - 1

/** A word of a task and one of the states or ends above. */
export function taskWord(task: number, low: number): number {
  return (task << SHIFT) | low
}

/** The task of such a word, 0 none. */
export function taskOf(word: number): number {
  return word >> SHIFT
}

/** The low bits of such a word. */
export function lowBits(word: number): number {
  return word & LOW_BITS
}

/** Where the record of a task stands: level 0 is the outermost. */
export function taskRecord(memory: MachineMemory, cpu: number, level: number): number {
  return memory.cpuPage(cpu) + CPU.tasks + level * TASK_WORDS
}

/** The record of a task that runs, or ran last of those that were asked to end; or -1. */
export function findTask(memory: MachineMemory, cpu: number, task: number): number {
  const { words } = memory
  let ended = -1
  for (let level = 0; level < TASK_LEVELS; level++) {
    const record = taskRecord(memory, cpu, level)
    if (taskOf(load(words, record + TASK.task)) === task) return record
    if (taskOf(load(words, record + TASK.end)) === task) ended = record
  }
  return ended
}

/** Asks a running task to end; gives whether it has not ended yet. */
export function askToEnd(memory: MachineMemory, record: number, task: number): boolean {
  const at = record + TASK.task
  const running = taskWord(task, TASK_STATE.running)
  // Pairs with TaskGuard.leave: one of the two compare-and-swaps finds that it came second.
  const found = compareExchange(memory.words, at, running, taskWord(task, TASK_STATE.asked))
  return taskOf(found) === task
}

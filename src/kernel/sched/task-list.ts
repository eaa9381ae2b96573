/** The list of completed tasks of one CPU: as kernel/request.ts has it for requests. */

import { CPU, TASK_SLOT } from '../../hardware/layout.ts'
import { compareExchange, exchange } from '../../hardware/memory.ts'
import type { TaskMemory } from './task.ts'

/**
 * Pushes a completed task onto its submitter's list; 'first' means that the list was empty, and that
 * the caller must tell.
 */
export function pushTask(tasks: TaskMemory, source: number, task: number): 'first' | 'more' {
  const { words, memory } = tasks
  const head = memory.cpuPage(source) + CPU.taskCompletions
  const next = tasks.at(task) + TASK_SLOT.next
  let expected = words[head]!
  for (;;) {
    words[next] = expected
    const found = compareExchange(words, head, expected, task + 1)
    if (found === expected) return expected === 0 ? 'first' : 'more'
    expected = found
  }
}

/** Takes the whole list of a CPU, for `tasksOldestFirst`. Its owner only. */
export function takeTasks(tasks: TaskMemory, cpu: number): number {
  return exchange(tasks.words, tasks.memory.cpuPage(cpu) + CPU.taskCompletions, 0)
}

/** The tasks of a taken list, oldest first. All links are read at once. */
export function tasksOldestFirst(tasks: TaskMemory, first: number, into: number[]): void {
  const { words } = tasks
  for (let link = first; link > 0; link = words[tasks.at(link - 1) + TASK_SLOT.next]!) {
    into.push(link - 1)
  }
  into.reverse()
}

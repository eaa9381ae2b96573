/** Tasks of a CPU whose thread is gone. Part of kernel/death.ts, loaded by every thread. */

import { HEADER } from '../../hardware/layout.ts'
import { load } from '../../hardware/memory.ts'
import type { MachineMemory } from '../../hardware/machine-memory.ts'
import { cpuOf, movedTo, TASK_FLAG, TASK_STATE, TaskMemory, taskState } from './task.ts'

/**
 * What `dead` ran has died; what it had completed is marked, for it may not have lived to put it on its
 * submitter's list. The submitters look for both when they hear of the burial (TaskBook.sweep). What
 * stands in its queue they move to others. Each step is a compare-and-swap, so several may do this at
 * once.
 */
export function buryTasksOf(memory: MachineMemory, dead: number): void {
  if (load(memory.words, HEADER.schedulerWanted) === 0) return
  const tasks = new TaskMemory(memory)
  const count = memory.cpuCount * memory.taskCount
  for (let task = 0; task < count; task++) {
    for (;;) {
      const flags = tasks.flags(task)
      const next = fate(flags)
      if (cpuOf(flags) !== dead || next === flags || tasks.change(task, flags, next)) break
    }
  }
}

function fate(flags: number): number {
  switch (taskState(flags)) {
    case TASK_STATE.running:
      return movedTo(flags, TASK_STATE.died, cpuOf(flags))
    case TASK_STATE.done:
      return flags | TASK_FLAG.orphaned
    default:
      return flags
  }
}

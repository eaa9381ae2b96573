/** Which CPU gets a task, as its submitter sees them. Linux `kernel/sched.c`, select_task_rq. */

import type { CpuMask } from '../../base/cpu-mask.ts'
import { IpiError } from '../../base/errors.ts'
import { CPU, CPU_STATE, HEADER, SCHED } from '../../hardware/layout.ts'
import type { MachineMemory } from '../../hardware/machine-memory.ts'
import { load } from '../../hardware/memory.ts'
import { BOOT_CPU } from '../protocol.ts'
import type { Task } from './submission.ts'

/** Places the tasks of one submitter. Private to its thread. */
export class Placement {
  readonly #memory: MachineMemory
  readonly #pages: readonly number[]
  /** How many of its tasks are out with each CPU, as far as is known: they were pushed there. */
  readonly #load: Int32Array
  /** Those whose queues were open when one last looked; each is looked at again. */
  #open: readonly number[] = []
  /** Where in them the search begins the next time. */
  #turn = 0

  constructor(memory: MachineMemory) {
    this.#memory = memory
    this.#pages = Array.from({ length: memory.cpuCount }, (_, cpu) => memory.cpuPage(cpu))
    this.#load = new Int32Array(memory.cpuCount)
  }

  /** A task was pushed to a CPU. */
  add(cpu: number): void {
    this.#load[cpu]!++
  }

  /** One that was pushed to a CPU has ended, or is placed anew. */
  remove(cpu: number): void {
    this.#load[cpu]!--
  }

  /**
   * The CPU that has the least to do, of those that take tasks and may run this one; or -1. Without `sure` it
   * may miss one that has opened its queue a moment ago.
   */
  choose(mask: CpuMask | undefined, sure: boolean): number {
    if (sure) this.refresh()
    const { words } = this.#memory
    const open = this.#open
    let best = -1
    let least = Infinity
    for (let i = 0; i < open.length; i++) {
      if (++this.#turn >= open.length) this.#turn = 0
      const cpu = open[this.#turn]!
      const state = words[this.#pages[cpu]! + CPU.schedState]!
      if (state === SCHED.closed) continue
      if (mask === undefined ? cpu === BOOT_CPU : !mask.has(cpu)) continue
      // One that runs something has at least that before ours.
      const ahead = this.#load[cpu]! * 2 + (state === SCHED.idle ? 0 : 1)
      if (ahead >= least) continue
      best = cpu
      least = ahead
      if (ahead === 0) break
    }
    return best
  }

  /** Run queues were opened or closed: looks which are open now. */
  refresh(): void {
    const isOpen = (cpu: number): boolean =>
      load(this.#memory.words, this.#pages[cpu]! + CPU.schedState) !== SCHED.closed
    this.#open = this.#pages.map((_, cpu) => cpu).filter(isOpen)
  }

  /** Whether a CPU that may run such a task has a thread, and so may open its queue yet. */
  mayCome(mask: CpuMask | undefined): boolean {
    for (const cpu of this.#memory.readMask(HEADER.presentMask)) {
      if (mask === undefined ? cpu === BOOT_CPU : !mask.has(cpu)) continue
      if (this.#memory.readCpu(cpu, CPU.state) !== CPU_STATE.dead) return true
    }
    return false
  }
}

/** The error of a task that no CPU can run. */
export function noCpu({ mask, record }: Task): IpiError {
  const cpus = mask === undefined ? [] : [...mask]
  return new IpiError(
    'IPI_NO_CPU',
    mask === undefined
      ? `"${record.name}" cannot run: no CPU but the main thread's is up; boot({ cpus: 2 }) or cpuUp()`
      : `"${record.name}" may run on CPU ${cpus.join(', ')} only, and none of them is up`,
    { cpus, functionName: record.name },
  )
}

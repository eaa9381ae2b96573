/**
 * Run queues: for each CPU and each priority a ring of task numbers. Anybody pushes, the owner and
 * thieves take, first in first out. Linux `kernel/sched.c`, struct prio_array.
 *
 *      head                    tail             numbers that only grow
 *       v                       v
 *   [ … | 7.3 | 7.9 | 7.1 | 7.4 | 6.2 | 6.8 | … ]       cell: round . task
 *
 * No step leaves anything to be finished by the thread that made it, so any thread may end anywhere. A
 * cell is written by one compare-and-swap, from the entry of the round before; whoever finds it
 * written and the tail behind it moves the tail. A task is claimed in its slot, not here (task.ts), and
 * whoever finds the first entry claimed moves the head. So an entry may stand here for a while after
 * its task has ended, or stands in another queue: that is over, too. If its next life stands in the same
 * queue, that is claimed before its turn.
 */

import { CPU, LINE_WORDS } from '../../hardware/layout.ts'
import { compareExchange, load, type SharedWords } from '../../hardware/memory.ts'
import type { TaskMemory } from './task.ts'

/** Bits of a cell that name the task; the round has the rest. */
const TASK_BITS = 18
const TASK_MASK = (1 << TASK_BITS) - 1
const ROUND_MASK = (1 << (32 - TASK_BITS)) - 1

/** How many entries behind the first a thief looks at, where it may not run the first. */
const LOOK_MAX = 16

/** What a push found: all places taken, or the entry is in. */
export type Pushed = 'full' | 'pushed'

/** What to do with an entry of a CPU's queue: gives whether it was claimed, may stay, or is over. */
export type Claim = (task: number, cpu: number) => 'claimed' | 'over' | 'not mine'

/** The run queues of all CPUs, as one thread reaches them. */
export class RunQueues {
  readonly #words: SharedWords
  readonly #tasks: TaskMemory
  readonly #mask: number
  readonly #shift: number

  constructor(tasks: TaskMemory) {
    this.#tasks = tasks
    this.#words = tasks.words
    this.#mask = tasks.cells - 1
    this.#shift = Math.log2(tasks.cells)
  }

  #head(cpu: number, priority: number): number {
    return this.#tasks.memory.cpuPage(cpu) + CPU.runQueue + priority * 2 * LINE_WORDS
  }

  #round(position: number): number {
    // The first round is 1: memory that nobody has written is of round 0.
    return ((position >>> this.#shift) + 1) & ROUND_MASK
  }

  /**
   * Appends a task. What was written to its slot before is visible to whoever takes it. The plain reads
   * are hints: what they give is held against the cell by the compare-and-swap.
   */
  push(cpu: number, priority: number, task: number): Pushed {
    const words = this.#words
    const head = this.#head(cpu, priority)
    const tail = head + LINE_WORDS
    const ring = this.#tasks.ring(cpu, priority)
    let position = words[tail]!
    for (;;) {
      const round = this.#round(position)
      const at = ring + (position & this.#mask)
      const cell = words[at]!
      const found = cell >>> TASK_BITS
      if (found === ((round - 1) & ROUND_MASK)) {
        if (this.#isFull(head, position)) return 'full'
        if (compareExchange(words, at, cell, (round << TASK_BITS) | task) === cell) {
          compareExchange(words, tail, position, (position + 1) | 0)
          return 'pushed'
        }
      }
      // Somebody was quicker. If the tail does not say so yet, it is told.
      if (load(words, at) >>> TASK_BITS === round) {
        compareExchange(words, tail, position, (position + 1) | 0)
      }
      position = load(words, tail)
    }
  }

  #isFull(head: number, position: number): boolean {
    const { cells } = this.#tasks
    return (
      ((position - this.#words[head]!) | 0) >= cells &&
      ((position - load(this.#words, head)) | 0) >= cells
    )
  }

  /**
   * Takes the first task of a queue that `claim` claims; gives it, or -1. Entries whose tasks are over
   * go on the way. Without `sure` it may miss what was pushed a moment ago: a CPU that goes on looking
   * anyway saves the atomic loads.
   */
  take(cpu: number, priority: number, sure: boolean, claim: Claim): number {
    const words = this.#words
    const head = this.#head(cpu, priority)
    const ring = this.#tasks.ring(cpu, priority)
    let position = words[head]!
    for (;;) {
      const at = ring + (position & this.#mask)
      let cell = words[at]!
      const round = this.#round(position)
      if (cell >>> TASK_BITS !== round) {
        if (!sure) return -1
        const now = load(words, head)
        cell = load(words, at)
        if (now !== position) {
          position = now
          continue
        }
        if (cell >>> TASK_BITS !== round) return -1
      }
      const task = cell & TASK_MASK
      const claimed = claim(task, cpu)
      if (claimed === 'not mine') return this.#takeBehind(cpu, priority, position, claim)
      compareExchange(words, head, position, (position + 1) | 0)
      if (claimed === 'claimed') return task
      position = load(words, head)
    }
  }

  /** The task that stands first in a queue, whatever its state, or -1. */
  first(cpu: number, priority: number): number {
    const position = load(this.#words, this.#head(cpu, priority))
    const cell = load(this.#words, this.#tasks.ring(cpu, priority) + (position & this.#mask))
    return cell >>> TASK_BITS === this.#round(position) ? cell & TASK_MASK : -1
  }

  /** The first entry is for others: one behind it may not be. It stays where it is, and is over then. */
  #takeBehind(cpu: number, priority: number, first: number, claim: Claim): number {
    const ring = this.#tasks.ring(cpu, priority)
    for (let i = 1; i < LOOK_MAX; i++) {
      const position = (first + i) | 0
      const cell = load(this.#words, ring + (position & this.#mask))
      if (cell >>> TASK_BITS !== this.#round(position)) return -1
      const task = cell & TASK_MASK
      if (claim(task, cpu) === 'claimed') return task
    }
    return -1
  }
}

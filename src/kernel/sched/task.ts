/**
 * Tasks in shared memory: a slot that one CPU fills, that stands in a run queue, that another CPU
 * claims, runs and completes. What Linux keeps in a `task_struct` on a run queue.
 *
 *            fill              push              claim              complete
 *     free ───────▶ queued ───────▶ (run queue) ───────▶ running ───────────▶ done ──▶ free
 *                     │                                     │
 *                     ├── given up ──▶ cancelled ── found by whoever would run it ──▶ done
 *                     └── nobody may run it any more        └── its CPU is gone ──▶ died
 *
 * The state in the slot is the truth: a claim is one compare-and-swap on `flags`. That a run queue
 * names a task is only a hint where to look, so it may name one twice, or one that has ended.
 */

import {
  CPU,
  PRIORITY_COUNT,
  ringCells,
  TASK_SLOT,
  TASK_SLOT_WORDS,
} from '../../hardware/layout.ts'
import type { MachineMemory } from '../../hardware/machine-memory.ts'
import { compareExchange, load, type SharedWords } from '../../hardware/memory.ts'
import { BOOT_CPU } from '../protocol.ts'

/** Priorities, weakest first: the numbers that shared memory has for their names. */
export const PRIORITIES = ['idle', 'normal', 'high', 'realtime'] as const
/** How urgent a task is. Within one priority the first comes first. */
export type Priority = (typeof PRIORITIES)[number]

/** States of a task: the low four bits of TASK_SLOT.flags. */
export const TASK_STATE = {
  free: 0,
  queued: 1,
  running: 2,
  done: 3,
  died: 4,
  cancelled: 5,
} as const

/** The other bits of TASK_SLOT.flags. */
export const TASK_FLAG = {
  stateMask: 0xf,
  priorityShift: 4,
  priorityMask: 0x30,
  /** Only the CPUs of TASK_SLOT.affinity may run it; without it all but the boot CPU. */
  affine: 0x40,
  /** It is done, and its CPU has ended since, or before it could say so. */
  orphaned: 0x80,
  /** The CPU in whose queue it is, or that runs it. */
  cpuShift: 8,
  cpuMask: 0xff00,
  sequenceShift: 16,
} as const

/** Bits of TASK_SLOT.control. */
export const TASK_CONTROL = {
  /** Its submitter may want it to end before its time. */
  abortable: 1,
  /** It has asked for itself, so it may know how to end when it shall. */
  cooperative: 2,
  /** It shall end. */
  cancel: 4,
  /** From here on: how many may have begun on its CPU and not ended, this one too; 0: any number. */
  limitShift: 8,
} as const

/** How a task ended: TASK_SLOT.status. */
export const TASK_STATUS = {
  returned: 0,
  threw: 1,
  unknownFunction: 2,
  uncloneable: 3,
  /** Its argument went down with the CPU that it was sent to. */
  lost: 4,
  /** It was asked to end, and has. */
  cancelled: 5,
  /** It was aborted in its own code … */
  aborted: 6,
  /** … and in the middle of the environment's: the thread should be replaced soon. */
  unsafe: 7,
} as const

/** TASK_SLOT.payloadBytes of a value that travels by port. */
export const BY_PORT = -1

/** Bytes of a task's payload. */
export const TASK_PAYLOAD_BYTES: number =
  (TASK_SLOT_WORDS - TASK_SLOT.payload) * Int32Array.BYTES_PER_ELEMENT

/** The tasks of a machine: where each word of each of them is. One per thread. */
export class TaskMemory {
  readonly memory: MachineMemory
  readonly words: SharedWords
  readonly times: Float64Array
  readonly #shift: number
  readonly #mask: number
  readonly #blockWords: number
  readonly #firstTask: number
  readonly #firstRing: number
  /** Cells of one ring. */
  readonly cells: number

  constructor(memory: MachineMemory) {
    this.memory = memory
    this.words = memory.words
    this.times = new Float64Array(memory.buffer)
    this.#shift = Math.log2(memory.taskCount)
    this.#mask = memory.taskCount - 1
    this.cells = ringCells(memory)
    this.#blockWords = memory.cpuCount > 1 ? memory.cpuPage(1) - memory.cpuPage(0) : 0
    this.#firstRing = memory.slots(0) + memory.slotCount * memory.slotWords
    this.#firstTask = this.#firstRing + PRIORITY_COUNT * this.cells
  }

  /** The first word of a task: add an offset of TASK_SLOT. */
  at(task: number): number {
    const owner = task >>> this.#shift
    return this.#firstTask + owner * this.#blockWords + (task & this.#mask) * TASK_SLOT_WORDS
  }

  /** The CPU that submitted a task. */
  sourceOf(task: number): number {
    return task >>> this.#shift
  }

  /** The number of a CPU's first task. */
  firstOf(cpu: number): number {
    return cpu << this.#shift
  }

  /** The first cell of the ring of a CPU and a priority. */
  ring(cpu: number, priority: number): number {
    return this.#firstRing + cpu * this.#blockWords + priority * this.cells
  }

  /** Reads a task's flags. */
  flags(task: number): number {
    return load(this.words, this.at(task) + TASK_SLOT.flags)
  }

  /** Moves a task from what its flags were to others; gives whether they were still that. */
  change(task: number, flags: number, next: number): boolean {
    return compareExchange(this.words, this.at(task) + TASK_SLOT.flags, flags, next) === flags
  }

  /** What a CPU's scheduler does: SCHED. */
  schedState(cpu: number): number {
    return load(this.words, this.memory.cpuPage(cpu) + CPU.schedState)
  }

  /** Whether a CPU may run a task whose flags are these. */
  mayRun(task: number, flags: number, cpu: number): boolean {
    if ((flags & TASK_FLAG.affine) === 0) return cpu !== BOOT_CPU
    const word = this.words[this.at(task) + TASK_SLOT.affinity + (cpu >>> 5)]!
    return ((word >>> (cpu & 31)) & 1) === 1
  }
}

/** The state in a flags word. */
export function taskState(flags: number): number {
  return flags & TASK_FLAG.stateMask
}

/** The priority in a flags word, 0 to PRIORITY_COUNT - 1. */
export function priorityOf(flags: number): number {
  return (flags & TASK_FLAG.priorityMask) >>> TASK_FLAG.priorityShift
}

/** The CPU in a flags word. */
export function cpuOf(flags: number): number {
  return (flags & TASK_FLAG.cpuMask) >>> TASK_FLAG.cpuShift
}

/** The same flags with another state, at another CPU. */
export function movedTo(flags: number, state: number, cpu: number): number {
  return (flags & ~(TASK_FLAG.stateMask | TASK_FLAG.cpuMask)) | state | (cpu << TASK_FLAG.cpuShift)
}

/** A number by which an abort knows a task: no other task of its CPU has had it lately. */
export function taskNumber(task: number, flags: number): number {
  return ((((flags >>> TASK_FLAG.sequenceShift) & 0x3ff) << 18) | task) + 1
}

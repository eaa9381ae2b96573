/**
 * The board: shared memory that a call hands to every CPU of the demonstration. Each word has one
 * writer, and whoever reads it looks again later or is told by an interrupt that it is there.
 */

import { CPU_COUNT_MAX } from './limits.ts'

/** Bytes per CPU: a cache line, so that no CPU's writing slows another's. */
const LINE_BYTES = 64
/** Words of a CPU's line: two for the time stamp, then the queued task. */
const TASK_WORD = 2
const LINE_WORDS = LINE_BYTES / Int32Array.BYTES_PER_ELEMENT
/** Behind the CPUs' lines: two flags, then the page table, then the memory that it leads to. */
const FLAG_LINE = CPU_COUNT_MAX
const PAGE_LINE = FLAG_LINE + 1
const FRAME_LINE = FLAG_LINE + 2
const LINES = FLAG_LINE + 3

/** One thread's view of the board. */
export class Board {
  readonly buffer: SharedArrayBuffer
  readonly #words: Int32Array<SharedArrayBuffer>
  readonly #stamps: BigInt64Array<SharedArrayBuffer>

  constructor(buffer = new SharedArrayBuffer(LINES * LINE_BYTES)) {
    this.buffer = buffer
    this.#words = new Int32Array(buffer)
    this.#stamps = new BigInt64Array(buffer)
  }

  /** Notes when something reached a CPU. Written by that CPU. */
  stamp(cpu: number): void {
    this.#stamps[(cpu * LINE_BYTES) / 8] = process.hrtime.bigint()
  }

  /** When something reached a CPU, in nanoseconds that all threads share; 0n: not yet. */
  stampOf(cpu: number): bigint {
    return this.#stamps[(cpu * LINE_BYTES) / 8]!
  }

  /** Forgets all stamps. Written by CPU 0, while nothing is on its way. */
  clearStamps(): void {
    for (let cpu = 0; cpu < CPU_COUNT_MAX; cpu++) this.#stamps[(cpu * LINE_BYTES) / 8] = 0n
  }

  /** Puts a task on a CPU's queue, which has room for one. Written by CPU 0. */
  queueTask(cpu: number, task: number): void {
    this.#words[cpu * LINE_WORDS + TASK_WORD] = task
  }

  /** Takes the task from a CPU's queue; 0: there is none. Written by that CPU. */
  takeTask(cpu: number): number {
    const task = this.#words[cpu * LINE_WORDS + TASK_WORD]!
    this.#words[cpu * LINE_WORDS + TASK_WORD] = 0
    return task
  }

  /** Whether CPU 0 stands still with interrupts off. Written by CPU 0. */
  get bootCpuStandsStill(): boolean {
    return this.#words[FLAG_LINE * LINE_WORDS] === 1
  }

  set bootCpuStandsStill(value: boolean) {
    this.#words[FLAG_LINE * LINE_WORDS] = value ? 1 : 0
  }

  /** Whether the call from one worker thread to another is over. Written by the caller's CPU. */
  get directCallOver(): boolean {
    return this.#words[FLAG_LINE * LINE_WORDS + 1] === 1
  }

  set directCallOver(value: boolean) {
    this.#words[FLAG_LINE * LINE_WORDS + 1] = value ? 1 : 0
  }

  /** The page table: the frame behind a page. */
  frameOf(page: number): number {
    return this.#words[PAGE_LINE * LINE_WORDS + page]!
  }

  /** Changes the page table. Translations that CPUs hold stay as they are until a flush. */
  mapPage(page: number, frame: number): void {
    this.#words[PAGE_LINE * LINE_WORDS + page] = frame
  }

  /** What stands in a frame of memory. */
  readFrame(frame: number): number {
    return this.#words[FRAME_LINE * LINE_WORDS + frame]!
  }

  /** Writes a frame of memory. */
  writeFrame(frame: number, value: number): void {
    this.#words[FRAME_LINE * LINE_WORDS + frame] = value
  }
}

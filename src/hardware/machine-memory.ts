/** A machine's memory: one SharedArrayBuffer with the map of layout.ts laid over it. */

import { assert } from '../base/assert.ts'
import { lowestBit } from '../base/bits.ts'
import { CPU_COUNT_MAX, CpuMask, MASK_WORDS } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import {
  apicPage,
  cpuBlockWords,
  HEADER,
  LAYOUT_VERSION,
  LINE_WORDS,
  machineWords,
  MAGIC,
  PAGE_WORDS,
  SLOT,
  type MachineSize,
} from './layout.ts'
import { and, load, or, store, type SharedWords } from './memory.ts'

/** The relations between limits that the map relies on; a machine that breaks one is a bug. */
function assertSize(size: MachineSize): void {
  assert(size.cpuCount >= 1 && size.cpuCount <= CPU_COUNT_MAX, '1 <= cpuCount <= 256')
  assert(size.slotCount >= size.cpuCount, 'one CPU can call all others at once')
  assert(size.slotWords % LINE_WORDS === 0, 'slots are whole cache lines')
  assert(size.slotWords > SLOT.payload, 'a slot has room for a payload')
  assert((size.flushLogSize & (size.flushLogSize - 1)) === 0, 'the flush log is a power of two')
  assert((size.slotCount * size.slotWords) % LINE_WORDS === 0, 'CPU blocks are whole lines')
  assert(Number.isInteger(Math.log2(size.taskCount)), 'taskCount is a power of two')
  assert(size.taskCount >= 2, 'the rings of a run queue are whole lines')
}

/** Typed views of a machine's memory and the arithmetic of its map. One per thread. */
export class MachineMemory implements MachineSize {
  readonly buffer: SharedArrayBuffer
  /** Every word, signed: what the atomic operations take. */
  readonly words: SharedWords
  /** The same bytes, for payloads. */
  readonly bytes: Uint8Array<SharedArrayBuffer>
  readonly cpuCount: number
  readonly slotCount: number
  readonly slotWords: number
  readonly flushLogSize: number
  readonly taskCount: number
  readonly #firstBlock: number
  readonly #blockWords: number
  /** The first word of each slot: the hot paths ask too often to divide. */
  readonly #slotAt: Int32Array

  private constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer
    this.words = new Int32Array(buffer)
    this.bytes = new Uint8Array(buffer)
    this.cpuCount = this.words[HEADER.cpuCount]!
    this.slotCount = this.words[HEADER.slotCount]!
    this.slotWords = this.words[HEADER.slotWords]!
    this.flushLogSize = this.words[HEADER.flushLogSize]!
    this.taskCount = this.words[HEADER.taskCount]!
    this.#firstBlock = apicPage(this, 0)
    this.#blockWords = cpuBlockWords(this)
    this.#slotAt = Int32Array.from({ length: this.cpuCount * this.slotCount }, (_, slot) => {
      const cpu = Math.floor(slot / this.slotCount)
      return this.slots(cpu) + (slot % this.slotCount) * this.slotWords
    })
  }

  /** Lays out the memory of a new machine. Sizes are checked by the caller; see kernel/config.ts. */
  static create(size: MachineSize): MachineMemory {
    assertSize(size)
    const words = new Int32Array(
      new SharedArrayBuffer(machineWords(size) * Int32Array.BYTES_PER_ELEMENT),
    )
    words[HEADER.cpuCount] = size.cpuCount
    words[HEADER.slotCount] = size.slotCount
    words[HEADER.slotWords] = size.slotWords
    words[HEADER.flushLogSize] = size.flushLogSize
    words[HEADER.taskCount] = size.taskCount
    words[HEADER.layoutVersion] = LAYOUT_VERSION
    // Last: whoever sees the magic sees a complete header.
    store(words, HEADER.magic, MAGIC)
    return new MachineMemory(words.buffer)
  }

  /**
   * Opens the memory of an existing machine. Throws `IPI_FOREIGN_MEMORY` for anything that is not
   * one, `IPI_LAYOUT_VERSION` for a map of another version; touches nothing in either case.
   */
  static attach(buffer: unknown): MachineMemory {
    if (!(buffer instanceof SharedArrayBuffer) || buffer.byteLength < PAGE_WORDS * 4) {
      throw new IpiError(
        'IPI_FOREIGN_MEMORY',
        'attach needs the SharedArrayBuffer of a machine made by boot or createMachine',
      )
    }
    const words = new Int32Array(buffer, 0, PAGE_WORDS)
    if (load(words, HEADER.magic) !== MAGIC) {
      throw new IpiError(
        'IPI_FOREIGN_MEMORY',
        'this SharedArrayBuffer was not made by boot or createMachine; pass the ticket of ' +
          'machine.bringUp, unchanged',
      )
    }
    const version = words[HEADER.layoutVersion]!
    if (version !== LAYOUT_VERSION) {
      throw new IpiError(
        'IPI_LAYOUT_VERSION',
        `the machine has memory layout ${version}, this copy of interprocessor knows ` +
          `${LAYOUT_VERSION}; load one version of interprocessor in all threads`,
      )
    }
    const memory = new MachineMemory(buffer)
    if (machineWords(memory) * 4 !== buffer.byteLength) {
      throw new IpiError(
        'IPI_FOREIGN_MEMORY',
        `the memory has ${buffer.byteLength} bytes where its header promises ` +
          `${machineWords(memory) * 4}`,
      )
    }
    return memory
  }

  /** The first word of a CPU's APIC page. */
  apicPage(cpu: number): number {
    return this.#firstBlock + cpu * this.#blockWords
  }

  /** The first word of a CPU's per-CPU page: add an offset of CPU. */
  cpuPage(cpu: number): number {
    return this.#firstBlock + cpu * this.#blockWords + PAGE_WORDS
  }

  /** The first word of a CPU's line about an address space: add an offset of TLB. */
  tlbLine(cpu: number, mm: number): number {
    return this.cpuPage(cpu) + PAGE_WORDS + mm * LINE_WORDS
  }

  /** The first word of a request slot: add an offset of SLOT. Slots are numbered machine-wide. */
  slot(slot: number): number {
    return this.#slotAt[slot]!
  }

  /** The first word of a CPU's first slot. */
  slots(cpu: number): number {
    return this.cpuPage(cpu) + 2 * PAGE_WORDS
  }

  /** One word as a view of its own: a plain read of it costs half of one that takes an index. */
  viewOf(at: number): SharedWords {
    return new Int32Array(this.buffer, at * Int32Array.BYTES_PER_ELEMENT, 1)
  }

  /** Reads a mask of the header, or of any eight words. */
  readMask(at: number): CpuMask {
    const words = new Int32Array(MASK_WORDS)
    this.refreshMask(at, words)
    return CpuMask.fromWords(words)
  }

  /** Brings a copy of a mask up to date; gives whether it was not. Makes nothing. */
  refreshMask(at: number, copy: Int32Array): boolean {
    let stale = false
    for (let i = 0; i < (this.cpuCount + 31) >>> 5; i++) {
      const word = load(this.words, at + i)
      if (copy[i] === word) continue
      copy[i] = word
      stale = true
    }
    return stale
  }

  /** Replaces a mask, word by word: only for words that one CPU writes at a time. */
  writeMask(at: number, mask: CpuMask): void {
    for (let i = 0; i < MASK_WORDS; i++) store(this.words, at + i, mask.word(i))
  }

  /** Whether a CPU's bit is set in a mask. */
  testCpu(at: number, cpu: number): boolean {
    return ((load(this.words, at + (cpu >>> 5)) >>> (cpu & 31)) & 1) === 1
  }

  /** Sets a CPU's bit in a mask; gives whether it was set before. */
  setCpu(at: number, cpu: number): boolean {
    const old = or(this.words, at + (cpu >>> 5), 1 << (cpu & 31))
    return ((old >>> (cpu & 31)) & 1) === 1
  }

  /** Clears a CPU's bit in a mask; gives whether it was set before. */
  clearCpu(at: number, cpu: number): boolean {
    const old = and(this.words, at + (cpu >>> 5), ~(1 << (cpu & 31)))
    return ((old >>> (cpu & 31)) & 1) === 1
  }

  /** CPU states, thread flags and the like: reads one word of a CPU's page. */
  readCpu(cpu: number, field: number): number {
    return load(this.words, this.cpuPage(cpu) + field)
  }

  /** The lowest CPU of `cpus` that does not take interrupts now, or -1. Makes no mask. */
  firstOffline(cpus: CpuMask): number {
    for (let i = 0; i < MASK_WORDS; i++) {
      const asked = cpus.word(i)
      if (asked === 0) continue
      const missing = asked & ~load(this.words, HEADER.onlineMask + i)
      if (missing !== 0) return i * 32 + lowestBit(missing)
    }
    return -1
  }

  /** The CPUs that take interrupts now. */
  get onlineMask(): CpuMask {
    return this.readMask(HEADER.onlineMask)
  }
}

/** A set of CPUs, as the kernel's `cpumask_t`: what the senders and the call family take and give. */

import { countBits, lowestBit } from './bits.ts'
import { IpiError } from './errors.ts'

/** The most CPUs that any machine can have: what one mask can name. */
export const CPU_COUNT_MAX = 256
/** Words of 32 bits in a mask. */
export const MASK_WORDS = CPU_COUNT_MAX / 32

/** Anything that names a set of CPUs: a mask, or CPU numbers in any iterable. */
export type CpuSet = CpuMask | Iterable<number>

/** An immutable set of CPU numbers 0..255. Iterates in ascending order. Callable in any context. */
export class CpuMask implements Iterable<number> {
  readonly #words: Int32Array

  private constructor(words: Int32Array) {
    this.#words = words
  }

  /** The mask of the given CPUs. Throws `IPI_INVALID_CPU` for a number outside 0..255. */
  static of(...cpus: number[]): CpuMask {
    return CpuMask.from(cpus)
  }

  /** The mask of the CPUs in any iterable. Throws `IPI_INVALID_CPU` or `IPI_INVALID_ARGUMENT`. */
  static from(cpus: CpuSet): CpuMask {
    if (cpus instanceof CpuMask) return cpus
    if (cpus === null || typeof cpus !== 'object' || !(Symbol.iterator in cpus)) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        `expected a CpuMask or an iterable of CPU numbers, got ${String(cpus)}; ` +
          'write CpuMask.of(1, 2) or [1, 2]',
      )
    }
    const words = new Int32Array(MASK_WORDS)
    for (const cpu of cpus) {
      if (!Number.isInteger(cpu) || cpu < 0 || cpu >= CPU_COUNT_MAX) {
        throw new IpiError(
          'IPI_INVALID_CPU',
          `${String(cpu)} is no CPU number; CPU numbers are integers from 0 to ${CPU_COUNT_MAX - 1}`,
        )
      }
      words[cpu >>> 5]! |= 1 << (cpu & 31)
    }
    return new CpuMask(words)
  }

  /** The mask whose bits stand in eight 32-bit words, lowest CPUs first. The words are copied. */
  static fromWords(words: ArrayLike<number>): CpuMask {
    return new CpuMask(Int32Array.from({ length: MASK_WORDS }, (_, i) => words[i] ?? 0))
  }

  /** CPUs 0 to `count` - 1. */
  static first(count: number): CpuMask {
    return CpuMask.from(Array.from({ length: count }, (_, cpu) => cpu))
  }

  /** How many CPUs are in the set. */
  get size(): number {
    let size = 0
    for (const word of this.#words) size += countBits(word)
    return size
  }

  /** Whether no CPU is in the set. */
  get isEmpty(): boolean {
    for (let i = 0; i < MASK_WORDS; i++) if (this.#words[i] !== 0) return false
    return true
  }

  /** Whether `cpu` is in the set; false for numbers that name no CPU. */
  has(cpu: number): boolean {
    return (
      Number.isInteger(cpu) &&
      cpu >= 0 &&
      cpu < CPU_COUNT_MAX &&
      ((this.#words[cpu >>> 5]! >>> (cpu & 31)) & 1) === 1
    )
  }

  /** Word `index` of the eight words that hold the set, CPU 32 * index in bit 0. */
  word(index: number): number {
    return this.#words[index]!
  }

  /** The lowest CPU of the set, or -1. */
  first(): number {
    for (let i = 0; i < MASK_WORDS; i++) {
      if (this.#words[i] !== 0) return i * 32 + lowestBit(this.#words[i]!)
    }
    return -1
  }

  /** The CPUs in both sets. */
  and(other: CpuMask): CpuMask {
    return new CpuMask(this.#words.map((word, i) => word & other.#words[i]!))
  }

  /** The CPUs in either set. */
  or(other: CpuMask): CpuMask {
    return new CpuMask(this.#words.map((word, i) => word | other.#words[i]!))
  }

  /** The CPUs in this set and not in the other. */
  andNot(other: CpuMask): CpuMask {
    return new CpuMask(this.#words.map((word, i) => word & ~other.#words[i]!))
  }

  /** This set with `cpu` in it. */
  with(cpu: number): CpuMask {
    return this.or(CpuMask.of(cpu))
  }

  /** This set without `cpu`. */
  without(cpu: number): CpuMask {
    return this.has(cpu) ? this.andNot(CpuMask.of(cpu)) : this
  }

  /** Whether both sets hold the same CPUs. */
  equals(other: CpuMask): boolean {
    return this.#words.every((word, i) => word === other.#words[i])
  }

  /** The CPUs, ascending. */
  *[Symbol.iterator](): IterableIterator<number> {
    for (let i = 0; i < MASK_WORDS; i++) {
      for (let rest = this.#words[i]!; rest !== 0; rest &= rest - 1) {
        yield i * 32 + lowestBit(rest)
      }
    }
  }

  /** The set as the kernel prints cpu lists: `0-3,7`; the empty set is an empty string. */
  toString(): string {
    const ranges: string[] = []
    let start = -1
    for (let cpu = 0; cpu <= CPU_COUNT_MAX; cpu++) {
      if (this.has(cpu)) {
        if (start < 0) start = cpu
      } else if (start >= 0) {
        ranges.push(start === cpu - 1 ? `${start}` : `${start}-${cpu - 1}`)
        start = -1
      }
    }
    return ranges.join(',')
  }

  /** The set as an array of CPU numbers, for JSON. */
  toJSON(): number[] {
    return [...this]
  }
}

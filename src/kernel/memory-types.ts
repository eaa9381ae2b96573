/**
 * The memory type of each key of an address space, as one CPU applies it. The table stands in shared
 * memory and is changed in rendezvous only (kernel/mtrr.ts): every CPU writes the same words and takes the
 * table anew while all stand still, so that no two CPUs ever apply different types to one key. By the
 * rules of memory type ranges: a range goes before the type of the space, uncacheable before all else.
 */

import { IpiError } from '../base/errors.ts'
import { CPU, HEADER, TYPE_COUNT_MAX, TYPE_WORDS } from '../hardware/layout.ts'
import { compareExchange, load, store } from '../hardware/memory.ts'
import {
  MEMORY_TYPE,
  memoryTypeName,
  overlapType,
  type MemoryType,
  type MemoryTypeCode,
} from '../hardware/mtrr.ts'
import type { Cpu } from './cpu.ts'
import { covers, decodeRange, type KeyRange, type TypedRange } from './key-range.ts'
import { wake } from './robust-lock.ts'

/** What the keys of a space are that never said: a write goes to the authority, and every copy goes. */
const UNDECLARED = MEMORY_TYPE['write-protected']

/**
 * Called on every CPU while all stand still with interrupts off: from now on the keys of `range` have
 * another type, so what is held of them must go. Short and synchronous. What was held back of them, and
 * has still to be written, may be written after that: the promise says when it is, and a rejection that it
 * could not be.
 */
export type TypeListener = (range: KeyRange) => Promise<unknown> | void

/** What is stored into shared words in a rendezvous, by everybody alike. */
export interface TypeChange {
  readonly mm: number
  readonly range: KeyRange
  /** The first word, and what stands there from now on. */
  readonly at: number
  readonly words: readonly number[]
  /** The CPU that waits until everybody has written out what it held back. */
  readonly initiator: number
}

/** The types on one CPU. */
export class MemoryTypes {
  readonly #cpu: Cpu
  readonly #onError: (error: unknown) => void
  /** By space: its ranges. Undefined where there are none, which is nearly everywhere. */
  #ranges: (TypedRange[] | undefined)[] = []
  /** By space: the type of what no range names, once it is declared. */
  #declared: (MemoryTypeCode | undefined)[] = []
  readonly #listeners = new Map<number, Set<TypeListener>>()

  /** `onError` is told what a listener threw, or why something held back could not be written. */
  constructor(cpu: Cpu, onError: (error: unknown) => void) {
    this.#cpu = cpu
    this.#onError = onError
  }

  /** Takes the table as it is. With interrupts off, in a rendezvous or before this CPU is online. */
  load(): void {
    this.#declared = []
    this.#ranges = []
    for (let place = 0; place < TYPE_COUNT_MAX; place++) {
      const found = this.at(place)
      if (found !== undefined) (this.#ranges[found.mm] ??= []).push(found)
    }
  }

  /** What stands at one place of the table. */
  at(place: number): TypedRange | undefined {
    return decodeRange(this.#cpu.memory.words, HEADER.typeTable + place * TYPE_WORDS)
  }

  /**
   * The type of the keys of a space that no range names: the first to say it, says it for all CPUs. Whoever
   * keeps copies of a space must have declared it. Any context. Throws `IPI_TYPE_CONFLICT` if somebody
   * has said something else.
   */
  declare(mm: number, type: MemoryType): void {
    const at = HEADER.spaceTypes + mm
    const found = compareExchange(this.#cpu.memory.words, at, 0, MEMORY_TYPE[type] + 1)
    if (found === 0 || found === MEMORY_TYPE[type] + 1) return
    throw new IpiError(
      'IPI_TYPE_CONFLICT',
      `the keys of this space are ${memoryTypeName((found - 1) as MemoryTypeCode)} on all CPUs; ` +
        `declare that, and make them ${type} by machine.mtrr.setType`,
    )
  }

  /** The type of what no range of the space names. */
  spaceType(mm: number): MemoryTypeCode {
    const declared = this.#declared[mm]
    if (declared !== undefined) return declared
    const word = load(this.#cpu.memory.words, HEADER.spaceTypes + mm)
    if (word === 0) return UNDECLARED
    return (this.#declared[mm] = (word - 1) as MemoryTypeCode)
  }

  /** The type of a key, on all CPUs alike until the next safepoint of this one. Any context. */
  typeOf(mm: number, key: unknown): MemoryType {
    const ranges = this.#ranges[mm]
    let found: MemoryTypeCode | undefined
    if (ranges !== undefined) {
      for (const { range, type } of ranges) {
        if (!covers(range, key)) continue
        // Types that do not go together are refused when they are set.
        found = found === undefined ? (type as MemoryTypeCode) : overlapType(found, type as never)
      }
    }
    return memoryTypeName(found ?? this.spaceType(mm))
  }

  /** Calls `listener` at every change of types in a space; gives a function that undoes it. */
  onChange(mm: number, listener: TypeListener): () => void {
    let listeners = this.#listeners.get(mm)
    if (listeners === undefined) this.#listeners.set(mm, (listeners = new Set()))
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }

  /** This CPU's part of a change, in a rendezvous: everybody stands. Throws nothing. */
  apply({ mm, range, at, words, initiator }: TypeChange, sequence: number): void {
    // The others store the same words; whoever dies in between is outdone by them.
    words.forEach((word, i) => (this.#cpu.memory.words[at + i] = word))
    this.load()
    const open: Promise<unknown>[] = []
    for (const listener of this.#listeners.get(mm) ?? []) {
      try {
        const drained = listener(range)
        if (drained !== undefined) open.push(drained)
      } catch (error) {
        this.#onError(error)
      }
    }
    if (open.length === 0) return this.#drained(sequence)
    const failed = (error: unknown): void => {
      this.#onError(error)
      this.#drained(-sequence, initiator)
    }
    Promise.all(open).then(() => this.#drained(sequence, initiator), failed)
  }

  #drained(sequence: number, initiator?: number): void {
    store(this.#cpu.memory.words, this.#cpu.page + CPU.typesDrained, sequence)
    if (initiator !== undefined) wake(this.#cpu, initiator)
  }

  /** A place of the table that is free, or -1. */
  freePlace(): number {
    const { words } = this.#cpu.memory
    for (let place = 0; place < TYPE_COUNT_MAX; place++) {
      if (words[HEADER.typeTable + place * TYPE_WORDS] === 0) return place
    }
    return -1
  }
}

/** Throws `IPI_INVALID_ARGUMENT` for what is no memory type; gives its code. */
export function checkMemoryType(type: unknown): MemoryTypeCode {
  if (typeof type === 'string' && Object.hasOwn(MEMORY_TYPE, type)) {
    return MEMORY_TYPE[type as MemoryType]
  }
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `a memory type is one of ${Object.keys(MEMORY_TYPE).join(', ')}; got ${String(type)}`,
  )
}

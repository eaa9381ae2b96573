/**
 * A lock in shared memory that a dead thread cannot hold: the word names its holder and which life of it,
 * so whoever buries the holder can give the lock back, and whoever finds it held by the dead as well.
 * After the futex `robust_list` of Linux, Documentation/locking/robust-futexes.rst.
 *
 * A thread may be buried a few instructions before its JavaScript stops. What it takes after that is
 * void, and what it lets go of is nobody's.
 */

import { ATTENTION, CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { compareExchange, load, type SharedWords } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'

/** Somebody waits: the holder must tell everybody when it lets go. */
const WAITERS = 1 << 16
const HOLDER_MASK = WAITERS - 1
/** From here on the incarnation of the holder, as far as there is room. */
const LIFE_SHIFT = 17

/** Which CPU a lock's word names, or -1. */
export function holderOf(word: number): number {
  return (word & HOLDER_MASK) - 1
}

/** What a CPU puts into a word that it holds: its number, and which life of it. */
export function holderWord(cpu: Cpu): number {
  return (cpu.memory.readCpu(cpu.id, CPU.incarnation) << LIFE_SHIFT) | (cpu.id + 1)
}

/** Whether the holder that a word names is dead, or its number lives again and it was an earlier life. */
export function isVoid({ memory }: { readonly memory: MachineMemory }, word: number): boolean {
  const holder = holderOf(word)
  if (memory.readCpu(holder, CPU.state) === CPU_STATE.dead) return true
  const life = memory.readCpu(holder, CPU.incarnation)
  return life << LIFE_SHIFT !== (word & (-1 << LIFE_SHIFT))
}

/** A lock at one word. Only ever tried: whoever finds it taken comes back later. */
export class RobustLock {
  readonly #cpu: Cpu
  readonly #words: SharedWords
  readonly #at: number
  readonly #record: number | undefined
  /** What stands in the lock while this CPU holds it and nobody waits. */
  readonly word: number

  /**
   * `record`: the word in which the holder publishes something under the lock, by storing `word` there.
   * It is cleared before the lock of a dead holder is free. `words`: where the lock stands, if not in the
   * machine's memory.
   */
  constructor(cpu: Cpu, at: number, record?: number, words: SharedWords = cpu.memory.words) {
    this.#cpu = cpu
    this.#words = words
    this.#at = at
    this.#record = record
    this.word = holderWord(cpu)
  }

  /**
   * Takes the lock if it is free. If not, marks that somebody waits: the holder's release sets
   * ATTENTION.wake on every CPU, so a condition that calls this is looked at again.
   */
  tryAcquire(): boolean {
    const words = this.#words
    for (;;) {
      const found = compareExchange(words, this.#at, 0, this.word)
      if (found === 0) return true
      if (isVoid(this.#cpu, found)) this.#takeBack(found)
      // Free again already: try once more, or the mark would outlive the holder it was meant for.
      else if (compareExchange(words, this.#at, found, found | WAITERS) === found) return false
    }
  }

  /** The CPU that holds the lock, or -1. */
  get holder(): number {
    return holderOf(load(this.#words, this.#at))
  }

  /** Lets go. What was written under the lock is visible to the next holder. */
  release(): void {
    const words = this.#words
    for (;;) {
      const found = load(words, this.#at)
      // Buried meanwhile: it is somebody else's.
      if ((found & ~WAITERS) !== this.word) return
      if (compareExchange(words, this.#at, found, 0) !== found) continue
      if ((found & WAITERS) !== 0) wakeEverybody(this.#cpu)
      return
    }
  }

  /** Takes the lock away from a CPU whose state says that it is dead; gives whether it held it. */
  recover(dead: number): boolean {
    const words = this.#words
    for (;;) {
      const found = load(words, this.#at)
      if (holderOf(found) !== dead || !isVoid(this.#cpu, found)) return false
      if (this.#takeBack(found)) return true
    }
  }

  /** Several may do this at once: each step is a compare-and-swap on what was found. */
  #takeBack(found: number): boolean {
    const words = this.#words
    if (this.#record !== undefined) compareExchange(words, this.#record, found & ~WAITERS, 0)
    if (compareExchange(words, this.#at, found, 0) !== found) return false
    wakeEverybody(this.#cpu)
    return true
  }
}

/** Tells every CPU, this one too, that something it may be waiting for has changed. */
export function wakeEverybody(cpu: Cpu): void {
  for (const other of cpu.memory.readMask(HEADER.presentMask)) wake(cpu, other)
}

/** Tells one CPU that something it may be waiting for has changed. */
export function wake(cpu: Cpu, other: number): void {
  cpu.descriptors[other]!.attend(ATTENTION.wake)
}

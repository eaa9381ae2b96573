/**
 * A lock in shared memory that a dead thread cannot hold: the word names its holder, so whoever
 * buries the holder can give the lock back. After the futex `robust_list` of Linux,
 * Documentation/locking/robust-futexes.rst.
 */

import { ATTENTION, HEADER } from '../hardware/layout.ts'
import { compareExchange, exchange, load } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'

/** Somebody waits: the holder must tell everybody when it lets go. */
const WAITERS = 1 << 16
const HOLDER_MASK = WAITERS - 1

/** A lock at one word of the header. Only ever tried: whoever finds it taken comes back later. */
export class RobustLock {
  readonly #cpu: Cpu
  readonly #at: number

  constructor(cpu: Cpu, at: number) {
    this.#cpu = cpu
    this.#at = at
  }

  /**
   * Takes the lock if it is free. If not, marks that somebody waits: the holder's release sets
   * ATTENTION.wake on every CPU, so a condition that calls this is looked at again.
   */
  tryAcquire(): boolean {
    const { words } = this.#cpu.memory
    for (;;) {
      const found = compareExchange(words, this.#at, 0, this.#cpu.id + 1)
      if (found === 0) return true
      // Free again already: try once more, or the mark would outlive the holder it was meant for.
      if (compareExchange(words, this.#at, found, found | WAITERS) === found) return false
    }
  }

  /** The CPU that holds the lock, or -1. */
  get holder(): number {
    return (load(this.#cpu.memory.words, this.#at) & HOLDER_MASK) - 1
  }

  /** Lets go. What was written under the lock is visible to the next holder. */
  release(): void {
    const found = exchange(this.#cpu.memory.words, this.#at, 0)
    if ((found & WAITERS) !== 0) wakeEverybody(this.#cpu)
  }

  /** Takes the lock away from a CPU whose thread is gone; gives whether it held it. */
  recover(dead: number): boolean {
    const { words } = this.#cpu.memory
    for (;;) {
      const found = load(words, this.#at)
      if ((found & HOLDER_MASK) !== dead + 1) return false
      if (compareExchange(words, this.#at, found, 0) !== found) continue
      wakeEverybody(this.#cpu)
      return true
    }
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

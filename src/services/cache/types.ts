/**
 * The memory types of a cache's keys: the same on all threads at every moment, because they are changed in
 * rendezvous only (kernel/mtrr.ts). Here is what a thread's part of the cache does about them.
 */

import type { Key } from '../../hardware/tlb.ts'
import type { KeyRange } from '../../kernel/key-range.ts'
import type { Machine } from '../../kernel/machine.ts'
import type { CacheType } from './options.ts'

/** The types of one cache, on one thread. */
export class CacheTypes {
  readonly #machine: Machine
  readonly #mm: number
  readonly #space: string
  readonly #undo: () => void
  /** Writes under way: they were begun under the types of now. */
  readonly #writes = new Set<Promise<unknown>>()

  /**
   * Declares the type of keys that no range names. `onChange` drops every copy and fences every fill: it runs
   * while all threads stand still. Throws `IPI_TYPE_CONFLICT` if another thread has said something else.
   */
  constructor(machine: Machine, mm: number, space: string, type: CacheType, onChange: () => void) {
    const { types } = machine.kernel
    types.declare(mm, type)
    this.#machine = machine
    this.#mm = mm
    this.#space = space
    this.#undo = types.onChange(mm, () => {
      onChange()
      return this.#writes.size === 0 ? undefined : Promise.allSettled(this.#writes)
    })
  }

  /** Whether copies of a key are kept. */
  mayKeep(key: Key): boolean {
    return this.of(key) !== 'uncacheable'
  }

  /**
   * What holds of a key. What this cache does not do is done in the nearest way that is ordered more strictly:
   * nothing is held back, so what may be combined is uncacheable, and what may be written back is written
   * through.
   */
  of(key: Key): CacheType {
    const type = this.#machine.kernel.types.typeOf(this.#mm, key)
    if (type === 'write-combining') return 'uncacheable'
    return type === 'write-back' ? 'write-through' : type
  }

  /** A write that a change of types waits for. */
  async writing<T>(write: Promise<T>): Promise<T> {
    this.#writes.add(write)
    try {
      return await write
    } finally {
      this.#writes.delete(write)
    }
  }

  /** Changes types on all threads at once: see `machine.mtrr.setType`. */
  async set(range: KeyRange, type: CacheType | undefined): Promise<void> {
    await this.#machine.mtrr.setType(this.#space, range, type)
  }

  /** Nobody is told any more. */
  close(): void {
    this.#undo()
  }
}

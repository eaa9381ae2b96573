/**
 * One walk for a key in the whole machine: whoever walks holds a lock of the space, which a dead thread cannot
 * hold; who wants the same key meanwhile waits, and takes the value from the thread that has walked. What it
 * takes is fenced like what it would have read itself.
 */

import { FILL_LOCK_COUNT, SPACE, spaceLog } from '../../hardware/layout.ts'
import { load, store } from '../../hardware/memory.ts'
import type { Key } from '../../hardware/tlb.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { RobustLock } from '../../kernel/robust-lock.ts'
import type { Loading } from './loading.ts'

/** What a thread is asked for, and answers if it has it. */
interface Question {
  readonly mm: number
  readonly key: Key
}
interface Answer {
  readonly value: unknown
}

const HELD = 'interprocessor.cacheHeld'

/** What the caches of a thread hold, by space. */
const holders = new WeakMap<Kernel, Map<number, (key: Key) => Answer | undefined>>()

function holdersOf(kernel: Kernel): Map<number, (key: Key) => Answer | undefined> {
  let held = holders.get(kernel)
  if (held === undefined) {
    held = new Map()
    holders.set(kernel, held)
    kernel.functions.register(HELD, ({ mm, key }: Question) => holders.get(kernel)?.get(mm)?.(key))
  }
  return held
}

/** The fills of one cache that all threads share. */
export class Stampede {
  readonly #kernel: Kernel
  readonly #mm: number
  readonly #at: number
  readonly #locks: readonly RobustLock[]

  /** `held`: what this thread has of a key, for others. Runs in handlers. */
  constructor(kernel: Kernel, mm: number, held: (key: Key) => Answer | undefined) {
    this.#kernel = kernel
    this.#mm = mm
    this.#at = spaceLog(kernel.cpu.memory, mm)
    this.#locks = Array.from(
      { length: FILL_LOCK_COUNT },
      (_, place) => new RobustLock(kernel.cpu, this.#at + SPACE.fillLocks + place),
    )
    holdersOf(kernel).set(mm, held)
  }

  /**
   * Walks, or takes what another thread has walked for. `walk` ends when its result is kept, or is not: then
   * the next may walk.
   */
  async walk<V>(
    loading: Loading<V>,
    walk: () => Promise<V | undefined>,
    take: (value: V | undefined) => Promise<V | undefined>,
  ): Promise<V | undefined> {
    const { words } = this.#kernel.cpu.memory
    const place = (loading.hash >>> 0) % FILL_LOCK_COUNT
    const lock = this.#locks[place]!
    if (lock.tryAcquire()) {
      store(words, this.#at + SPACE.fillHashes + place, loading.hash)
      try {
        return await walk()
      } finally {
        lock.release()
      }
    }
    const answer = await this.#fromHolder(loading, place)
    return answer === undefined ? walk() : take(answer.value as V | undefined)
  }

  /** What the thread that walks for the same key has in the end; undefined if it has nothing for us. */
  async #fromHolder<V>(loading: Loading<V>, place: number): Promise<Answer | undefined> {
    const { cpu, waits, calls, flushes } = this.#kernel
    const lock = this.#locks[place]!
    const { holder } = lock
    const hashAt = this.#at + SPACE.fillHashes + place
    const isFor = (): boolean => load(cpu.memory.words, hashAt) === loading.hash
    // Of another key, or of this thread, which has been fenced.
    if (holder < 0 || holder === cpu.id || !isFor()) return undefined
    // However that ends: if in vain, this thread walks, and finds out why.
    const isOver = (): boolean => lock.holder !== holder || !isFor()
    await waits
      .until(isOver, flushes.timeoutMs, () => undefined, loading.signal)
      .catch(() => undefined)
    const question: Question = { mm: this.#mm, key: loading.key }
    // It may be dead, or its value cannot be cloned.
    const answer = await calls.single(holder, HELD, question).catch(() => undefined)
    return answer as Answer | undefined
  }

  /** This thread has nothing for others any more. */
  close(): void {
    holdersOf(this.#kernel).delete(this.#mm)
  }
}

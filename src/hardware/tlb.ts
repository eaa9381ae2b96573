/**
 * A translation lookaside buffer: one thread's private copies of translations. Intel SDM vol. 3,
 * chapter "Paging", "Caching Translation Information". Minimal: it holds everything it is given.
 */

/** A translation as the buffer keeps it; `global` ones survive a change of address space. */
interface Translation {
  readonly value: unknown
  readonly global: boolean
}

/** One CPU's buffer. Touched only with interrupts off, so that a flush never finds it half changed. */
export class TranslationBuffer {
  readonly #entries = new Map<number, Translation>()

  /** How many translations it holds. */
  get size(): number {
    return this.#entries.size
  }

  /** Whether a translation of `address` is held. */
  has(address: number): boolean {
    return this.#entries.has(address)
  }

  /** The translation of `address`, or undefined. */
  lookup(address: number): unknown {
    return this.#entries.get(address)?.value
  }

  /** Keeps a translation. */
  fill(address: number, value: unknown, global = false): void {
    this.#entries.set(address, { value, global })
  }

  /** INVLPG: forgets one translation, global or not. */
  invalidatePage(address: number): void {
    this.#entries.delete(address)
  }

  /** Loading CR3: forgets every translation that is not global. */
  reload(): void {
    for (const [address, { global }] of this.#entries) if (!global) this.#entries.delete(address)
  }

  /** Toggling CR4.PGE: forgets everything. */
  flushAll(): void {
    this.#entries.clear()
  }
}

/**
 * The oracle of the groups about stale reads: what the authority holds, what every reader may expect,
 * and what the readers have counted, in shared memory.
 */

/** Keys of a run, and CPUs: 0 writes, the others read. */
export const KEYS = 1000
export const CPUS = 3
export const READERS: readonly number[] = [1, 2]
/** Words that one CPU counts in; processors fetch lines in pairs. */
const COUNTER_WORDS = 32

/** What a reader counts. */
const COUNTER = { reads: 0, walks: 1, stale: 2, pending: 3, failed: 4 } as const

/** The name of a counter. */
export type Counter = keyof typeof COUNTER

/** One thread's view of the oracle. */
export class Versions {
  readonly buffer: SharedArrayBuffer
  readonly #committed: Int32Array<SharedArrayBuffer>
  readonly #floors: Int32Array<SharedArrayBuffer>
  readonly #counters: Int32Array<SharedArrayBuffer>

  constructor(buffer = new SharedArrayBuffer((2 * KEYS + CPUS * COUNTER_WORDS) * 4)) {
    this.buffer = buffer
    this.#committed = new Int32Array(this.buffer, 0, KEYS)
    this.#floors = new Int32Array(this.buffer, KEYS * 4, KEYS)
    this.#counters = new Int32Array(this.buffer, 2 * KEYS * 4)
  }

  /** What the authority holds now. */
  committed(key: number): number {
    return Atomics.load(this.#committed, key)
  }

  /** Changes what the authority holds; gives the new version. */
  commit(key: number): number {
    return Atomics.add(this.#committed, key, 1) + 1
  }

  /** Whoever begins to read now must see this version, or a newer one. */
  floor(key: number): number {
    return Atomics.load(this.#floors, key)
  }

  /** A change has been acknowledged. By one thread only. */
  acknowledge(key: number, version: number): void {
    if (version > this.floor(key)) Atomics.store(this.#floors, key, version)
  }

  /** Counts something on a CPU. */
  count(cpu: number, counter: Counter, by = 1): void {
    Atomics.add(this.#counters, cpu * COUNTER_WORDS + COUNTER[counter], by)
  }

  /** The sum of what all have counted. */
  sum(counter: Counter): number {
    let sum = 0
    for (let cpu = 0; cpu < CPUS; cpu++) {
      sum += Atomics.load(this.#counters, cpu * COUNTER_WORDS + COUNTER[counter])
    }
    return sum
  }
}

/**
 * A board of shared words: how the threads of a machine test tell each other where they are without
 * the library that is being tested. Races are arranged with it; nothing sleeps to win one.
 */

import { setTimeout as pause } from 'node:timers/promises'

/** Longer than anything takes on a machine that is busy with something else. */
export const DEADLINE_MS = 20_000

/** What the words mean. Tests use `free` and what follows as they like. */
export const WORD = {
  /** How many threads have come to the place where they wait. */
  entered: 0,
  /** Not 0: they may go on. */
  release: 1,
  /** Tasks that have sent what they had to send. */
  sent: 2,
  /** Tasks that are done. */
  done: 3,
  /** Counted by the shared function `count`. */
  counted: 4,
  free: 8,
  /** Calls that were run, by target and sender: a matrix of BOARD_CPUS. */
  calls: 64,
  /** Interrupts that were handled, by target and sender. */
  vectors: 128,
} as const

/** Rows and columns of the matrices. */
export const BOARD_CPUS = 8
const BOARD_WORDS = 512

/** Words that all threads of a test see. */
export class Board {
  readonly words: Int32Array<SharedArrayBuffer>

  constructor(buffer = new SharedArrayBuffer(BOARD_WORDS * Int32Array.BYTES_PER_ELEMENT)) {
    this.words = new Int32Array(buffer)
  }

  get(word: number): number {
    return Atomics.load(this.words, word)
  }

  set(word: number, value: number): void {
    Atomics.store(this.words, word, value)
    Atomics.notify(this.words, word)
  }

  add(word: number, value = 1): void {
    Atomics.add(this.words, word, value)
    Atomics.notify(this.words, word)
  }

  /** Blocks this thread until a word is at least `value`: no safepoint, no event loop. */
  block(word: number, value = 1): void {
    const deadline = performance.now() + DEADLINE_MS
    for (let found = this.get(word); found < value; found = this.get(word)) {
      const rest = deadline - performance.now()
      if (rest <= 0) throw new Error(`word ${word} stayed ${found}, expected ${value}`)
      Atomics.wait(this.words, word, found, rest)
    }
  }

  /** Resolves when a word is at least `value`. */
  reached(word: number, value = 1): Promise<void> {
    return until(
      () => this.get(word) >= value,
      () => `word ${word} is ${this.get(word)}, expected ${value}`,
    )
  }

  /** All words 0 again. Nobody may be waiting on one. */
  clear(): void {
    this.words.fill(0)
  }
}

/** Looks at a condition until it holds. The event loop turns meanwhile, and stays alive. */
export async function until(
  condition: () => boolean,
  describe: () => string,
  deadlineMs = DEADLINE_MS,
): Promise<void> {
  const deadline = performance.now() + deadlineMs
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${describe()}`)
    await pause(1)
  }
}

/** A promise that must settle: keeps the event loop alive, and says what it is that did not. */
export async function settled<T>(
  promise: Promise<T>,
  what: string,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: did not settle`)), deadlineMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

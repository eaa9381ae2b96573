/** The bare way to call sleeping threads: one generation word, and everybody in `Atomics.wait`. */

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { noAnswer, Scratch, WORD } from './scratch.ts'

/** How long the asker sleeps before it calls the benchmark broken. */
const ANSWER_MS_MAX = 10_000

/** Threads that sleep on a generation word. */
export class GenerationThreads {
  readonly #scratch = new Scratch()
  readonly #workers: readonly Worker[]

  private constructor(threads: number) {
    const { buffer } = this.#scratch
    const script = new URL('../workers/generation.js', import.meta.url)
    this.#workers = Array.from(
      { length: threads },
      (_, i) => new Worker(script, { workerData: { buffer, threads, index: i + 1 } }),
    )
  }

  /** Starts so many; resolves when all have begun to sleep. */
  static async start(threads: number): Promise<GenerationThreads> {
    const started = new GenerationThreads(threads)
    await Promise.all(started.#workers.map((worker) => once(worker, 'message')))
    return started
  }

  /** Wakes all and blocks until each has answered. */
  ask(): void {
    const { words } = this.#scratch
    const threads = this.#workers.length
    Atomics.store(words, WORD.answers, 0)
    Atomics.add(words, WORD.generation, 1)
    Atomics.notify(words, WORD.generation)
    for (;;) {
      const answers = Atomics.load(words, WORD.answers)
      if (answers === threads) return
      if (Atomics.wait(words, WORD.answers, answers, ANSWER_MS_MAX) === 'timed-out') {
        noAnswer('a bare generation word')
      }
    }
  }

  /** Ends them. */
  async stop(): Promise<void> {
    const { words } = this.#scratch
    Atomics.store(words, WORD.generation, -1)
    Atomics.notify(words, WORD.generation)
    await Promise.all(this.#workers.map((worker) => once(worker, 'exit')))
  }
}

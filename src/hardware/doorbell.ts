/**
 * The doorbell's asynchronous half: how a parked thread is woken without blocking its event loop.
 * A pending `Atomics.waitAsync` cannot be withdrawn, so at most one is armed per thread, ever.
 */

import { CPU } from './layout.ts'
import type { MachineMemory } from './machine-memory.ts'
import { load, waitAsync, type SharedWords } from './memory.ts'

/** One thread's armed wait. Belongs to the thread that owns the CPU. */
export class Doorbell {
  readonly #words: SharedWords
  readonly #at: number
  readonly #onRing: () => void
  #armed = false

  /** `onRing` is called from the event loop each time an armed wait ends. */
  constructor(memory: MachineMemory, cpu: number, onRing: () => void) {
    this.#words = memory.words
    this.#at = memory.cpuPage(cpu) + CPU.doorbell
    this.#onRing = onRing
  }

  /**
   * Arms the wait, if none is armed. The caller then looks at `attention`: a sender that posted
   * before the doorbell was read here has not rung for us.
   */
  arm(): void {
    if (this.#armed) return
    let rung: Promise<unknown> | undefined
    // Undefined means that it rang between the two steps: read the doorbell again.
    while (rung === undefined) rung = waitAsync(this.#words, this.#at, load(this.#words, this.#at))
    this.#armed = true
    void rung.then(this.#onRung)
  }

  /** Bears a name: a backtrace that finds a CPU here finds it idle. */
  readonly #onRung = (): void => {
    this.#armed = false
    this.#onRing()
  }
}

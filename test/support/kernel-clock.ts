/** A clock that only the test moves, and the timers that run by it. */

import type { Platform, Timer } from '../../src/hardware/platform.ts'

/** A timer that was started. */
interface HandTimer {
  readonly at: number
  readonly callback: () => void
}

/** The clock and the timers of one thread. Begins at 0. */
export class HandClock {
  nowMs = 0
  /** How many timers were ever started. */
  started = 0
  readonly #pending = new Set<HandTimer>()

  /** When the pending timers will fire, ascending. */
  get pending(): number[] {
    return [...this.#pending].map(({ at }) => at).sort((a, b) => a - b)
  }

  /** Puts the clock behind a platform; gives the platform. */
  drive(platform: Platform): Platform {
    return Object.assign(platform, {
      now: () => this.nowMs,
      startTimer: (delayMs: number, callback: () => void) => this.#start(delayMs, callback),
    })
  }

  #start(delayMs: number, callback: () => void): Timer {
    const timer = { at: this.nowMs + delayMs, callback }
    this.#pending.add(timer)
    this.started++
    return { cancel: () => void this.#pending.delete(timer) }
  }

  /** Lets time pass up to a moment, and fires what is due on the way, the earliest first. */
  moveTo(ms: number): void {
    for (;;) {
      const [next] = [...this.#pending].sort((a, b) => a.at - b.at)
      if (next === undefined || next.at > ms) break
      this.#pending.delete(next)
      this.nowMs = next.at
      next.callback()
    }
    this.nowMs = ms
  }
}

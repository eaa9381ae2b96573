/** A thread of an explored machine: its event loop, and what the library asks of its platform. */

import type { Platform } from '../../src/hardware/platform.ts'
import { Bus, WAIT_RESULT, type Access } from '../../src/testing.ts'
import type { Job } from './explorer-promises.ts'
import {
  $async,
  $Gen,
  $pause,
  $peek,
  armed,
  type $Promise,
  type Clock,
} from './explorer-runtime.ts'

/** Goes on with what a call of instrumented code gave. */
export function* go<T>(given: T): Generator<Access, T, number> {
  const result: unknown = given instanceof $Gen ? yield* given : given
  return result as T
}

interface DueTimer {
  readonly at: number
  readonly callback: () => unknown
}

/** One thread. */
export class ExploredThread {
  /** Its microtasks. */
  readonly jobs: Job[] = []
  /** What its event loop does in later turns: what was deferred, and what comes from outside. */
  readonly deferred: Job[] = []
  readonly #timers = new Set<DueTimer>()
  readonly #clock: Clock
  /** Whether it ends as soon as its program has. */
  hasLeft = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Its platform: one processor, or two if time passes, since whoever polls needs one of its own. */
  platform(): Platform {
    const refuse = (): never => {
      throw new Error('not in a scenario')
    }
    return {
      now: () => this.#clock.now(),
      mayBlock: true,
      processors: this.#clock.moves ? 2 : 1,
      startTimer: (delayMs, callback) => {
        const timer = { at: this.#clock.now() + delayMs, callback }
        this.#timers.add(timer)
        return { cancel: () => void this.#timers.delete(timer) }
      },
      defer: (callback) => void this.deferred.push(callback),
      sleptMs: () => Number.NaN,
      keepAlive: () => undefined,
      createChannel: refuse,
      adoptPort: refuse,
      startThread: refuse,
      adoptThread: refuse,
      importModule: refuse,
      createAbortController: refuse,
      isCloneable: () => true,
      warn: () => undefined,
      warnNow: () => undefined,
      onThreadExit: () => () => undefined,
      isObserved: () => false,
      publish: () => undefined,
    }
  }

  /**
   * Runs a program, which may await, and then the event loop, asleep on the doorbell at `at`. If the
   * program has not ended, nobody who sleeps here rests: it waits for something.
   */
  *run(
    main: () => Generator<Access, void, number>,
    words: Int32Array<SharedArrayBuffer>,
    at: number,
  ): Generator<Access, void, number> {
    let over = false
    let errors: readonly unknown[] = []
    const program: $Promise = yield* $async(main)
    program.then(
      () => void (over = true),
      (error) => void (errors = [error]),
    )
    for (;;) {
      if (yield* this.#turn()) continue
      for (const error of errors) throw error
      const wait = armed.get(at)
      if (this.hasLeft) return
      if (wait === undefined) {
        if (over) return
        throw new Error('its program waits, and nothing keeps its event loop')
      }
      const result = yield this.#sleep(at, wait.expected, over)
      if (result === WAIT_RESULT.timedOut) this.#clock.advance(this.#nextTimer())
      // Something else may have woken it; a ring has changed the word.
      if ($peek(words, at) === wait.expected) continue
      armed.delete(at)
      yield* go(wait.onRing())
    }
  }

  /** One thing that there is to do; gives whether there was one. */
  *#turn(): Generator<Access, boolean, number> {
    const job = this.jobs.shift()
    if (job !== undefined) {
      yield* go(job())
      return true
    }
    const timer = this.#dueTimer()
    if (timer !== undefined) {
      this.#timers.delete(timer)
      yield* go(timer.callback())
      return true
    }
    const next = this.deferred.shift()
    if (next === undefined) return false
    // A loop that turns for nothing is one that spins.
    if (this.#clock.moves) yield* $pause()
    yield* go(next())
    return true
  }

  #sleep(at: number, expected: number, over: boolean): Access {
    const bus = new Bus()
    if (this.#clock.moves && this.#nextTimer() < Infinity) return bus.wait(at, expected, true)
    return over ? bus.idle(at, expected) : bus.wait(at, expected)
  }

  #nextTimer(): number {
    return Math.min(Infinity, ...[...this.#timers].map((timer) => timer.at))
  }

  #dueTimer(): DueTimer | undefined {
    if (!this.#clock.moves || this.#timers.size === 0) return undefined
    const now = this.#clock.now()
    return [...this.#timers].find((timer) => timer.at <= now)
  }
}

/**
 * Accesses to shared memory, as a program yields them: it says what it wants to do, the scheduler
 * does it when it has chosen this CPU, and hands back the result.
 */

/** What an access does. The names are those of `Atomics`. */
export type Operation =
  | 'load'
  | 'store'
  | 'add'
  | 'or'
  | 'and'
  | 'exchange'
  | 'compareExchange'
  | 'wait'
  | 'notify'
  | 'pause'
  | 'boundary'

/** How a wait or a pause ended: what `yield bus.wait(…)` gives. */
export const WAIT_RESULT = { ok: 0, notEqual: 1, timedOut: 2 } as const

/** Kinds of waits, and of pauses: the value of the access. */
export const WAIT = { forEver: 0, timed: 1, idle: 2 } as const

/** The access that a CPU wants to make next. */
export interface Access {
  readonly operation: Operation
  /** The index of the word. */
  readonly at: number
  /** What is stored, added, …; of `notify` how many to wake. */
  readonly value: number
  /** What `compareExchange` and `wait` expect to find. */
  readonly expected: number
}

/**
 * One CPU's way to shared memory. Each method says what to do; the program yields what it gives:
 * `const old = yield bus.compareExchange(0, 0, 1)`. All are sequentially consistent, as `Atomics` is.
 */
export class Bus implements Access {
  operation: Operation = 'pause'
  at = 0
  value = 0
  expected = 0

  #say(operation: Operation, at: number, value: number, expected: number): Access {
    this.operation = operation
    this.at = at
    this.value = value
    this.expected = expected
    return this
  }

  /** Gives the word. */
  load(at: number): Access {
    return this.#say('load', at, 0, 0)
  }

  /** Writes the word; gives the value. */
  store(at: number, value: number): Access {
    return this.#say('store', at, value, 0)
  }

  /** Adds; gives the old word. */
  add(at: number, value: number): Access {
    return this.#say('add', at, value, 0)
  }

  /** Sets bits; gives the old word. */
  or(at: number, bits: number): Access {
    return this.#say('or', at, bits, 0)
  }

  /** Keeps bits; gives the old word. */
  and(at: number, bits: number): Access {
    return this.#say('and', at, bits, 0)
  }

  /** Replaces the word; gives the old one. */
  exchange(at: number, value: number): Access {
    return this.#say('exchange', at, value, 0)
  }

  /** Replaces the word if it is `expected`; gives the old one. */
  compareExchange(at: number, expected: number, value: number): Access {
    return this.#say('compareExchange', at, value, expected)
  }

  /**
   * Sleeps while nobody notifies, if the word is `expected`; gives a WAIT_RESULT. With `timed` the
   * sleep may also end by itself: see `Scenario.timeouts`.
   */
  wait(at: number, expected: number, timed = false): Access {
    return this.#say('wait', at, timed ? WAIT.timed : WAIT.forEver, expected)
  }

  /** The same for one who has nothing to do: an event loop may sleep so when all is over. */
  idle(at: number, expected: number): Access {
    return this.#say('wait', at, WAIT.idle, expected)
  }

  /** Wakes at most `count` who wait on the word; gives how many. */
  notify(at: number, count = Infinity): Access {
    return this.#say('notify', at, Math.min(count, 0x7fffffff), 0)
  }

  /**
   * Says that this CPU spins: it looks again when another CPU has written something. What it would
   * see before that is what it has seen. With `timed` it may also look at a clock and find that its
   * time is over: see `Scenario.timeouts`. Gives a WAIT_RESULT.
   */
  pause(timed = false): Access {
    return this.#say('pause', 0, timed ? WAIT.timed : WAIT.forEver, 0)
  }

  /**
   * The boundary of an instruction that touches nothing shared: an interrupt may come here. Where none
   * can come it is no step at all.
   */
  boundary(): Access {
    return this.#say('boundary', 0, 0, 0)
  }
}

/** What one CPU does: yields accesses, gets their results. */
export type Program = (bus: Bus) => Generator<Access, void, number>

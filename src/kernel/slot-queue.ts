/**
 * Calls that wait for free request slots: first come, first served. As many are woken as slots came
 * back, and not all to see who is first.
 */

import type { CallBook } from './call-book.ts'
import type { SuspendedWait, WaitLimits } from './suspended-wait.ts'
import type { Waits } from './wait.ts'

/** How many served places at the head of the queue are kept before they are dropped together. */
const SERVED_MAX = 1024

/** A call that waits for `count` slots. */
interface Waiter {
  readonly count: number
  readonly wait: SuspendedWait
}

/** The queue of one CPU. Private to its thread. */
export class SlotQueue {
  readonly #book: CallBook
  readonly #waits: Waits
  /** In order of arrival, from `#head` on; among them some that gave up. */
  #waiters: Waiter[] = []
  #head = 0
  /** Slots that are free for a waiter who was woken, and has not had its turn yet. */
  #promised = 0

  constructor(book: CallBook, waits: Waits) {
    this.#book = book
    this.#waits = waits
  }

  /** Whether a call may take `count` slots now, without going before somebody who waits. */
  mayTake(count: number): boolean {
    if (count === 0) return true
    return this.#first() === undefined && count <= this.#book.freeCount - this.#promised
  }

  /**
   * Resolves when `count` slots are free and it is this call's turn; the caller then calls `claim`.
   * Rejects as `Waits.suspend` says. `again` puts it before the others: it had its turn, in vain.
   */
  wait(count: number, limits: WaitLimits, again: boolean): Promise<void> {
    const wait = this.#waits.suspend(limits)
    if (wait.isOver) return wait.promise
    if (again) this.#waiters.splice(this.#head, 0, { count, wait })
    else this.#waiters.push({ count, wait })
    // If it gave up, there is perhaps enough for the next.
    wait.onEnd = () => this.onFreed()
    return wait.promise
  }

  /**
   * Ends the promise of `wait`; gives whether it was kept, and then the slots must be taken at once.
   * A blocking call cannot wait for the turn of others, and may have taken them.
   */
  claim(count: number): boolean {
    this.#promised -= count
    return count <= this.#book.freeCount
  }

  /** Slots came back: wakes the first in the queue while there are enough. */
  onFreed(): void {
    for (let first = this.#first(); first !== undefined; first = this.#first()) {
      if (first.count > this.#book.freeCount - this.#promised) return
      this.#head++
      this.#promised += first.count
      first.wait.onEnd = () => undefined
      first.wait.resume()
    }
  }

  /** The first that still waits. */
  #first(): Waiter | undefined {
    while (this.#waiters[this.#head]?.wait.isOver === true) this.#head++
    if (this.#head > SERVED_MAX) {
      this.#waiters = this.#waiters.slice(this.#head)
      this.#head = 0
    }
    return this.#waiters[this.#head]
  }
}

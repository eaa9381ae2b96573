/**
 * How long polling pays before a CPU sleeps: adaptive, as in KVM (`virt/kvm/kvm_main.c`,
 * grow_halt_poll_ns and shrink_halt_poll_ns), with one rule more. There the poller has a processor of
 * its own; here it may stand on the one that the other side needs, and then it never catches anything.
 */

/** The first polling time after a wake-up that polling would have caught. */
const START_MS = 0.02
/** How fast it grows, and shrinks: one late wake-up on a busy machine says little. */
const FACTOR = 2
/** How often more than growing takes polling may be in vain in a row, before it stops. */
const FAILURES_MORE = 2
/** How many wake-ups it then lets pass before it tries again: at first, and at most. */
const REST_MIN = 2
const REST_MAX = 64

/** One polling time, and what it has learned. */
export class HaltPolling {
  readonly #maxMs: number
  #ms = 0
  readonly #failuresMax: number
  #failures = 0
  /** Wake-ups to let pass, and how many it will be the next time. */
  #rest = 0
  #nextRest = REST_MIN

  /** `maxMs`: the longest time to poll. 0: never; Infinity: always. */
  constructor(maxMs: number) {
    this.#maxMs = maxMs
    if (maxMs === Infinity) this.#ms = Infinity
    const growths = Math.ceil(Math.log2(Math.max(1, maxMs / START_MS)))
    this.#failuresMax = growths + FAILURES_MORE
  }

  /** How long to poll now, in milliseconds. */
  get ms(): number {
    return this.#ms
  }

  /** What was waited for came `sleptMs` after the wait had begun, and polling had not caught it. */
  woke(sleptMs: number): void {
    if (this.#ms === Infinity) return
    if (this.#rest > 0) this.#rest--
    else if (sleptMs > this.#maxMs) this.#ms = this.#ms <= START_MS ? 0 : this.#ms / FACTOR
    else this.#ms = Math.min(this.#maxMs, Math.max(START_MS, this.#ms * FACTOR))
  }

  /** Polling has ended, with or without what it waited for. */
  polled(caught: boolean): void {
    if (this.#ms === Infinity) return
    if (caught) {
      this.#failures = 0
      this.#nextRest = REST_MIN
    } else if (++this.#failures >= this.#failuresMax) {
      this.#failures = 0
      this.#ms = 0
      this.#rest = this.#nextRest
      this.#nextRest = Math.min(REST_MAX, this.#nextRest * 2)
    }
  }
}

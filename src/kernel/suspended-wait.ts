/**
 * Waits in progress on the event loop: what an `await` of this library hangs on. Most end long before
 * their deadline, so a deadline must cost little to set and nothing to take back: one timer serves
 * all, and is set for the earliest.
 */

import { Bag, type BagMember } from '../base/bag.ts'
import type { Platform, Timer } from '../hardware/platform.ts'

/** What the library needs of an AbortSignal; any environment's will do. */
export interface AbortSignalLike {
  readonly aborted: boolean
  readonly reason: unknown
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** How a wait may end other than well. */
export interface WaitLimits {
  /** When to give up, on the platform's clock; Infinity: never. */
  readonly at: number
  /** Makes the error of a wait that took too long. */
  readonly onTimeout: () => unknown
  readonly signal?: AbortSignalLike | undefined
  /** Called when the signal has ended the wait. */
  readonly onAbort?: () => void
}

/** One such wait. It ends once, and nothing it is told later has an effect. */
export class SuspendedWait implements BagMember {
  /** Resolves when it is resumed; rejects at its deadline, with its signal, or with the CPU. */
  readonly promise: Promise<void>
  readonly limits: WaitLimits
  /** What it waits for, if that can be looked at. */
  readonly condition: (() => boolean) | undefined
  /** Called when it has ended, before its promise is settled. */
  onEnd: () => void = () => undefined
  place = -1
  readonly #waits: SuspendedWaits
  readonly #onAbort: (() => void) | undefined
  #isOver = false
  #resolve!: () => void
  #reject!: (error: unknown) => void

  /** @internal */
  constructor(waits: SuspendedWaits, limits: WaitLimits, condition: (() => boolean) | undefined) {
    this.promise = new Promise<void>((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#waits = waits
    this.limits = limits
    this.condition = condition
    const { signal } = limits
    if (signal === undefined) return
    this.#onAbort = () => {
      if (this.fail(signal.reason)) limits.onAbort?.()
    }
    signal.addEventListener('abort', this.#onAbort)
  }

  /** Whether it has ended. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Ends it well. */
  resume(): void {
    if (!this.#end()) return
    this.#resolve()
    this.#forgetSignal()
  }

  /** Ends it with an error; gives whether it had not ended before. */
  fail(error: unknown): boolean {
    if (!this.#end()) return false
    this.#reject(error)
    this.#forgetSignal()
    return true
  }

  /** Ends it if its signal has come already: then nobody will call. */
  heedSignal(): void {
    if (this.limits.signal?.aborted === true) this.#onAbort?.()
  }

  #forgetSignal(): void {
    if (this.#onAbort !== undefined) this.limits.signal?.removeEventListener('abort', this.#onAbort)
  }

  #end(): boolean {
    if (!this.#waits.delete(this)) return false
    this.#isOver = true
    this.onEnd()
    return true
  }
}

/** The waits of one thread, and the timer for their deadlines. */
export class SuspendedWaits {
  readonly #platform: Platform
  /** Called when one has ended. */
  readonly #onDelete: () => void
  readonly #plain = new Bag<SuspendedWait>()
  /** In order: whoever waits longest for a lock tries first. There are never many. */
  readonly #conditional = new Set<SuspendedWait>()
  #timer: Timer | undefined
  #timerAt = Infinity

  constructor(platform: Platform, onDelete: () => void) {
    this.#platform = platform
    this.#onDelete = onDelete
  }

  /** Starts a wait. It is over at once if its signal has come already. */
  add(limits: WaitLimits, condition: (() => boolean) | undefined): SuspendedWait {
    const wait = new SuspendedWait(this, limits, condition)
    if (condition === undefined) this.#plain.add(wait)
    else this.#conditional.add(wait)
    if (limits.at < this.#timerAt) this.#startTimer(limits.at)
    wait.heedSignal()
    return wait
  }

  /** Takes one out that ends; gives whether it was in. The timer goes on, and finds nothing. */
  delete(wait: SuspendedWait): boolean {
    const deleted = this.#plain.delete(wait) || this.#conditional.delete(wait)
    if (deleted) this.#onDelete()
    return deleted
  }

  /** Resumes those whose condition holds, as `holds` finds. */
  recheck(holds: (condition: () => boolean) => boolean): void {
    for (const wait of this.#conditional) if (holds(wait.condition!)) wait.resume()
  }

  /** Ends all with an error. */
  fail(error: unknown): void {
    for (const wait of this.#conditional) wait.fail(error)
    for (const wait of this.#plain) wait.fail(error)
  }

  #startTimer(at: number): void {
    this.#timer?.cancel()
    this.#timerAt = at
    const delayMs = Math.max(0, Math.ceil(at - this.#platform.now()))
    this.#timer = this.#platform.startTimer(delayMs, () => this.#onTimer())
  }

  #onTimer(): void {
    this.#timerAt = Infinity
    const now = this.#platform.now()
    let next = Infinity
    for (const waits of [this.#conditional, this.#plain]) {
      for (const wait of waits) {
        const { at, onTimeout } = wait.limits
        if (at <= now) wait.fail(onTimeout())
        else if (at < next) next = at
      }
    }
    if (next < this.#timerAt) this.#startTimer(next)
  }
}

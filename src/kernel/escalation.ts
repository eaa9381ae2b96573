/**
 * Escalation: an interrupt whose target does not answer is delivered by force after `forceAfterMs`, and
 * again after as long, until it answers. The target decides whether it may run what it was sent in the
 * middle of other JavaScript (hardware/core.ts, deliverInterrupts); nothing is lost if not.
 *
 * Most are calls and flushes, which somebody waits for, and which end with that wait. Nobody waits for a
 * CPU to reschedule: that ends by itself, when nobody is late any more.
 */

import { Bag, type BagMember } from '../base/bag.ts'
import type { Timer } from '../hardware/platform.ts'
import type { Cpu } from './cpu.ts'
import type { ForcedEntry } from './forced.ts'

/** A wait whose targets are entered by force when they are late. */
export interface Overdue extends BagMember {
  /** Those that have not begun to answer. */
  readonly late: () => readonly number[]
  readonly afterMs: number
  /** When to look again, on the platform's clock. */
  at: number
  /** How often CPUs were entered for it. */
  forcedCount: number
  /** Whether it is over once nobody is late. */
  readonly endsItself: boolean
}

/** The overdue waits of one CPU. Private to its thread; costs nothing while there is none. */
export class Escalation {
  readonly #cpu: Cpu
  readonly #forced: ForcedEntry
  readonly #waits = new Bag<Overdue>()
  /** Those that nobody waits for, by their target. */
  readonly #unawaited = new Map<number, Overdue>()
  #timer: Timer | undefined
  #timerAt = Infinity

  constructor(cpu: Cpu, forced: ForcedEntry) {
    this.#cpu = cpu
    this.#forced = forced
  }

  /** From now on `late` CPUs are entered every `afterMs`, until `forget`. */
  watch(late: () => readonly number[], afterMs: number, endsItself = false): Overdue {
    const at = this.#cpu.platform.now() + afterMs
    const wait: Overdue = { late, afterMs, at, forcedCount: 0, endsItself, place: -1 }
    this.#waits.add(wait)
    if (at < this.#timerAt) this.#startTimer(at)
    return wait
  }

  /**
   * The same of one CPU, for what nobody waits for, until `isLate` does not hold. Asked again, it begins
   * anew: there is one for each CPU, however often it is told. Any context.
   */
  follow(target: number, isLate: () => boolean, afterMs: number): void {
    const { core, platform } = this.#cpu
    // What a forced entry came into may be the start of a timer, or this very file.
    if (core.isForced) return platform.defer(() => this.follow(target, isLate, afterMs))
    const known = this.#unawaited.get(target)
    if (known !== undefined && known.place >= 0) {
      known.at = platform.now() + afterMs
      return
    }
    const late = (): readonly number[] => (isLate() ? [target] : [])
    this.#unawaited.set(target, this.watch(late, afterMs, true))
  }

  /** It has ended. The timer goes on, and finds nothing. */
  forget(wait: Overdue): void {
    this.#waits.delete(wait)
  }

  /** Has everybody entered who is due. Also called by a blocked wait, whose timers stand still. */
  look(): void {
    const now = this.#cpu.platform.now()
    for (const wait of this.#waits) {
      if (wait.at > now) continue
      const late = wait.late()
      // Repeated although it was asked for before: what stood in the way then may be gone.
      for (const cpu of late) if (this.#forced.force(cpu, true)) wait.forcedCount++
      wait.at = now + wait.afterMs
      if (wait.endsItself && late.length === 0) this.forget(wait)
    }
  }

  /** Ends it. */
  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#timerAt = Infinity
  }

  #startTimer(at: number): void {
    this.#timer?.cancel()
    this.#timerAt = at
    const { platform } = this.#cpu
    const delayMs = Math.max(0, Math.ceil(at - platform.now()))
    this.#timer = platform.startTimer(delayMs, () => this.#onTimer())
  }

  #onTimer(): void {
    this.stop()
    this.look()
    let next = Infinity
    for (const { at } of this.#waits) next = Math.min(next, at)
    if (next < Infinity) this.#startTimer(next)
  }
}

/**
 * Escalation: an interrupt whose target does not answer is delivered by force after `forceAfterMs`, and
 * again after as long, until it answers. The target decides whether it may run what it was sent in the
 * middle of other JavaScript (hardware/core.ts, deliverInterrupts); nothing is lost if not.
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
}

/** The overdue waits of one CPU. Private to its thread; costs nothing while there is none. */
export class Escalation {
  readonly #cpu: Cpu
  readonly #forced: ForcedEntry
  readonly #waits = new Bag<Overdue>()
  #timer: Timer | undefined
  #timerAt = Infinity

  constructor(cpu: Cpu, forced: ForcedEntry) {
    this.#cpu = cpu
    this.#forced = forced
  }

  /** From now on `late` CPUs are entered every `afterMs`, until `forget`. */
  watch(late: () => readonly number[], afterMs: number): Overdue {
    const at = this.#cpu.platform.now() + afterMs
    const wait: Overdue = { late, afterMs, at, forcedCount: 0, place: -1 }
    this.#waits.add(wait)
    if (at < this.#timerAt) this.#startTimer(at)
    return wait
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
      // Repeated although it was asked for before: what stood in the way then may be gone.
      for (const cpu of wait.late()) if (this.#forced.force(cpu, true)) wait.forcedCount++
      wait.at = now + wait.afterMs
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

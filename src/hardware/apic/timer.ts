/**
 * The APIC timer. Intel SDM vol. 3, chapter "APIC", "APIC Timer".
 *
 * Nothing ticks here. A running timer is the count it had at one instant; what it shows and when it
 * expires follow from the clock. Somebody must ask: `poll` fires what is due and says when to ask
 * again, so that the machine can arm a timer of its host. The bus clock has 1 GHz, as KVM's
 * (APIC_BUS_CYCLE_NS in arch/x86/kvm/lapic.h), and the time-stamp counter runs with it.
 */

import type { ApicPage } from './page.ts'
import { LVT, REGISTER } from './registers.ts'

/** Bus cycles in a millisecond: what a divided count counts, and the time-stamp counter. */
const BUS_CYCLES_PER_MS = 1_000_000

/** How many bus cycles one count takes, by the divide register: its bits 3, 1 and 0, not in order. */
export function divisorOf(divide: number): number {
  const code = ((divide >>> 1) & 4) | (divide & 3)
  return 1 << ((code + 1) & 7)
}

/** The timer of one CPU. Only its owner has one. */
export class ApicTimer {
  readonly #page: ApicPage
  readonly #clock: () => number
  readonly #onExpiry: () => void
  readonly #onArm: () => void
  /** The count, and the clock in ms, when it was last loaded. A count of 0 stands still. */
  #loadedCount = 0
  #loadedAt = 0
  /** When the count reaches 0, or the deadline is: in ms on the clock. Infinity if it does not run. */
  #expiresAt = Infinity
  #deadline = 0n

  /**
   * `clock` gives milliseconds and never goes back; `onExpiry` raises the timer interrupt; `onArm`
   * is told whenever the time to ask again has changed.
   */
  constructor(page: ApicPage, clock: () => number, onExpiry: () => void, onArm: () => void) {
    this.#page = page
    this.#clock = clock
    this.#onExpiry = onExpiry
    this.#onArm = onArm
  }

  /**
   * Fires if the timer has expired. However many periods have passed unseen, it fires once: the
   * request register has one bit. Gives the clock's time of the next expiry, or Infinity.
   */
  poll(): number {
    const now = this.#clock()
    if (now < this.#expiresAt) return this.#expiresAt
    const expired = this.#expiresAt
    this.#stop()
    if (this.#mode() === LVT.timerPeriodic) {
      const count = this.#page.get(REGISTER.initialCount)
      const period = this.#milliseconds(count)
      this.#load(count, expired + Math.floor((now - expired) / period) * period)
    }
    this.#onExpiry()
    return this.#expiresAt
  }

  /** The current count register. */
  get currentCount(): number {
    const now = this.#clock()
    if (this.poll() === Infinity || this.#mode() === LVT.timerDeadline) return 0
    const elapsed = Math.floor((now - this.#loadedAt) / this.#milliseconds(1))
    // Not yet expired, so not yet 0, whatever the rounding says.
    return Math.max(1, this.#loadedCount - elapsed)
  }

  /** Writes the initial count: 0 stops the timer, anything else starts it anew. */
  writeInitialCount(count: number): void {
    if (this.#mode() === LVT.timerDeadline) return
    this.#page.set(REGISTER.initialCount, count)
    this.#load(count, this.#clock())
  }

  /** Writes the divide configuration: the count stays and goes on at the new rate. */
  writeDivide(divide: number): void {
    const count = this.currentCount
    this.#page.set(REGISTER.divide, divide)
    if (count > 0) this.#load(count, this.#clock())
  }

  /**
   * The timer's LVT entry was written; `oldEntry` is what it held. One-shot and periodic share a
   * count that goes on undisturbed; deadline mode does not, so the way in and the way out both stop.
   */
  modeWritten(oldEntry: number): void {
    const was = (oldEntry & LVT.timerMode) === LVT.timerDeadline
    if (was === (this.#mode() === LVT.timerDeadline)) return
    this.#page.set(REGISTER.initialCount, 0)
    this.#stop()
  }

  /** IA32_TSC_DEADLINE: when the timer fires in deadline mode; 0 once it has, and in other modes. */
  get deadline(): bigint {
    this.poll()
    return this.#deadline
  }

  /** Arms the deadline, or disarms it with 0. One that has passed fires now. */
  set deadline(deadline: bigint) {
    if (this.#mode() !== LVT.timerDeadline) return
    this.#deadline = deadline
    this.#expiresAt = deadline === 0n ? Infinity : Number(deadline) / BUS_CYCLES_PER_MS
    this.poll()
    this.#onArm()
  }

  /** RESET or INIT: counts and divide are 0, and nothing runs. */
  reset(): void {
    this.#stop()
    this.#page.set(REGISTER.initialCount, 0)
    this.#page.set(REGISTER.currentCount, 0)
    this.#page.set(REGISTER.divide, 0)
  }

  #load(count: number, at: number): void {
    this.#loadedCount = count
    this.#loadedAt = at
    this.#expiresAt = count === 0 ? Infinity : at + this.#milliseconds(count)
    this.#onArm()
  }

  #stop(): void {
    this.#load(0, 0)
    this.#deadline = 0n
  }

  #milliseconds(count: number): number {
    return (count * divisorOf(this.#page.get(REGISTER.divide))) / BUS_CYCLES_PER_MS
  }

  #mode(): number {
    return this.#page.get(REGISTER.lvtTimer) & LVT.timerMode
  }
}

/**
 * The local vector table: what the APIC makes of its own timer, its errors and its pins. Intel SDM
 * vol. 3, chapter "APIC", "Local Vector Table".
 */

import { assert } from '../../base/assert.ts'
import { DELIVERY_MODE } from './icr.ts'
import type { ApicPage } from './page.ts'
import type { Receiver } from './receiver.ts'
import { LVT, REGISTER, SVR } from './registers.ts'

/** The offsets of the six entries. */
const LVT_REGISTERS: readonly number[] = [
  REGISTER.lvtTimer,
  REGISTER.lvtThermal,
  REGISTER.lvtPerformance,
  REGISTER.lvtLint0,
  REGISTER.lvtLint1,
  REGISTER.lvtError,
]

/** The table of one CPU. Only its owner has one. */
export class LocalVectorTable {
  readonly #page: ApicPage
  readonly #receiver: Receiver

  constructor(page: ApicPage, receiver: Receiver) {
    this.#page = page
    this.#receiver = receiver
  }

  /** Writes an entry; while the APIC is software disabled it stays masked whatever is written. */
  write(register: number, value: number): void {
    const enabled = (this.#page.get(REGISTER.svr) & SVR.enabled) !== 0
    this.#page.set(register, enabled ? value : value | LVT.masked)
  }

  /** Masks every entry: the APIC was software disabled. Software must unmask them again. */
  maskAll(): void {
    for (const register of LVT_REGISTERS) {
      this.#page.set(register, this.#page.get(register) | LVT.masked)
    }
  }

  /** RESET or INIT: mask bits and nothing else. */
  reset(): void {
    for (const register of LVT_REGISTERS) this.#page.set(register, LVT.masked)
  }

  /** The source of an entry has something to say. A masked entry generates and remembers nothing. */
  signal(register: number): void {
    assert(LVT_REGISTERS.includes(register), 'a local source has an entry in the table')
    const entry = this.#page.get(register)
    if ((entry & LVT.masked) !== 0) return
    // The performance counter's entry masks itself, so that an overflow is reported once.
    if (register === REGISTER.lvtPerformance) this.#page.set(register, entry | LVT.masked)
    switch (entry & LVT.mode) {
      case DELIVERY_MODE.fixed:
        return this.#receiver.acceptFixed(entry & LVT.vector, false)
      case DELIVERY_MODE.nmi:
        return this.#receiver.acceptNmi(1)
      default:
        // SMI, INIT and ExtINT pins: this machine has no such wires.
        return this.#receiver.refuseMode()
    }
  }
}

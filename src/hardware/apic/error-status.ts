/**
 * The error status register. Intel SDM vol. 3, chapter "APIC", "Error Handling".
 *
 * Errors gather out of sight; a write to the register shows what has gathered and starts anew, a
 * read gives what the last write showed. So two writes in a row leave 0, and a read without a write
 * before it is old news.
 */

import { highestBit } from '../../base/bits.ts'
import type { ApicPage } from './page.ts'
import { REGISTER } from './registers.ts'

/** The errors of one CPU's APIC. Only its owner has one. */
export class ErrorStatus {
  readonly #page: ApicPage
  readonly #onError: () => void
  readonly #counts = new Uint32Array(8)
  #gathered = 0

  /** `onError` is called for each error that was not yet gathered: it raises the error interrupt. */
  constructor(page: ApicPage, onError: () => void) {
    this.#page = page
    this.#onError = onError
  }

  /** Notes an error, one bit of ESR. */
  detect(error: number): void {
    this.#counts[highestBit(error)]!++
    // Once per error and write of ESR, as the manual's "re-arms" implies. It also ends the regress
    // in which the error interrupt itself has an illegal vector.
    if ((this.#gathered & error) !== 0) return
    this.#gathered |= error
    this.#onError()
  }

  /** A write of the register: shows the errors gathered so far, and gathers anew. */
  update(): void {
    this.#page.set(REGISTER.esr, this.#gathered)
    this.#gathered = 0
  }

  /** RESET or INIT: nothing shown, nothing gathered. The counts go on. */
  reset(): void {
    this.#gathered = 0
    this.update()
  }

  /** How often an error was detected, since the machine has this CPU. */
  count(error: number): number {
    return this.#counts[highestBit(error)]!
  }
}

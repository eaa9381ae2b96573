/** Which of a CPU's request slots are out, with whom, and who wants to know how they end. */

import type { FunctionRecord } from './functions.ts'

/** How one CPU answered. */
export type Outcome =
  | { readonly ok: true; readonly value: unknown }
  /** `error` makes the error; called where the caller's stack is, which goes under the remote one. */
  | { readonly ok: false; readonly error: () => unknown; readonly offline?: boolean }

/** Who wants to know how a request ended. */
export interface Reader {
  readonly record: FunctionRecord
  settle(cpu: number, outcome: Outcome): void
}

/** The slots of one CPU that are out. Flat arrays by slot: every call passes here twice. */
export class OpenRequests {
  readonly #first: number
  readonly #readers: (Reader | undefined)[]
  readonly #isOpen: Uint8Array
  readonly #targets: Uint8Array
  readonly #incarnations: Int32Array
  #size = 0

  /** For `count` slots from the global number `first` on. */
  constructor(first: number, count: number) {
    this.#first = first
    this.#readers = Array.from({ length: count }, () => undefined)
    this.#isOpen = new Uint8Array(count)
    this.#targets = new Uint8Array(count)
    this.#incarnations = new Int32Array(count)
  }

  /** How many are out. */
  get size(): number {
    return this.#size
  }

  /** Enters a slot, or changes who wants to know; nobody, if `reader` is undefined. */
  set(slot: number, reader: Reader | undefined, target: number, incarnation: number): void {
    const at = slot - this.#first
    if (this.#isOpen[at] === 0) this.#size++
    this.#isOpen[at] = 1
    this.#readers[at] = reader
    this.#targets[at] = target
    this.#incarnations[at] = incarnation
  }

  /** Remembers whom a slot is addressed to, without entering it: its caller looks for itself. */
  note(slot: number, target: number, incarnation: number): void {
    const at = slot - this.#first
    this.#targets[at] = target
    this.#incarnations[at] = incarnation
  }

  /** Takes a slot out, if it is in. */
  delete(slot: number): void {
    const at = slot - this.#first
    if (this.#isOpen[at] === 0) return
    this.#isOpen[at] = 0
    this.#readers[at] = undefined
    this.#size--
  }

  /** Whether a slot is out. */
  has(slot: number): boolean {
    return this.#isOpen[slot - this.#first] !== 0
  }

  /** Who wants to know how it ends. */
  reader(slot: number): Reader | undefined {
    return this.#readers[slot - this.#first]
  }

  /** The CPU it is addressed to. */
  target(slot: number): number {
    return this.#targets[slot - this.#first]!
  }

  /** Which life of that CPU. */
  incarnation(slot: number): number {
    return this.#incarnations[slot - this.#first]!
  }

  /** The slots that are out now. They may end while this is read. */
  slots(): number[] {
    const slots: number[] = []
    this.#isOpen.forEach((open, at) => {
      if (open !== 0) slots.push(this.#first + at)
    })
    return slots
  }
}

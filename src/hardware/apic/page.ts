/**
 * The 4 KiB register page of one CPU's APIC in shared memory. Intel SDM vol. 3, chapter "APIC".
 *
 * Its owner is the only writer. Most registers are nobody else's business, so plain reads and writes
 * do: other CPUs look at them for diagnostics and arbitration, and a value that is a little old is
 * good enough. Four are different: to find out whom a destination means, a sender must know every
 * APIC's ID, LDR, DFR and SVR (and its mode, see base.ts). Those are published.
 */

import { highestBit } from '../../base/bits.ts'
import { HEADER } from '../layout.ts'
import type { MachineMemory } from '../machine-memory.ts'
import { add, load, store, type SharedWords } from '../memory.ts'

/**
 * Makes every sender look again who is who. To be called after each change of what a sender knows
 * about APICs: here after an identity register, in the kernel after a change of the present mask.
 * Pairs with Sender, which loads the generation before every use of its map, and with ApicMap, which
 * loads it before it reads the identities. Any context.
 */
export function raiseApicMapGeneration(memory: MachineMemory): void {
  add(memory.words, HEADER.apicMapGeneration, 1)
}

/** The registers of one CPU's APIC. Offsets are those of REGISTER; values are unsigned. */
export class ApicPage {
  readonly cpu: number
  readonly #memory: MachineMemory
  readonly #words: SharedWords
  readonly #first: number

  constructor(memory: MachineMemory, cpu: number) {
    this.cpu = cpu
    this.#memory = memory
    this.#words = memory.words
    this.#first = memory.apicPage(cpu)
  }

  /** Reads a register, plainly: exact for the owner, a snapshot for everybody else. */
  get(register: number): number {
    return this.#words[this.#first + (register >>> 2)]! >>> 0
  }

  /** Owner: writes a register that no sender looks at. */
  set(register: number, value: number): void {
    this.#words[this.#first + (register >>> 2)] = value
  }

  /** Reads a published register of any CPU. */
  load(register: number): number {
    return load(this.#words, this.#first + (register >>> 2)) >>> 0
  }

  /** Owner: writes a register that senders look at, and says so. */
  publish(register: number, value: number): void {
    if (this.get(register) === value >>> 0) return
    store(this.#words, this.#first + (register >>> 2), value)
    raiseApicMapGeneration(this.#memory)
  }

  /** The highest vector whose bit is set in a 256-bit register, or 0. Reads plainly. */
  highestVector(register: number): number {
    for (let word = 7; word >= 0; word--) {
      const bits = this.get(register + word * 0x10)
      if (bits !== 0) return word * 32 + highestBit(bits)
    }
    return 0
  }

  /** Whether a vector's bit is set in a 256-bit register. Reads plainly. */
  hasVector(register: number, vector: number): boolean {
    return ((this.get(register + ((vector & 0xe0) >>> 1)) >>> (vector & 31)) & 1) === 1
  }
}

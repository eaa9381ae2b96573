/**
 * IA32_APIC_BASE: whether a CPU's APIC is on, and in which of its two forms it is programmed. Intel
 * SDM vol. 3, chapter "APIC", "x2APIC State Transitions".
 *
 *                 EN                      EXTD
 *     disabled ---------> xAPIC page --------------> x2APIC registers
 *         ^                   |                             |
 *         +-------------------+-----------------------------+
 *
 * The machine's physical addresses have 32 bits. The base field is stored and reported, but moves
 * nothing: a thread finds its page by its object, not by address.
 */

import { IpiError } from '../../base/errors.ts'
import { CPU } from '../layout.ts'
import type { MachineMemory } from '../machine-memory.ts'
import { store } from '../memory.ts'
import { raiseApicMapGeneration } from './page.ts'

/** How an APIC is programmed: not at all, through its page, through its MSRs. */
export type ApicMode = 'disabled' | 'xapic' | 'x2apic'

/** Fields of IA32_APIC_BASE. */
export const APIC_BASE = {
  /** This is the bootstrap processor. Read-only. */
  bootstrap: 1 << 8,
  x2apic: 1 << 10,
  enabled: 1 << 11,
  /** Where the page stands after RESET, with the APIC on. */
  powerUp: 0xfee0_0800,
} as const

const RESERVED_LOW = 0x2ffn
const WRITABLE = 0xffff_fc00

/** Whither each mode may go; everything else is a fault. */
const NEXT: Readonly<Record<ApicMode, readonly ApicMode[]>> = {
  disabled: ['disabled', 'xapic'],
  xapic: ['disabled', 'xapic', 'x2apic'],
  x2apic: ['disabled', 'x2apic'],
}

/** The mode in a value of the register, or undefined for the one combination that means none. */
export function modeOf(base: number): ApicMode | undefined {
  if ((base & APIC_BASE.enabled) !== 0) return (base & APIC_BASE.x2apic) !== 0 ? 'x2apic' : 'xapic'
  return (base & APIC_BASE.x2apic) !== 0 ? undefined : 'disabled'
}

/** One CPU's IA32_APIC_BASE. The owner writes; senders read the word for their map. */
export class ApicBase {
  /** The mode now. */
  mode: ApicMode = 'disabled'
  readonly #memory: MachineMemory
  readonly #cpu: number
  readonly #at: number
  readonly #x2apicSupported: boolean

  constructor(memory: MachineMemory, cpu: number, x2apicSupported: boolean) {
    this.#memory = memory
    this.#cpu = cpu
    this.#at = memory.cpuPage(cpu) + CPU.apicBase
    this.#x2apicSupported = x2apicSupported
  }

  /** The register. */
  get value(): bigint {
    return BigInt(this.#memory.words[this.#at]! >>> 0)
  }

  /** Writes the register. Throws `IPI_APIC_FAULT`, changing nothing, where hardware faults. */
  write(value: bigint): void {
    if ((value & RESERVED_LOW) !== 0n || value >> 32n !== 0n) {
      this.#fault(value, 'sets reserved bits, or address bits above the 32 of this machine')
    }
    const written = Number(value) & WRITABLE
    const mode = modeOf(written)
    if (mode === undefined || !NEXT[this.mode].includes(mode)) {
      this.#fault(value, `is no way out of mode ${this.mode}; go through disabled`)
    }
    if (mode === 'x2apic' && !this.#x2apicSupported) {
      this.#fault(value, 'asks for x2APIC mode, which this CPU was configured without')
    }
    this.#publish(written)
  }

  /** RESET: xAPIC mode at the default address. */
  reset(): void {
    this.#publish(APIC_BASE.powerUp)
  }

  /** Pairs with ApicMap, as ApicPage.publish does. */
  #publish(written: number): void {
    const bootstrap = this.#cpu === 0 ? APIC_BASE.bootstrap : 0
    this.mode = modeOf(written)!
    store(this.#memory.words, this.#at, written | bootstrap)
    raiseApicMapGeneration(this.#memory)
  }

  #fault(value: bigint, why: string): never {
    throw new IpiError('IPI_APIC_FAULT', `IA32_APIC_BASE = 0x${value.toString(16)} ${why}`, {
      cpu: this.#cpu,
    })
  }
}

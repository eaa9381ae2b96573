/**
 * Lowest-priority arbitration: which one of several CPUs takes an interrupt that any may take. Intel
 * SDM vol. 3, chapter "APIC", "Lowest Priority Delivery Mode".
 *
 * On P6 the APICs settle it among themselves on their bus; later the chipset picks, by priorities it
 * has overheard. Here the sender is the chipset: it looks at the others' pages without asking them,
 * so what it knows may be a little old, and it breaks ties by its own count.
 */

import { ATTENTION, ATTENTION_VECTOR_SHIFT, CPU } from '../layout.ts'
import type { MachineMemory } from '../machine-memory.ts'
import type { ApicIdentity } from './destination.ts'
import { ApicPage } from './page.ts'
import { arbitrationPriority, priorityClass } from './priority.ts'
import { REGISTER } from './registers.ts'

/** Picks CPUs for one sender. */
export class Arbiter {
  readonly #memory: MachineMemory
  /** How many lowest-priority interrupts each CPU got from here. */
  readonly #deliveries: number[]

  constructor(memory: MachineMemory) {
    this.#memory = memory
    this.#deliveries = Array.from({ length: memory.cpuCount }, () => 0)
  }

  /**
   * The CPU that takes `vector`, or -1 if no candidate is software enabled. In this order: the focus
   * (it has the vector already, and claims it for that); the lowest class of arbitration priority;
   * the fewest such deliveries so far; the lowest APIC ID.
   */
  choose(candidates: readonly ApicIdentity[], vector: number): number {
    const ranked = candidates
      .filter((apic) => apic.softwareEnabled)
      .map((apic) => ({ apic, rank: this.#rank(apic, vector) }))
      .sort((a, b) => compareRanks(a.rank, b.rank))
    const winner = ranked[0]?.apic.cpu ?? -1
    if (winner >= 0) this.#deliveries[winner]!++
    return winner
  }

  #rank(apic: ApicIdentity, vector: number): readonly number[] {
    const page = new ApicPage(this.#memory, apic.cpu)
    const priority = arbitrationPriority(
      page.get(REGISTER.tpr),
      page.highestVector(REGISTER.irr),
      page.highestVector(REGISTER.isr),
    )
    return [
      apic.focusEnabled && this.#isFocus(page, vector) ? 0 : 1,
      priorityClass(priority),
      this.#deliveries[apic.cpu]!,
      apic.id,
    ]
  }

  /** Requested, in service, or posted and not harvested yet: on a bus there is no difference. */
  #isFocus(page: ApicPage, vector: number): boolean {
    const attention = this.#memory.readCpu(page.cpu, CPU.attention)
    const posted = this.#memory.readCpu(page.cpu, CPU.pir + (vector >>> 5))
    return (
      ((attention & ATTENTION.single) !== 0 && attention >>> ATTENTION_VECTOR_SHIFT === vector) ||
      page.hasVector(REGISTER.irr, vector) ||
      page.hasVector(REGISTER.isr, vector) ||
      ((posted >>> (vector & 31)) & 1) === 1
    )
  }
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  const differing = a.findIndex((value, i) => value !== b[i])
  return differing < 0 ? 0 : a[differing]! - b[differing]!
}

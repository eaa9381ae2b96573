/** What a core calls when it has taken something: the interrupt descriptor table and its kin. */

/** How the core came to look for interrupts. */
export type EntryPath = 'safepoint' | 'eventLoop' | 'forced'

/** An interrupt gate: called with its vector and the interrupt flag that the core saved. */
export type Gate = (vector: number, interruptFlag: boolean) => void

/** What the core calls when it has taken something. All run with interrupts off. */
export interface CoreHandlers {
  /** The interrupt descriptor table: one interrupt gate per vector. */
  readonly gates: Gate[]
  /** Whether a vector may be taken by a forced entry, in the middle of other JavaScript. */
  isInterruptSafe(vector: number): boolean
  /** The gate of vector 2, called with the interrupt flag that the core saved. */
  nmi(interruptFlag: boolean): void
  /** INIT: the APIC is in its reset state already. */
  init(): void
  /** A start-up interrupt was honoured. */
  startup(vector: number): void
  /** Attention bits that are no business of the APIC. */
  attention(bits: number): void
}

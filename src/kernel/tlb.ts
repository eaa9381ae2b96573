/**
 * TLB shootdown: keeping the translations that CPUs have copied coherent. Two drivers, chosen when the
 * machine is made: `generations` (kernel/tlb-generations.ts), as kernels do it today, and `tlbstate`
 * (kernel/tlbstate.ts), the protocol of Linux 2.6.11 to the letter.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import type { FlushRequest } from './shootdown.ts'

/** The drivers, by their number in HEADER.tlbDriver; the first is the default. */
export const TLB_DRIVERS = ['generations', 'tlbstate'] as const
/** The name of a TLB driver. */
export type TlbDriverName = (typeof TLB_DRIVERS)[number]

/** `FLUSH_ALL`: every translation of the space, not one address. */
export const FLUSH_ALL = 0xffffffff

/** What a driver does on one CPU. Private to its thread. */
export interface TlbDriver {
  /** The number of an address space, by name. Throws `IPI_INVALID_ARGUMENT`. */
  findMm(name: string): number
  /** The CPUs that must be told when a translation of `mm` changes. */
  cpuVmMask(mm: number): CpuMask
  /** `switch_mm`: this CPU uses `mm`. */
  switchMm(mm: number): void
  /** `enter_lazy_tlb`: nothing of `mm` is needed now. */
  enterLazyTlb(mm: number): void
  /** The copy of a translation, or what `walk` reads now. */
  translate(mm: number, address: number, walk: (address: number) => unknown): unknown
  /** Whether this CPU has a copy. */
  holds(mm: number, address: number): boolean
  /**
   * Flushes the addresses from `start` up to, not including, `end`, or with FLUSH_ALL the whole space:
   * here, and wherever the space is in use. Undefined if nobody has to be waited for.
   */
  flush(mm: number, start: number, end: number): FlushRequest | undefined
  /** `do_flush_tlb_all`: everything, here. Interrupts off. */
  flushEverything(): void
  /** `smp_invalidate_interrupt`. */
  smpInvalidateInterrupt(): void
  /** This CPU goes offline: it leaves every space, and nobody needs to ask it. */
  leaveAll(): void
}

/** An address space as programs use it: translations that a flush makes every CPU forget. */

import { IpiError } from '../base/errors.ts'
import type { CpuMask } from '../base/cpu-mask.ts'
import type { Control } from './control.ts'
import type { Kernel } from './kernel.ts'
import { FLUSH_ALL } from './tlb.ts'

/** One thread's handle of an address space. Spaces of the same name are one space on all CPUs. */
export class AddressSpace {
  readonly name: string
  readonly #mm: number
  readonly #kernel: Kernel
  readonly #control: Control

  /** @internal */
  constructor(name: string, kernel: Kernel, control: Control) {
    if (typeof name !== 'string' || name === '') {
      throw new IpiError('IPI_INVALID_ARGUMENT', 'addressSpace(name) takes a non-empty name')
    }
    this.name = name
    this.#kernel = kernel
    this.#control = control
    this.#mm = kernel.tlb.findMm(name)
  }

  /** The CPUs that are asked when a translation changes: `cpu_vm_mask`. */
  get cpuMask(): CpuMask {
    return this.#kernel.tlb.cpuVmMask(this.#mm)
  }

  /** Makes this an active space of this CPU: `switch_mm`. */
  switchTo(): void {
    this.#kernel.tlb.switchMm(this.#mm)
  }

  /** Says that this CPU needs nothing of the space for now: `enter_lazy_tlb`. */
  enterLazy(): void {
    this.#kernel.tlb.enterLazyTlb(this.#mm)
  }

  /**
   * The translation of `address` (an integer, 0..FFFFFFFEh): this CPU's copy, or what `walk` reads
   * now. `walk` is synchronous and runs with interrupts off. Switches to this space if need be.
   */
  translate<Value>(address: number, walk: (address: number) => Value): Value {
    checkAddress(address)
    return this.#kernel.tlb.translate(this.#mm, address, walk) as Value
  }

  /** Whether this CPU holds a copy of the translation. */
  holds(address: number): boolean {
    return this.#kernel.tlb.holds(this.#mm, address)
  }

  /**
   * Makes every CPU forget the translation of `address`. Change the tables first: once this
   * resolves, no CPU can return what stood there before. Rejects with `IPI_TIMEOUT`.
   */
  async flushTlbPage(address: number): Promise<void> {
    checkAddress(address)
    await this.#control.flush(this.#mm, address)
  }

  /**
   * Makes every CPU forget the translations of `start` up to, not including, `end`. With the driver
   * `tlbstate` a range takes the whole space with it.
   */
  async flushTlbRange(start: number, end: number): Promise<void> {
    checkAddress(start)
    if (end <= start) return
    checkAddress(end - 1)
    await this.#control.flush(this.#mm, start, end)
  }

  /** Makes every CPU forget every translation of this space. */
  async flushTlbMm(): Promise<void> {
    await this.#control.flush(this.#mm, FLUSH_ALL)
  }

  /** The blocking form of `flushTlbPage`. */
  flushTlbPageSync(address: number): void {
    checkAddress(address)
    this.#control.flushSync(this.#mm, address)
  }

  /** The blocking form of `flushTlbMm`. */
  flushTlbMmSync(): void {
    this.#control.flushSync(this.#mm, FLUSH_ALL)
  }
}

function checkAddress(address: number): void {
  if (Number.isInteger(address) && address >= 0 && address < FLUSH_ALL) return
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `an address is an integer from 0 to ${FLUSH_ALL - 1}, got ${String(address)}`,
  )
}

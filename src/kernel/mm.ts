/**
 * The address spaces of a machine, as everybody sees them: names, and who uses which. The kernel's
 * `struct mm_struct`, as far as TLB shootdown needs one.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import { IpiError } from '../base/errors.ts'
import { HEADER, INIT_MM, MM, MM_COUNT_MAX, MM_WORDS } from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { compareExchange, load } from '../hardware/memory.ts'
import { hashName } from './functions.ts'

/**
 * The record of an address space by name, made if it is new. Two CPUs that make the same one find the
 * same record, and either may die on the way: each word of the name is claimed by one compare-and-swap,
 * and whoever comes next completes it. Throws `IPI_INVALID_ARGUMENT`.
 */
export function findMm(memory: MachineMemory, name: string): number {
  const { low, high } = hashName(name)
  for (let mm = INIT_MM + 1; mm < MM_COUNT_MAX; mm++) {
    const at = HEADER.mmTable + mm * MM_WORDS + MM.name
    if (claim(memory, at, low | 1) && claim(memory, at + 1, high | 1)) return mm
  }
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `a machine knows at most ${MM_COUNT_MAX - 1} address spaces, caches among them; "${name}" would ` +
      'be one more',
  )
}

/** Whether a word holds `value`, set by us or by another. */
function claim({ words }: MachineMemory, at: number, value: number): boolean {
  const found = compareExchange(words, at, 0, value)
  return found === 0 || found === value
}

/** Whether the machine has an address space of that number. */
export function isMm({ words }: MachineMemory, mm: number): boolean {
  return load(words, HEADER.mmTable + mm * MM_WORDS + MM.name) !== 0
}

/** Where an address space's cpu_vm_mask stands. */
export function vmMask(mm: number): number {
  return HEADER.mmTable + mm * MM_WORDS + MM.cpuVmMask
}

/** The CPUs that must be told when a translation of `mm` changes. */
export function cpuVmMask(memory: MachineMemory, mm: number): CpuMask {
  return memory.readMask(vmMask(mm))
}

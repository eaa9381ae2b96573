/** The memory type ranges as people read them: Linux `arch/i386/kernel/cpu/mtrr/if.c` mtrr_seq_show. */

import type { MemoryType } from '../hardware/mtrr.ts'

/** One variable range, in bytes. */
export interface MtrrRange {
  readonly reg: number
  readonly base: number
  readonly size: number
  readonly type: MemoryType
  /** How often it was added, less how often it was deleted. */
  readonly usage: number
}

const KIB = 2 ** 10
const MIB = 2 ** 20

/** The ranges in use, and the type of all else. Prints as `/proc/mtrr` does. */
export class MtrrTable {
  readonly ranges: readonly MtrrRange[]
  readonly defaultType: MemoryType

  /** @internal */
  constructor(ranges: readonly MtrrRange[], defaultType: MemoryType) {
    this.ranges = ranges
    this.defaultType = defaultType
  }

  /** One line for each range. */
  toString(): string {
    const lines = this.ranges.map(({ reg, base, size, type, usage }) => {
      const at = `0x${base.toString(16).padStart(8, '0')} (${pad(base / MIB)}MB)`
      const much = size < MIB ? `${pad(size / KIB)}KB` : `${pad(size / MIB)}MB`
      return `reg${String(reg).padStart(2, '0')}: base=${at}, size=${much}: ${type}, count=${usage}`
    })
    return lines.join('\n')
  }
}

function pad(value: number): string {
  return String(Math.floor(value)).padStart(4)
}

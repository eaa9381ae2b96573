/**
 * The register map of the local APIC: where each register stands, what its bits mean, who may read
 * and write what. Intel SDM vol. 3, chapter "APIC", the two register address maps; the versions and
 * reserved bits are those of a Pentium 4. Linux has the same table in include/asm-i386/apicdef.h.
 */

import { ICR } from './icr.ts'

/** Offsets in the APIC page, in bytes. A register is the low four bytes of a slot of sixteen. */
export const REGISTER = {
  /** Local APIC ID. */
  id: 0x020,
  /** Version. */
  version: 0x030,
  /** Task priority: what software lets through. */
  tpr: 0x080,
  /** Arbitration priority: who takes a lowest-priority interrupt. */
  apr: 0x090,
  /** Processor priority: what the APIC lets through now. */
  ppr: 0x0a0,
  /** End of interrupt. */
  eoi: 0x0b0,
  /** Remote read. */
  rrr: 0x0c0,
  /** Logical destination. */
  ldr: 0x0d0,
  /** Destination format. */
  dfr: 0x0e0,
  /** Spurious vector, and the software enable bit. */
  svr: 0x0f0,
  /** In service: eight slots, 256 bits. */
  isr: 0x100,
  /** Trigger mode, as `isr`. */
  tmr: 0x180,
  /** Interrupt request, as `isr`. */
  irr: 0x200,
  /** Error status. */
  esr: 0x280,
  /** Interrupt command: writing it sends. */
  icr: 0x300,
  /** The destination of the command. */
  icr2: 0x310,
  /** Local vector table. */
  lvtTimer: 0x320,
  lvtThermal: 0x330,
  lvtPerformance: 0x340,
  lvtLint0: 0x350,
  lvtLint1: 0x360,
  lvtError: 0x370,
  /** Timer: initial count, current count, divide configuration. */
  initialCount: 0x380,
  currentCount: 0x390,
  divide: 0x3e0,
  /** Self IPI, in x2APIC mode only. */
  selfIpi: 0x3f0,
} as const

/** The page is 4 KiB; what follows the registers is reserved. */
export const PAGE_BYTES = 0x1000

/** Version 14h, the Pentium 4's; the last of its local vectors has index 5. */
export const VERSION = 0x0005_0014

/** Bits of the spurious vector register. */
export const SVR = {
  vector: 0xff,
  /** Software enable. While it is clear, fixed interrupts are discarded and all of the LVT masked. */
  enabled: 1 << 8,
  /** Set: this CPU does not claim lowest-priority interrupts for being their focus. */
  focusDisabled: 1 << 9,
  /** What RESET and INIT leave: software disabled, vector FFh. */
  reset: 0xff,
} as const

/** Destination format: bits 31:28 are the model, the others read as ones. */
export const DFR = {
  fixedOnes: 0x0fff_ffff,
  flat: 0xf,
  cluster: 0x0,
  /** What RESET and INIT leave: the flat model. */
  reset: 0xffff_ffff,
} as const

/** Bits of an entry of the local vector table. */
export const LVT = {
  vector: 0xff,
  mode: 7 << 8,
  masked: 1 << 16,
  timerMode: 3 << 17,
  /** Counts once from the initial count to 0. */
  timerOneShot: 0 << 17,
  /** Starts again at the initial count. */
  timerPeriodic: 1 << 17,
  /** Fires when the time-stamp counter reaches the deadline. */
  timerDeadline: 2 << 17,
} as const

/** Bits of the error status register. Bits 0 to 3 belong to a bus that this machine has not. */
export const ESR = {
  sendIllegalVector: 1 << 5,
  receiveIllegalVector: 1 << 6,
  illegalRegister: 1 << 7,
} as const

/** Model-specific registers that belong to the APIC. */
export const MSR = {
  apicBase: 0x1b,
  tscDeadline: 0x6e0,
  /** The first of the x2APIC's: one per slot of the page. */
  x2apic: 0x800,
  x2apicLast: 0x83f,
} as const

/** What may be done with a register in one mode: nothing, or read, write, both. */
export type Access = '' | 'r' | 'w' | 'rw'

/** How one register may be used. */
export interface RegisterRule {
  /** Through the page, in xAPIC mode. */
  readonly page: Access
  /** Through its MSR, in x2APIC mode. */
  readonly msr: Access
  /** Bits that software writes. */
  readonly writable: number
  /** Bits that only hardware writes: software may write them, to no effect. The rest is reserved. */
  readonly status: number
}

/** The delivery status bit of the LVT, and the remote IRR bit of its two pins. */
const STATUS = 1 << 12
const REMOTE_IRR = 1 << 14

const TABLE: readonly (readonly [number, Access, Access, writable?: number, status?: number])[] = [
  [REGISTER.id, 'rw', 'r', 0xff00_0000],
  [REGISTER.version, 'r', 'r'],
  [REGISTER.tpr, 'rw', 'rw', 0xff],
  [REGISTER.apr, 'r', ''],
  [REGISTER.ppr, 'r', 'r'],
  [REGISTER.eoi, 'w', 'w', 0],
  [REGISTER.rrr, 'r', ''],
  [REGISTER.ldr, 'rw', 'r', 0xff00_0000],
  [REGISTER.dfr, 'rw', '', 0xf000_0000],
  [REGISTER.svr, 'rw', 'rw', SVR.vector | SVR.enabled | SVR.focusDisabled],
  [REGISTER.esr, 'rw', 'rw', 0],
  [REGISTER.icr, 'rw', 'rw', ICR.writable, ICR.status],
  [REGISTER.icr2, 'rw', '', 0xff00_0000],
  [REGISTER.lvtTimer, 'rw', 'rw', LVT.vector | LVT.masked | LVT.timerMode, STATUS],
  [REGISTER.lvtThermal, 'rw', 'rw', LVT.vector | LVT.mode | LVT.masked, STATUS],
  [REGISTER.lvtPerformance, 'rw', 'rw', LVT.vector | LVT.mode | LVT.masked, STATUS],
  [REGISTER.lvtLint0, 'rw', 'rw', 0x0001_a7ff, STATUS | REMOTE_IRR],
  [REGISTER.lvtLint1, 'rw', 'rw', 0x0001_a7ff, STATUS | REMOTE_IRR],
  [REGISTER.lvtError, 'rw', 'rw', LVT.vector | LVT.masked, STATUS],
  [REGISTER.initialCount, 'rw', 'rw', 0xffff_ffff],
  [REGISTER.currentCount, 'r', 'r'],
  [REGISTER.divide, 'rw', 'rw', 0b1011],
  [REGISTER.selfIpi, '', 'w', 0xff],
]

/** How each slot of the page may be used, by offset >>> 4; undefined for the reserved ones. */
export const REGISTER_RULES: readonly (RegisterRule | undefined)[] = buildRules()

function buildRules(): (RegisterRule | undefined)[] {
  const rules: (RegisterRule | undefined)[] = Array.from({ length: PAGE_BYTES >>> 4 })
  for (const [register, page, msr, writable = 0, status = 0] of TABLE) {
    rules[register >>> 4] = { page, msr, writable, status }
  }
  for (const first of [REGISTER.isr, REGISTER.tmr, REGISTER.irr]) {
    const readOnly: RegisterRule = { page: 'r', msr: 'r', writable: 0, status: 0 }
    rules.fill(readOnly, first >>> 4, (first >>> 4) + 8)
  }
  return rules
}

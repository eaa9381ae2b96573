/**
 * Setting up and disabling the local APIC. Linux 2.6.11, `arch/i386/kernel/apic.c`
 * (setup_local_APIC, disable_local_APIC), `mach_apic.h` (init_apic_ldr).
 */

import { MASK_WORDS } from '../base/cpu-mask.ts'
import type { Cpu } from './cpu.ts'
import { bigsmpLogicalId, type ApicDriverName } from './send.ts'

const DESTINATION_SHIFT = 24
const IA32_APIC_BASE = 0x1b
const APIC_BASE_X2APIC_ENABLE = 0xc00n
const APIC_TASKPRI = 0x80
const APIC_LDR = 0xd0
const APIC_DFR = 0xe0
const APIC_SPIV = 0xf0
const APIC_ISR = 0x100
const APIC_ESR = 0x280
const APIC_LVTT = 0x320
const APIC_LVT0 = 0x350
const APIC_LVT1 = 0x360
const APIC_LVTERR = 0x370
const APIC_LVT_MASKED = 0x10000
const APIC_DM_NMI = 0x400
const APIC_DM_EXTINT = 0x700
const DFR_FLAT = 0xffffffff
const DFR_CLUSTER = 0x0fffffff
/** Software enable, focus checking as the kernel leaves it, spurious vector FFh. */
const SPIV_ENABLED = 0x1ff
const SPIV_ENABLE_BIT = 0x100
const ERROR_APIC_VECTOR = 0xfe

const msr = (offset: number): number => 0x800 + (offset >>> 4)

/**
 * `setup_local_APIC`: what every CPU writes before it takes its first interrupt. Destination format
 * and logical ID come before the software-enable bit.
 */
export function setupLocalApic(cpu: Cpu, driver: ApicDriverName): void {
  const { apic } = cpu
  // A bit left in service by an earlier life would block its class for ever.
  while (hasInService(cpu)) apic.eoi()
  if (driver === 'x2apic') {
    apic.writeMsr(IA32_APIC_BASE, apic.readMsr(IA32_APIC_BASE) | APIC_BASE_X2APIC_ENABLE)
    apic.writeMsr(msr(APIC_TASKPRI), 0n)
    apic.writeMsr(msr(APIC_SPIV), BigInt(SPIV_ENABLED))
    setLocalVectors(cpu, (offset, value) => apic.writeMsr(msr(offset), BigInt(value)))
    return
  }
  apic.write(APIC_DFR, driver === 'flat' ? DFR_FLAT : DFR_CLUSTER)
  const logicalId = driver === 'flat' ? 1 << cpu.id : bigsmpLogicalId(cpu.id)
  apic.write(APIC_LDR, logicalId << DESTINATION_SHIFT)
  apic.write(APIC_TASKPRI, 0)
  apic.write(APIC_SPIV, SPIV_ENABLED)
  setLocalVectors(cpu, (offset, value) => apic.write(offset, value))
}

/** LINT0 is the boot CPU's external line, LINT1 its NMI; both are masked elsewhere. */
function setLocalVectors(cpu: Cpu, write: (offset: number, value: number) => void): void {
  const masked = cpu.id === 0 ? 0 : APIC_LVT_MASKED
  write(APIC_LVT0, APIC_DM_EXTINT | masked)
  write(APIC_LVT1, APIC_DM_NMI | masked)
  write(APIC_ESR, 0)
  write(APIC_LVTERR, ERROR_APIC_VECTOR)
  write(APIC_ESR, 0)
}

function hasInService(cpu: Cpu): boolean {
  const { words } = cpu.memory
  const isr = cpu.memory.apicPage(cpu.id) + APIC_ISR / 4
  for (let i = 0; i < MASK_WORDS; i++) if (words[isr + i * 4] !== 0) return true
  return false
}

/** `disable_local_APIC`: masks every local source, then clears the software-enable bit. */
export function disableLocalApic(cpu: Cpu, driver: ApicDriverName): void {
  const { apic } = cpu
  const write = (offset: number, value: number): void => {
    if (driver === 'x2apic') apic.writeMsr(msr(offset), BigInt(value))
    else apic.write(offset, value)
  }
  for (const lvt of [APIC_LVTT, APIC_LVT0, APIC_LVT1, APIC_LVTERR]) write(lvt, APIC_LVT_MASKED)
  write(APIC_SPIV, SPIV_ENABLED & ~SPIV_ENABLE_BIT)
}

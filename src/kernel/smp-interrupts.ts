/**
 * The high-level handlers behind the seven system entries. Each acknowledges its interrupt exactly
 * once, at the place where Linux 2.6.11 does: `arch/i386/kernel/smp.c`, `apic.c`. No NMI handler
 * ever acknowledges: that would retire an unrelated interrupt.
 */

import { EVENT, type Cpu } from './cpu.ts'
import { SYSTEM_ENTRIES, type Idt } from './idt.ts'
import type { Nmi } from './nmi.ts'
import type { Softirqs } from './softirq.ts'
import { VECTOR } from './vectors.ts'

/** What the handlers act on. Each is called in interrupt context, interrupts off. */
export interface InterruptWork {
  /** Serves this CPU's call requests. */
  serveCalls(): void
  /** Answers a TLB flush request. */
  invalidateTlb(): void
  /** The local timer fired. */
  timer(): void
  /** Whether everything that `serveCalls` would run now may run in the middle of other JavaScript. */
  areCallsSafe(): boolean
  /** The same of what follows a rescheduling interrupt. */
  isScheduleSafe(): boolean
  /** What an NMI runs. */
  readonly nmi: Nmi
}

/** Puts the seven entries into a CPU's table. */
export function installSmpInterrupts(
  cpu: Cpu,
  idt: Idt,
  softirqs: Softirqs,
  work: InterruptWork,
): void {
  const { apic } = cpu
  const handlers: Record<(typeof SYSTEM_ENTRIES)[number][0], () => void> = {
    /** Only acknowledges. The rescheduling happens on the way out, in ret_from_intr. */
    rescheduleInterrupt: () => apic.eoi(),

    /** Acknowledges before the work. Softirqs may run on the way out. */
    callFunctionInterrupt: () => {
      apic.eoi()
      softirqs.irqEnter()
      try {
        work.serveCalls()
      } finally {
        softirqs.irqExit()
      }
    },

    /**
     * Flushes first, then acknowledges, whatever it found: 2.6.11 left without acknowledging when
     * this CPU's bit was not set, and that CPU never took another interrupt of the class.
     */
    invalidateInterrupt: () => work.invalidateTlb(),

    /** Acknowledges at once: the work can be slow. */
    apicTimerInterrupt: () => {
      apic.eoi()
      softirqs.irqEnter()
      try {
        work.timer()
      } finally {
        softirqs.irqExit()
      }
    },

    /** Reads the error status twice around a write, which is what moves it into the register. */
    errorInterrupt: () => {
      softirqs.irqEnter()
      const before = readErrorStatus(cpu)
      writeErrorStatus(cpu)
      const after = readErrorStatus(cpu)
      apic.eoi()
      cpu.count(EVENT.error)
      cpu.platform.warn(
        `interprocessor: APIC error on CPU ${cpu.id}: ${hex(before)}(${hex(after)})`,
      )
      softirqs.irqExit()
    },

    /** Acknowledges only if the vector is really in service: a spurious delivery has no ISR bit. */
    spuriousInterrupt: () => {
      softirqs.irqEnter()
      if (apic.isr(VECTOR.SPURIOUS_APIC_VECTOR)) apic.eoi()
      cpu.count(EVENT.spurious)
      softirqs.irqExit()
    },

    /** No thread has a thermometer; whoever sends the vector is counted. */
    thermalInterrupt: () => {
      apic.eoi()
      softirqs.irqEnter()
      softirqs.irqExit()
    },
  }
  const safety: Partial<Record<keyof typeof handlers, () => boolean>> = {
    rescheduleInterrupt: () => work.isScheduleSafe(),
    callFunctionInterrupt: () => work.areCallsSafe(),
    invalidateInterrupt: () => true,
  }
  for (const [name, vector] of SYSTEM_ENTRIES) {
    idt.setIntrGate(name, vector, handlers[name], safety[name])
  }
  cpu.handlers.isInterruptSafe = (vector) => idt.isInterruptSafe(vector)
  cpu.handlers.nmi = (interruptFlag) => {
    softirqs.irqEnter()
    cpu.count(EVENT.nmi)
    work.nmi.run(interruptFlag)
    // Not irqExit: softirqs never run from an NMI.
    softirqs.nmiExit()
  }
}

const APIC_ESR = 0x280
const MSR_ESR = 0x828
const IA32_APIC_BASE = 0x1b
const X2APIC_ENABLED = 0xc00n

function isX2apic(cpu: Cpu): boolean {
  return (cpu.apic.readMsr(IA32_APIC_BASE) & X2APIC_ENABLED) === X2APIC_ENABLED
}

function readErrorStatus(cpu: Cpu): number {
  return isX2apic(cpu) ? Number(cpu.apic.readMsr(MSR_ESR)) : cpu.apic.read(APIC_ESR)
}

function writeErrorStatus(cpu: Cpu): void {
  if (isX2apic(cpu)) cpu.apic.writeMsr(MSR_ESR, 0n)
  else cpu.apic.write(APIC_ESR, 0)
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0')
}

/** Spies: what a CPU wrote to its APIC, in what order something happened. */

import type { Cpu } from '../../src/kernel/cpu.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { APIC } from './kernel-bench.ts'

const MSR_ICR = 0x830

/** Calls `before` in front of a method of one object, with the arguments of the call. */
export function spyBefore<O extends object, K extends keyof O>(
  object: O,
  method: K,
  before: (...args: unknown[]) => void,
): void {
  const original = object[method] as (...args: unknown[]) => unknown
  object[method] = function (this: O, ...args: unknown[]): unknown {
    before(...args)
    return original.apply(this, args)
  } as O[K]
}

/** Calls `after` behind a method of one object, with the arguments of the call. */
export function spyAfter<O extends object, K extends keyof O>(
  object: O,
  method: K,
  after: (...args: unknown[]) => void,
): void {
  const original = object[method] as (...args: unknown[]) => unknown
  object[method] = function (this: O, ...args: unknown[]): unknown {
    const result = original.apply(this, args)
    after(...args)
    return result
  } as O[K]
}

/** A command as a CPU's registers hold it once it was sent. */
export interface SentCommand {
  /** ICR2, or the high half of the x2APIC's register. */
  readonly destination: number
  readonly command: number
  /** Whether interrupts were off. */
  readonly irqsDisabled: boolean
}

/** Every command that a CPU sends from now on, read back from its registers. */
export function recordCommands(cpu: Cpu): SentCommand[] {
  const { apic } = cpu
  const sent: SentCommand[] = []
  let depth = 0
  const write = apic.write.bind(apic)
  const writeMsr = apic.writeMsr.bind(apic)
  const sendCommand = apic.sendCommand.bind(apic)
  const record = (): void => {
    const { irqsDisabled } = cpu
    if (apic.mode === 'x2apic') {
      const value = apic.readMsr(MSR_ICR)
      const command = Number(value & 0xffff_ffffn)
      sent.push({ destination: Number(value >> 32n), command, irqsDisabled })
    } else {
      sent.push({ destination: apic.read(APIC.icr2), command: apic.read(APIC.icr), irqsDisabled })
    }
  }
  // A write of the ICR may send by way of sendCommand: one command all the same.
  const once = (isCommand: boolean, run: () => void): void => {
    depth++
    try {
      run()
    } finally {
      depth--
    }
    if (isCommand && depth === 0) record()
  }
  apic.sendCommand = (destination, command) => once(true, () => sendCommand(destination, command))
  apic.write = (offset, value, size) => once(offset === APIC.icr, () => write(offset, value, size))
  apic.writeMsr = (msr, value) => once(msr === MSR_ICR, () => writeMsr(msr, value))
  return sent
}

/** Calls `between` before and after each access of a CPU to its APIC's command registers. */
export function interposeSafepoints(cpu: Cpu, between: () => void): void {
  const { apic } = cpu
  for (const method of ['write', 'writeMsr', 'sendCommand'] as const) {
    spyBefore(apic, method, between)
    spyAfter(apic, method, between)
  }
}

/** Notes each end of interrupt of a CPU in `log`, as `eoi`. */
export function logEoi(kernel: Kernel, log: string[]): void {
  spyBefore(kernel.cpu.apic, 'eoi', () => log.push('eoi'))
}

/** The vectors in service on a CPU. */
export function inService(cpu: Cpu): number[] {
  return Array.from({ length: 256 }, (_, vector) => vector).filter((vector) => cpu.apic.isr(vector))
}

/** The vectors requested on a CPU. */
export function requested(cpu: Cpu): number[] {
  return Array.from({ length: 256 }, (_, vector) => vector).filter((vector) => cpu.apic.irr(vector))
}

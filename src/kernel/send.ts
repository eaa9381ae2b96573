/**
 * Sending interprocessor interrupts. Linux 2.6.11: `arch/i386/kernel/smp.c` (__send_IPI_shortcut,
 * send_IPI_mask_bitmask, send_IPI_mask_sequence), `include/asm-i386/mach-default/mach_ipi.h`,
 * `mach-bigsmp`; later `arch/x86/kernel/apic/x2apic_phys.c`. A driver is chosen at boot, as
 * `mach-generic` does.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import { countBits } from '../base/bits.ts'
import { IpiError } from '../base/errors.ts'
import { HEADER } from '../hardware/layout.ts'
import { load } from '../hardware/memory.ts'
import { EVENT, type Cpu } from './cpu.ts'
import { VECTOR } from './vectors.ts'

/** Names of the drivers, in the order of HEADER.apicDriver. */
export const APIC_DRIVERS = ['flat', 'bigsmp', 'x2apic'] as const
/** Which way a machine sends: `flat` up to 8 CPUs, `bigsmp` up to 60, `x2apic` up to 256. */
export type ApicDriverName = (typeof APIC_DRIVERS)[number]

/** The most CPUs that a driver can address. */
export const APIC_DRIVER_CPUS_MAX: Readonly<Record<ApicDriverName, number>> = {
  flat: 8,
  bigsmp: 60,
  x2apic: 256,
}

/** Register offsets and ICR fields, Linux `include/asm-i386/apicdef.h`. */
const APIC_ICR = 0x300
const APIC_DEST_LOGICAL = 0x800
const APIC_DM_NMI = 0x400
const APIC_DEST_SELF = 0x40000
const APIC_DEST_ALLINC = 0x80000
const APIC_DEST_ALLBUT = 0xc0000

/**
 * `__prepare_ICR`: fixed, edge, logical, with the shorthand and the vector. The level bit is 0. Vector
 * 2 means an NMI, as in later kernels: its mode, and no vector.
 */
export function prepareIcr(shorthand: number, vector: number): number {
  return shorthand | APIC_DEST_LOGICAL | modeAndVector(vector)
}

function modeAndVector(vector: number): number {
  return vector === VECTOR.NMI ? APIC_DM_NMI : vector
}

/** bigsmp's logical ID of a physical one: the cluster in the high nibble, one bit in the low. */
export function bigsmpLogicalId(physicalId: number): number {
  return (1 << (physicalId & 3)) | ((physicalId << 2) & 0xf0)
}

/** What the senders hand the hardware for one CPU, by driver. */
interface ApicDriver {
  readonly name: ApicDriverName
  /** `send_IPI_mask` for a mask that is not empty. */
  sendMask(mask: CpuMask, vector: number): void
  /** The same for one CPU, without making a mask. */
  sendCpu(cpu: number, vector: number): void
  sendAllButSelf(vector: number): void
  sendAll(vector: number): void
}

/**
 * The four senders. They never wait for a target and may be called in any context of their thread,
 * interrupts on or off, handlers included.
 */
export class IpiSenders {
  readonly #cpu: Cpu
  readonly #driver: ApicDriver

  constructor(cpu: Cpu) {
    this.#cpu = cpu
    const name = APIC_DRIVERS[cpu.memory.words[HEADER.apicDriver]!]!
    this.#driver =
      name === 'flat' ? this.#flat() : name === 'bigsmp' ? this.#bigsmp() : this.#x2apic()
  }

  /** The driver's name. */
  get driver(): ApicDriverName {
    return this.#driver.name
  }

  /** `send_IPI_all`: every CPU, this one too. Its own copy is taken when interrupts are on. */
  sendIpiAll(vector: number): void {
    this.#driver.sendAll(vector)
  }

  /** `send_IPI_allbutself`. Alone on the bus it sends nothing: hardware calls that a send error. */
  sendIpiAllButSelf(vector: number): void {
    if (this.#onlineCount() <= 1) {
      this.#cpu.count(EVENT.ipisAvoided)
      return
    }
    this.#driver.sendAllButSelf(vector)
  }

  /** `send_IPI_self`: pending until interrupts are on. */
  sendIpiSelf(vector: number): void {
    this.#shortcut(APIC_DEST_SELF, vector)
    this.#afterSelf()
  }

  /**
   * `send_IPI_mask`: the CPUs of a mask; this one may be in it. An empty mask sends nothing, where
   * 2.6.11 wrote an ICR that reached nobody.
   */
  sendIpiMask(mask: CpuMask, vector: number): void {
    if (mask.isEmpty) {
      this.#cpu.count(EVENT.emptyMasks)
      return
    }
    this.#driver.sendMask(mask, vector)
    if (mask.has(this.#cpu.id)) this.#afterSelf()
  }

  /** One CPU: what `smp_send_reschedule` and single calls need. */
  sendIpiCpu(cpu: number, vector: number): void {
    this.#driver.sendCpu(cpu, vector)
  }

  /** Takes a self-IPI at once if interrupts are on, as the instruction after the send would. */
  #afterSelf(): void {
    if (!this.#cpu.irqsDisabled) this.#cpu.core.poll()
  }

  #onlineCount(): number {
    const { words, cpuCount } = this.#cpu.memory
    let count = 0
    for (let i = 0; i < (cpuCount + 31) >>> 5; i++) {
      count += countBits(load(words, HEADER.onlineMask + i))
    }
    return count
  }

  /** `__send_IPI_shortcut`: one write, so interrupts may stay on. */
  #shortcut(shorthand: number, vector: number): void {
    const { apic } = this.#cpu
    this.#cpu.count(EVENT.ipisSent)
    if (this.#driver.name === 'x2apic') apic.sendCommand(0, prepareIcr(shorthand, vector))
    else apic.write(APIC_ICR, prepareIcr(shorthand, vector))
  }

  /**
   * One addressed interrupt: `sendCommand` writes the destination and then the command, as an xAPIC
   * needs it. Interrupts must be off around the pair: a handler that sends its own between the two
   * writes would replace the destination of this one.
   */
  #addressed(destination: number, vector: number): void {
    this.#cpu.count(EVENT.ipisSent)
    this.#cpu.apic.sendCommand(destination, prepareIcr(0, vector))
  }

  /** mach-default: one ICR pair whose destination is the mask itself. */
  #flat(): ApicDriver {
    const send = (bits: number, vector: number): void => {
      const flags = this.#cpu.localIrqSave()
      this.#addressed(bits, vector)
      this.#cpu.localIrqRestore(flags)
    }
    return {
      name: 'flat',
      sendMask: (mask, vector) => send(mask.word(0) & 0xff, vector),
      sendCpu: (cpu, vector) => send(1 << cpu, vector),
      sendAllButSelf: (vector) => this.#shortcut(APIC_DEST_ALLBUT, vector),
      sendAll: (vector) => {
        this.#shortcut(APIC_DEST_ALLINC, vector)
        this.#afterSelf()
      },
    }
  }

  /** bigsmp: one pair per CPU, ascending, in one section with interrupts off. */
  #bigsmp(): ApicDriver {
    const sendEach = (mask: CpuMask, vector: number): void => {
      const flags = this.#cpu.localIrqSave()
      for (const cpu of mask) this.#addressed(bigsmpLogicalId(cpu), vector)
      this.#cpu.localIrqRestore(flags)
    }
    return {
      name: 'bigsmp',
      sendMask: sendEach,
      sendCpu: (cpu, vector) => {
        const flags = this.#cpu.localIrqSave()
        this.#addressed(bigsmpLogicalId(cpu), vector)
        this.#cpu.localIrqRestore(flags)
      },
      ...this.#byOnlineMask(sendEach),
    }
  }

  /** x2apic_phys: one register write per CPU, nothing to tear. */
  #x2apic(): ApicDriver {
    const sendCpu = (cpu: number, vector: number): void => {
      this.#cpu.count(EVENT.ipisSent)
      this.#cpu.apic.sendCommand(cpu, modeAndVector(vector))
    }
    const sendEach = (mask: CpuMask, vector: number): void => {
      for (const cpu of mask) sendCpu(cpu, vector)
    }
    return { name: 'x2apic', sendMask: sendEach, sendCpu, ...this.#byOnlineMask(sendEach) }
  }

  /** The broadcasts of the drivers that have none: the online map, by the mask sender. */
  #byOnlineMask(
    sendEach: (mask: CpuMask, vector: number) => void,
  ): Pick<ApicDriver, 'sendAll' | 'sendAllButSelf'> {
    const { memory, id } = this.#cpu
    return {
      sendAllButSelf: (vector) => sendEach(memory.onlineMask.without(id), vector),
      sendAll: (vector) => {
        sendEach(memory.onlineMask, vector)
        this.#afterSelf()
      },
    }
  }
}

/** The driver a machine of `cpuCount` CPUs gets, or the one asked for if it can address them all. */
export function chooseApicDriver(cpuCount: number, wanted?: string): ApicDriverName {
  if (wanted === undefined) return cpuCount <= APIC_DRIVER_CPUS_MAX.flat ? 'flat' : 'x2apic'
  const name = APIC_DRIVERS.find((driver) => driver === wanted)
  if (name === undefined) {
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `apic: "${wanted}" is no APIC driver; use ${APIC_DRIVERS.join(', ')}`,
    )
  }
  if (cpuCount > APIC_DRIVER_CPUS_MAX[name]) {
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `apic: "${name}" addresses at most ${APIC_DRIVER_CPUS_MAX[name]} CPUs, maxCpus is ` +
        `${cpuCount}; use "x2apic" or leave the choice to boot`,
    )
  }
  return name
}

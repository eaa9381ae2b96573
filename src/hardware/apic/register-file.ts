/**
 * How software reaches the registers: through the page in xAPIC mode, through MSRs in x2APIC mode.
 * Intel SDM vol. 3, chapter "APIC", "Accessing the Local APIC Registers" and "x2APIC Register
 * Address Space".
 *
 * The page forgives and logs: a reserved slot reads as 0 and sets a bit of ESR, writes to what is
 * read-only vanish. The MSRs forgive nothing: every wrong access is a fault that changes no state.
 */

import { IpiError } from '../../base/errors.ts'
import type { ApicBase } from './base.ts'
import { x2apicLogicalId } from './destination.ts'
import type { ErrorStatus } from './error-status.ts'
import type { InterruptState } from './interrupts.ts'
import type { LocalVectorTable } from './lvt.ts'
import type { ApicPage } from './page.ts'
import { arbitrationPriority } from './priority.ts'
import { DFR, ESR, MSR, PAGE_BYTES, REGISTER, REGISTER_RULES, SVR, VERSION } from './registers.ts'
import type { ApicTimer } from './timer.ts'

/** What a page reads as when no APIC answers there. */
const ALL_ONES = 0xffff_ffff

/** What stands behind the registers of one APIC. */
interface RegisterFileParts {
  readonly page: ApicPage
  readonly base: ApicBase
  readonly interrupts: InterruptState
  readonly errors: ErrorStatus
  readonly lvt: LocalVectorTable
  readonly timer: ApicTimer
  /** Carries out a command whose destination is as wide as the mode has it. */
  readonly command: (destination: number, command: number) => void
  /** Carries out a write of the self-IPI register. */
  readonly sendSelf: (vector: number) => void
}

/** The registers of one CPU, as its software sees them. Only the owner has one. */
export class RegisterFile {
  readonly #page: ApicPage
  readonly #parts: RegisterFileParts

  constructor(parts: RegisterFileParts) {
    this.#page = parts.page
    this.#parts = parts
  }

  /**
   * A load from the page: 1, 2 or 4 bytes. Only the low four bytes of a slot hold anything; whatever
   * else is loaded is 0.
   */
  read(offset: number, size: 1 | 2 | 4 = 4): number {
    this.#checkOffset(offset)
    const mask = ALL_ONES >>> (32 - size * 8)
    if (this.#parts.base.mode !== 'xapic') return mask
    const register = offset & ~0xf
    const byte = offset & 0xf
    const rule = REGISTER_RULES[register >>> 4]
    if (rule === undefined || rule.page === '') {
      this.#parts.errors.detect(ESR.illegalRegister)
      return 0
    }
    if (byte + size > 4 || rule.page === 'w') return 0
    return ((this.#get(register) >>> (byte * 8)) & mask) >>> 0
  }

  /** A store to the page. Anything but an aligned store of four bytes is dropped. */
  write(offset: number, value: number, size: 1 | 2 | 4 = 4): void {
    this.#checkOffset(offset)
    if (this.#parts.base.mode !== 'xapic' || size !== 4 || (offset & 0xf) !== 0) return
    const rule = REGISTER_RULES[offset >>> 4]
    if (rule === undefined || rule.page === '') {
      this.#parts.errors.detect(ESR.illegalRegister)
    } else if (rule.page !== 'r') {
      this.#put(offset, (value & rule.writable) >>> 0)
    }
  }

  /** RDMSR. Throws `IPI_APIC_FAULT` where hardware faults. */
  readMsr(msr: number): bigint {
    if (msr === MSR.apicBase) return this.#parts.base.value
    if (msr === MSR.tscDeadline) return this.#parts.timer.deadline
    const register = this.#msrRegister(msr, 'r')
    const low = BigInt(this.#get(register))
    return register === REGISTER.icr ? (BigInt(this.#get(REGISTER.icr2)) << 32n) | low : low
  }

  /** WRMSR. Throws `IPI_APIC_FAULT`, changing nothing, where hardware faults. */
  writeMsr(msr: number, value: bigint): void {
    if (msr === MSR.apicBase) return this.#writeBase(value)
    if (value < 0n || value >> 64n !== 0n) this.#fault(msr, 'takes 64 bits')
    if (msr === MSR.tscDeadline) {
      this.#parts.timer.deadline = value
      return
    }
    const register = this.#msrRegister(msr, 'w')
    const rule = REGISTER_RULES[register >>> 4]!
    const low = Number(value & 0xffff_ffffn)
    const high = Number(value >> 32n)
    if ((low & ~(rule.writable | rule.status)) !== 0) this.#fault(msr, 'has reserved bits set')
    if (register === REGISTER.icr) return this.#parts.command(high, low & rule.writable)
    if (high !== 0) this.#fault(msr, 'has reserved bits set')
    this.#put(register, (low & rule.writable) >>> 0)
  }

  /** All registers as RESET leaves them, or INIT, which keeps the ID that software may have given. */
  reset(kind: 'reset' | 'init'): void {
    const { page, base, interrupts, errors, lvt, timer } = this.#parts
    page.set(REGISTER.version, VERSION)
    interrupts.reset()
    lvt.reset()
    timer.reset()
    errors.reset()
    page.set(REGISTER.icr, 0)
    page.set(REGISTER.icr2, 0)
    page.publish(REGISTER.dfr, DFR.reset)
    page.publish(REGISTER.svr, SVR.reset)
    if (base.mode === 'x2apic') return this.#takeX2apicIdentity()
    page.publish(REGISTER.ldr, 0)
    if (kind === 'reset') page.publish(REGISTER.id, page.cpu << 24)
  }

  /** What a register shows. */
  #get(register: number): number {
    if (register === REGISTER.currentCount) return this.#parts.timer.currentCount
    if (register !== REGISTER.apr) return this.#page.get(register)
    return arbitrationPriority(
      this.#page.get(REGISTER.tpr),
      this.#page.highestVector(REGISTER.irr),
      this.#page.highestVector(REGISTER.isr),
    )
  }

  /** What a write does. Only writable bits arrive here. */
  #put(register: number, value: number): void {
    switch (register) {
      case REGISTER.icr:
        return this.#parts.command(this.#page.get(REGISTER.icr2) >>> 24, value)
      case REGISTER.icr2:
        return this.#page.set(register, value)
      case REGISTER.eoi:
        this.#parts.interrupts.retire()
        return
      case REGISTER.tpr:
        this.#parts.interrupts.taskPriority = value
        return
      case REGISTER.id:
      case REGISTER.ldr:
        return this.#page.publish(register, value)
      case REGISTER.dfr:
        return this.#page.publish(register, value | DFR.fixedOnes)
      case REGISTER.svr:
        return this.#putSpurious(value)
      case REGISTER.esr:
        return this.#parts.errors.update()
      case REGISTER.initialCount:
        return this.#parts.timer.writeInitialCount(value)
      case REGISTER.divide:
        return this.#parts.timer.writeDivide(value)
      case REGISTER.selfIpi:
        return this.#parts.sendSelf(value)
      default:
        return this.#putLocalVector(register, value)
    }
  }

  #putSpurious(value: number): void {
    this.#page.publish(REGISTER.svr, value)
    if ((value & SVR.enabled) === 0) this.#parts.lvt.maskAll()
  }

  #putLocalVector(register: number, value: number): void {
    const old = this.#page.get(register)
    this.#parts.lvt.write(register, value)
    if (register === REGISTER.lvtTimer) this.#parts.timer.modeWritten(old)
  }

  /** A disabled APIC forgets everything, and comes back with the ID that hardware gave it. */
  #writeBase(value: bigint): void {
    const { base } = this.#parts
    const before = base.mode
    base.write(value)
    if (base.mode === before) return
    if (base.mode === 'disabled') this.reset('reset')
    else if (base.mode === 'x2apic') this.#takeX2apicIdentity()
  }

  /** In x2APIC mode the hardware's ID counts, and the logical ID follows from it. */
  #takeX2apicIdentity(): void {
    this.#page.set(REGISTER.icr2, 0)
    this.#page.publish(REGISTER.id, this.#page.cpu)
    this.#page.publish(REGISTER.ldr, x2apicLogicalId(this.#page.cpu))
  }

  /** The register behind an MSR; faults unless it may be used that way, now. */
  #msrRegister(msr: number, access: 'r' | 'w'): number {
    if (!Number.isInteger(msr) || msr < MSR.x2apic || msr > MSR.x2apicLast) {
      this.#fault(msr, 'is no register of the APIC')
    }
    if (this.#parts.base.mode !== 'x2apic') this.#fault(msr, 'answers in x2APIC mode only')
    const register = (msr - MSR.x2apic) << 4
    const rule = REGISTER_RULES[register >>> 4]
    if (rule === undefined || rule.msr === '') this.#fault(msr, 'does not exist')
    if (!rule.msr.includes(access)) {
      this.#fault(msr, access === 'r' ? 'cannot be read' : 'cannot be written')
    }
    return register
  }

  #checkOffset(offset: number): void {
    if ((offset & (PAGE_BYTES - 1)) === offset) return
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `${String(offset)} is no offset in the APIC page; offsets are 0 to 0xfff, as REGISTER has them`,
    )
  }

  #fault(msr: number, why: string): never {
    throw new IpiError('IPI_APIC_FAULT', `MSR 0x${msr.toString(16)} ${why}`, {
      cpu: this.#page.cpu,
    })
  }
}

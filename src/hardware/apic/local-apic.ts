/**
 * The local APIC: what a CPU has been asked, what it is doing, what it will take, and how it asks
 * others. Intel SDM vol. 3, chapter "APIC"; Linux arch/i386/kernel/apic.c drives one like it.
 *
 *      software                                                       the core
 *         | read, write, readMsr, writeMsr                                ^
 *         v                                                               | pendingVector,
 *     register-file --> sender --> descriptors of other CPUs              | acknowledge, eoi
 *         |                                                               |
 *         +---------------------------------------------> interrupts -----+
 *         +--> timer, lvt --> receiver --------------------^              | nmiPending, initPending,
 *                                ^                                        | startupVector
 *     own descriptor --harvest---+----------------------------------------+
 *
 * It belongs to the thread that is the CPU: nobody else calls it, and others reach it only through
 * the CPU's descriptor and look at its page only to read.
 */

import { assert } from '../../base/assert.ts'
import { IpiError } from '../../base/errors.ts'
import type { Descriptor } from '../descriptor.ts'
import type { MachineMemory } from '../machine-memory.ts'
import { ApicBase, type ApicMode } from './base.ts'
import { BROADCAST } from './destination.ts'
import { ErrorStatus } from './error-status.ts'
import { ICR, SHORTHAND } from './icr.ts'
import { InterruptState, type SafepointCredit } from './interrupts.ts'
import { LocalVectorTable } from './lvt.ts'
import { ApicPage } from './page.ts'
import { Receiver } from './receiver.ts'
import { RegisterFile } from './register-file.ts'
import { ESR, REGISTER } from './registers.ts'
import { Sender } from './sender.ts'
import { ApicTimer } from './timer.ts'

/** How an APIC is made. */
export interface LocalApicOptions {
  /** Refuse commands that the manual leaves undefined, and SMI, instead of making sense of them. */
  readonly strict?: boolean
  /** Whether x2APIC mode may be entered. Default true. */
  readonly x2apicSupported?: boolean
  /** Milliseconds on a clock that never goes back, for the timer. Default: one that stands still. */
  readonly clock?: () => number
  /** Told whenever `pollTimer` would give another time than before. */
  readonly onTimerArmed?: () => void
}

/** What an APIC has counted since its thread made it. */
export interface ApicStatistics {
  /** Errors by their bit in ESR. */
  readonly sendIllegalVector: number
  readonly receiveIllegalVector: number
  readonly illegalRegister: number
  /** Fixed interrupts that came while the APIC was software disabled, or before start-up. */
  readonly discarded: number
  /** Messages of a delivery mode that this machine lacks. */
  readonly refused: number
}

/** One CPU's local APIC. Only the thread that is the CPU has one, and only it may call it. */
export class LocalApic {
  readonly cpu: number
  readonly #page: ApicPage
  readonly #base: ApicBase
  readonly #interrupts: InterruptState
  readonly #errors: ErrorStatus
  readonly #receiver: Receiver
  readonly #sender: Sender
  readonly #lvt: LocalVectorTable
  readonly #timer: ApicTimer
  readonly #registers: RegisterFile

  /** `descriptors` has one for every possible CPU. The APIC starts as RESET leaves it. */
  constructor(
    memory: MachineMemory,
    cpu: number,
    descriptors: readonly Descriptor[],
    options: LocalApicOptions = {},
  ) {
    const {
      strict = false,
      x2apicSupported = true,
      clock = () => 0,
      onTimerArmed = () => undefined,
    } = options
    const page = new ApicPage(memory, cpu)
    const base = new ApicBase(memory, cpu, x2apicSupported)
    const interrupts = new InterruptState(memory, cpu)
    const errors = new ErrorStatus(page, () => this.#lvt.signal(REGISTER.lvtError))
    const descriptor = descriptors[cpu]!
    const receiver = new Receiver(memory, { page, base, interrupts, errors, descriptor })
    const sender = new Sender(memory, receiver, errors, { cpu, descriptors, strict })
    const lvt = new LocalVectorTable(page, receiver)
    const timer = new ApicTimer(page, clock, () => lvt.signal(REGISTER.lvtTimer), onTimerArmed)
    this.cpu = cpu
    this.#page = page
    this.#base = base
    this.#interrupts = interrupts
    this.#errors = errors
    this.#receiver = receiver
    this.#sender = sender
    this.#lvt = lvt
    this.#timer = timer
    this.#registers = new RegisterFile({
      page,
      base,
      interrupts,
      errors,
      lvt,
      timer,
      command: (destination, command) => this.sendCommand(destination, command),
      sendSelf: (vector) => sender.send(cpu, SHORTHAND.self | vector),
    })
    this.reset('reset')
  }

  /**
   * RESET: everything as after power-up. INIT: the same, but the ID and the mode survive, and so do
   * an NMI and a start-up that are latched.
   */
  reset(kind: 'reset' | 'init'): void {
    if (kind === 'reset') this.#base.reset()
    this.#registers.reset(kind)
    this.#receiver.reset(kind)
  }

  // Software's side.

  /** The mode of IA32_APIC_BASE: whether registers are reached by the page, by MSR, or not at all. */
  get mode(): ApicMode {
    return this.#base.mode
  }

  /**
   * Loads `size` bytes from the register page; `offset` as in REGISTER. All ones unless the APIC is
   * in xAPIC mode. Throws `IPI_INVALID_ARGUMENT` for what is no offset in the page.
   */
  read(offset: number, size: 1 | 2 | 4 = 4): number {
    return this.#registers.read(offset, size)
  }

  /**
   * Stores to the register page. Dropped unless the APIC is in xAPIC mode, the offset is that of a
   * register, and four bytes are stored. Throws as `read` and, for the ICR, as `sendCommand`.
   */
  write(offset: number, value: number, size: 1 | 2 | 4 = 4): void {
    this.#registers.write(offset, value, size)
  }

  /**
   * RDMSR of IA32_APIC_BASE (1Bh), IA32_TSC_DEADLINE (6E0h) and, in x2APIC mode, 800h to 83Fh.
   * Throws `IPI_APIC_FAULT` where hardware faults.
   */
  readMsr(msr: number): bigint {
    return this.#registers.readMsr(msr)
  }

  /** WRMSR, of the same registers. A fault changes nothing. */
  writeMsr(msr: number, value: bigint): void {
    this.#registers.writeMsr(msr, value)
  }

  /** CR8: the class of the task priority, 0 to 15. It works whatever the mode. */
  get taskPriority(): number {
    return this.#interrupts.taskPriority >>> 4
  }

  set taskPriority(priority: number) {
    this.#interrupts.taskPriority = (priority & 0xf) << 4
  }

  /**
   * Sends a command: what a write of the x2APIC's ICR does, or a write of ICR2 and ICR in xAPIC mode,
   * in one step that no handler can come between. `destination` has 8 bits, or 32 in x2APIC mode.
   *
   * Does nothing while the APIC is disabled. Throws `IPI_APIC_FAULT` for reserved bits in x2APIC mode,
   * and, made strict, for undefined commands, and `IPI_NOT_SUPPORTED` for SMI.
   */
  sendCommand(destination: number, command: number): void {
    const mode = this.#base.mode
    if (mode === 'disabled') return
    this.#sender.check(command)
    if (mode === 'xapic') {
      const id = destination & 0xff
      this.#page.set(REGISTER.icr2, id << 24)
      this.#page.set(REGISTER.icr, command & ICR.writable)
      this.#sender.send(id === 0xff ? BROADCAST : id, command)
    } else {
      if ((command & ~(ICR.writable | ICR.status)) !== 0) this.#reservedBits(command)
      this.#page.set(REGISTER.icr2, destination)
      this.#page.set(REGISTER.icr, command & ICR.writable)
      this.#sender.send(destination | 0, command)
    }
  }

  #reservedBits(command: number): never {
    throw new IpiError(
      'IPI_APIC_FAULT',
      `command 0x${command.toString(16)} has reserved bits set`,
      {
        cpu: this.cpu,
      },
    )
  }

  // Sources of its own.

  /** Requests a vector of this CPU itself, under the rules of acceptance. */
  raise(vector: number, level = false): void {
    assert((vector & 0xff) === vector, 'a vector has eight bits')
    this.#receiver.acceptFixed(vector, level)
  }

  /** The pin or counter of an LVT entry, given by its offset in REGISTER, has something to say. */
  signal(lvtRegister: number): void {
    this.#lvt.signal(lvtRegister)
  }

  /**
   * Raises the timer interrupt if it is due. Gives when to ask again: a time on the clock, in ms, or
   * Infinity while the timer stands still. Ask after each write to a register of the timer, too.
   */
  pollTimer(): number {
    return this.#timer.poll()
  }

  /**
   * For tests: the next acknowledge gives the spurious vector, as on hardware when an interrupt is
   * withdrawn between signal and acknowledge. Nothing withdraws one here.
   */
  injectSpurious(): void {
    this.#interrupts.injectSpurious()
  }

  // The processor's side.

  /**
   * Takes what other CPUs have posted. Gives the attention bits that were set, for the caller to
   * handle those that are none of the APIC's. Costs one atomic operation and one more per word of
   * posted vectors.
   */
  harvest(): number {
    return this.#receiver.harvest()
  }

  /** How many safepoints may pass without a look for sure. The core sets it, and counts it down. */
  get safepoints(): SafepointCredit {
    return this.#interrupts.safepoints
  }

  /** Whether anything waits here, deliverable or not. */
  get hasPending(): boolean {
    return this.#interrupts.anyWaiting
  }

  /** Whether an NMI, an INIT or a start-up waits for the core. */
  get latchPending(): boolean {
    return this.#interrupts.latchWaiting
  }

  /** The vector that the core should take now if its interrupt flag is set, or -1. */
  pendingVector(): number {
    return this.#interrupts.pendingVector()
  }

  /**
   * The core takes `vector`, which must be what `pendingVector` gave. It owes an `eoi`, unless the
   * vector was injected as spurious.
   */
  acknowledge(vector: number): void {
    this.#interrupts.acknowledge(vector)
  }

  /** End of interrupt: the highest vector in service is so no more. Gives it, or -1. */
  eoi(): number {
    return this.#interrupts.retire()
  }

  /** NMIs latched: at most two, and while NMIs are blocked at most one. The core counts down. */
  get nmiPending(): number {
    return this.#interrupts.nmiPending
  }

  set nmiPending(count: number) {
    this.#interrupts.nmiPending = count
  }

  /** Whether the core is between the start of an NMI handler and its IRET. The core writes. */
  get nmiBlocked(): boolean {
    return this.#receiver.nmiBlocked
  }

  set nmiBlocked(blocked: boolean) {
    this.#receiver.nmiBlocked = blocked
  }

  /** Whether an INIT is latched. The core clears it, and calls `reset`. */
  get initPending(): boolean {
    return this.#interrupts.initPending
  }

  set initPending(pending: boolean) {
    this.#interrupts.initPending = pending
  }

  /** The vector of a latched start-up, or -1. The core takes it, and honours or forgets it. */
  get startupVector(): number {
    return this.#interrupts.startupVector
  }

  set startupVector(vector: number) {
    this.#interrupts.startupVector = vector
  }

  // For whoever looks.

  /** The processor priority. */
  get ppr(): number {
    return this.#interrupts.processorPriority
  }

  /** Whether a vector is requested. */
  irr(vector: number): boolean {
    return this.#page.hasVector(REGISTER.irr, vector)
  }

  /** Whether a vector is in service. */
  isr(vector: number): boolean {
    return this.#page.hasVector(REGISTER.isr, vector)
  }

  /** Whether a vector was level-triggered when it was last accepted. */
  tmr(vector: number): boolean {
    return this.#page.hasVector(REGISTER.tmr, vector)
  }

  /** The counts so far. */
  get statistics(): ApicStatistics {
    return {
      sendIllegalVector: this.#errors.count(ESR.sendIllegalVector),
      receiveIllegalVector: this.#errors.count(ESR.receiveIllegalVector),
      illegalRegister: this.#errors.count(ESR.illegalRegister),
      discarded: this.#receiver.discardedCount,
      refused: this.#receiver.refusedCount,
    }
  }
}

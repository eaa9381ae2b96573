/**
 * How a message leaves: the interrupt command register's doing. Intel SDM vol. 3, chapter "APIC",
 * "Issuing Interprocessor Interrupts"; KVM's kvm_apic_send_ipi in arch/x86/kvm/lapic.c.
 *
 * Sending is posting into the descriptors of the CPUs that the destination means; see descriptor.ts.
 * An ordinary interrupt to one CPU costs one look at the generation of the map and the post.
 */

import { IpiError } from '../../base/errors.ts'
import type { Descriptor } from '../descriptor.ts'
import { HEADER, INIT_SIPI } from '../layout.ts'
import type { MachineMemory } from '../machine-memory.ts'
import { load, type SharedWords } from '../memory.ts'
import { Arbiter } from './arbitration.ts'
import { ApicMap } from './destination.ts'
import type { ErrorStatus } from './error-status.ts'
import {
  DELIVERY_MODE,
  describeCommand,
  hasIllegalVector,
  ICR,
  isDefinedCommand,
  isInitDeassert,
  SHORTHAND,
} from './icr.ts'
import { FIRST_VECTOR } from './priority.ts'
import type { Receiver } from './receiver.ts'
import { ESR } from './registers.ts'

/** The sending side of one CPU's APIC. Only its owner has one. */
export class Sender {
  readonly #memory: MachineMemory
  readonly #words: SharedWords
  readonly #cpu: number
  readonly #self: readonly number[]
  readonly #descriptors: readonly Descriptor[]
  readonly #receiver: Receiver
  readonly #errors: ErrorStatus
  readonly #strict: boolean
  readonly #arbiter: Arbiter
  #map: ApicMap

  constructor(
    memory: MachineMemory,
    receiver: Receiver,
    errors: ErrorStatus,
    options: { cpu: number; descriptors: readonly Descriptor[]; strict: boolean },
  ) {
    this.#memory = memory
    this.#words = memory.words
    this.#cpu = options.cpu
    this.#self = [options.cpu]
    this.#descriptors = options.descriptors
    this.#receiver = receiver
    this.#errors = errors
    this.#strict = options.strict
    this.#arbiter = new Arbiter(memory)
    this.#map = new ApicMap(memory, options.cpu)
  }

  /**
   * Strict: throws `IPI_APIC_FAULT` for a command that the manual leaves undefined, and
   * `IPI_NOT_SUPPORTED` for SMI, which this machine lacks. Otherwise lets everything pass: such
   * commands then do what they seem to mean, if that is anything.
   */
  check(command: number): void {
    if (this.#strict) this.#checkStrictly(command)
  }

  #checkStrictly(command: number): void {
    if ((command & ICR.mode) === DELIVERY_MODE.smi) {
      throw new IpiError('IPI_NOT_SUPPORTED', 'this machine has no system-management mode', {
        cpu: this.#cpu,
      })
    }
    if (isDefinedCommand(command)) return
    throw new IpiError(
      'IPI_APIC_FAULT',
      `the manual does not define this command: ${describeCommand(command)}; ` +
        'create the machine without strictApic to send it all the same',
      { cpu: this.#cpu },
    )
  }

  /**
   * Sends. `destination` is an ID, a logical destination, or BROADCAST. Level-triggered commands
   * are sent as edge-triggered ones, as every part since the Pentium 4 does, and the assert bit is
   * not asked for: Linux 2.6.11 never sets it.
   */
  send(destination: number, command: number): void {
    const vector = command & ICR.vector
    const cpus = this.#targets(destination, command)
    if ((command & ICR.mode) !== DELIVERY_MODE.fixed || vector < FIRST_VECTOR) {
      return this.#sendOther(cpus, command)
    }
    for (let i = 0; i < cpus.length; i++) this.#postFixed(cpus[i]!, vector)
  }

  #targets(destination: number, command: number): readonly number[] {
    const shorthand = command & ICR.shorthand
    if (shorthand === SHORTHAND.self) return this.#self
    // Pairs with ApicPage.publish: whoever sees the new generation sees what was changed before it.
    if (load(this.#words, HEADER.apicMapGeneration) !== this.#map.generation) {
      this.#map = new ApicMap(this.#memory, this.#cpu)
    }
    if (shorthand === SHORTHAND.none) {
      return this.#map.resolve(destination, (command & ICR.logical) !== 0)
    }
    return shorthand === SHORTHAND.all ? this.#map.all : this.#map.allButSelf
  }

  /** To itself a CPU needs no post: its own request bit is set by the time the send completes. */
  #postFixed(cpu: number, vector: number): void {
    if (cpu === this.#cpu) this.#receiver.acceptFixed(vector, false)
    else this.#descriptors[cpu]!.postFixed(vector, false)
  }

  /** Everything but ordinary interrupts. */
  #sendOther(cpus: readonly number[], command: number): void {
    const vector = command & ICR.vector
    // Sent all the same: each receiver logs it too, and delivers nothing.
    if (hasIllegalVector(command)) this.#errors.detect(ESR.sendIllegalVector)
    switch (command & ICR.mode) {
      case DELIVERY_MODE.fixed:
        for (const cpu of cpus) this.#postFixed(cpu, vector)
        return
      case DELIVERY_MODE.lowestPriority:
        return this.#postLowest(cpus, vector)
      case DELIVERY_MODE.nmi:
        for (const cpu of cpus) this.#postNmi(cpu)
        return
      case DELIVERY_MODE.init:
        if (isInitDeassert(command)) return
        for (const cpu of cpus) this.#postInit(cpu)
        return
      case DELIVERY_MODE.startup:
        for (const cpu of cpus) this.#postStartup(cpu, vector)
        return
      default:
        return this.#receiver.refuseMode()
    }
  }

  #postLowest(cpus: readonly number[], vector: number): void {
    const candidates = cpus.flatMap((cpu) => this.#map.identity(cpu) ?? [])
    const cpu = this.#arbiter.choose(candidates, vector)
    if (cpu >= 0) this.#postFixed(cpu, vector)
  }

  #postNmi(cpu: number): void {
    if (cpu === this.#cpu) this.#receiver.acceptNmi(1)
    else this.#descriptors[cpu]!.postNmi()
  }

  #postInit(cpu: number): void {
    if (cpu === this.#cpu) this.#receiver.acceptInitSipi(INIT_SIPI.init)
    else this.#descriptors[cpu]!.postInit()
  }

  #postStartup(cpu: number, vector: number): void {
    if (cpu === this.#cpu) this.#receiver.acceptInitSipi(INIT_SIPI.sipi | vector)
    else this.#descriptors[cpu]!.postStartup(vector)
  }
}

/** A test bench: several CPUs' APICs over one memory, all owned by this one thread. */

import { LocalApic, type LocalApicOptions } from '../../src/hardware/apic/local-apic.ts'
import { raiseApicMapGeneration } from '../../src/hardware/apic/page.ts'
import { REGISTER } from '../../src/hardware/apic/registers.ts'
import { Descriptor } from '../../src/hardware/descriptor.ts'
import { CPU, CPU_STATE, HEADER } from '../../src/hardware/layout.ts'
import { MachineMemory } from '../../src/hardware/machine-memory.ts'
import { store } from '../../src/hardware/memory.ts'

/** IA32_APIC_BASE, and values of it. */
export const APIC_BASE_MSR = 0x1b
export const EN = 1n << 11n
export const EXTD = 1n << 10n
export const DEFAULT_BASE = 0xfee0_0000n

/** The error code of a refused register access, for `assert.throws`. */
export const FAULT = { code: 'IPI_APIC_FAULT' }

/** Several CPUs over one memory: present, running, software enabled, each with its flat LDR. */
export class ApicBench {
  readonly memory: MachineMemory
  readonly descriptors: readonly Descriptor[]
  readonly apics: readonly LocalApic[]

  constructor(cpuCount: number, options: LocalApicOptions = {}) {
    const memory = MachineMemory.create({
      cpuCount,
      slotCount: Math.max(64, cpuCount),
      slotWords: 256,
      flushLogSize: 1,
      taskCount: 2,
    })
    const cpus = Array.from({ length: cpuCount }, (_, cpu) => cpu)
    this.memory = memory
    this.descriptors = cpus.map((cpu) => new Descriptor(memory, cpu))
    this.apics = cpus.map((cpu) => new LocalApic(memory, cpu, this.descriptors, options))
    for (const cpu of cpus) {
      memory.setCpu(HEADER.presentMask, cpu)
      this.setState(cpu, CPU_STATE.running)
      this.apics[cpu]!.write(REGISTER.ldr, ((1 << (cpu % 8)) << 24) >>> 0)
      this.apics[cpu]!.write(REGISTER.svr, 0x1ff)
    }
    raiseApicMapGeneration(memory)
  }

  /** What a core would write: senders and the APIC read it. */
  setState(cpu: number, state: number): void {
    store(this.memory.words, this.memory.cpuPage(cpu) + CPU.state, state)
  }

  /** Puts CPUs into x2APIC mode; all of them if none is named. */
  toX2apic(...cpus: number[]): void {
    for (const cpu of cpus.length > 0 ? cpus : this.apics.keys()) {
      const apic = this.apics[cpu]!
      apic.writeMsr(APIC_BASE_MSR, apic.readMsr(APIC_BASE_MSR) | EN | EXTD)
    }
  }

  /** Harvests everywhere and serves what is pending: each CPU's vectors in the order it took them. */
  receive(): number[][] {
    return this.apics.map((apic) => serve(apic))
  }

  /** The CPUs that `receive` has something for, after one send: how often each. */
  receptions(): number[] {
    return this.receive().map((vectors) => vectors.length)
  }
}

/** Harvests and serves every deliverable vector of one CPU; gives them in order. */
export function serve(apic: LocalApic): number[] {
  apic.harvest()
  const vectors: number[] = []
  for (let vector = apic.pendingVector(); vector >= 0; vector = apic.pendingVector()) {
    apic.acknowledge(vector)
    vectors.push(vector)
    apic.eoi()
  }
  return vectors
}

/** All vectors whose bit is set in a 256-bit register, by the plain register interface. */
export function vectorsIn(apic: LocalApic, register: number): number[] {
  return Array.from({ length: 256 }, (_, vector) => vector).filter(
    (vector) => ((apic.read(register + (vector >>> 5) * 0x10) >>> (vector & 31)) & 1) === 1,
  )
}

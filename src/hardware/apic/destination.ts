/**
 * Whom a destination means. Intel SDM vol. 3, chapter "APIC", "Determining IPI Destination".
 *
 * On hardware every APIC on the bus compares each message with itself. Here the sender does it for
 * them, once per destination: it keeps a private map, as KVM does (kvm_recalculate_apic_map and
 * kvm_apic_map_get_dest_lapic in arch/x86/kvm/lapic.c), and makes a new one when the generation in
 * the header has moved.
 */

import { CPU, HEADER } from '../layout.ts'
import type { MachineMemory } from '../machine-memory.ts'
import { load } from '../memory.ts'
import { APIC_BASE, modeOf, type ApicMode } from './base.ts'
import { ApicPage } from './page.ts'
import { DFR, REGISTER, SVR } from './registers.ts'

/**
 * The destination that means everybody: all ones, as a signed word. Destinations are 32-bit words
 * here, so that they stay small integers on the way of every interrupt.
 */
export const BROADCAST = -1

/** Cluster destinations above 255 that a map remembers before it starts anew. */
const CLUSTER_MEMO_MAX = 4096

const NOBODY: readonly number[] = []

/** What the others must know of an APIC. */
export interface ApicIdentity {
  readonly cpu: number
  readonly mode: ApicMode
  /** The APIC ID: 8 bits in xAPIC mode, 32 in x2APIC mode. */
  readonly id: number
  /** The logical ID, as wide. */
  readonly logicalId: number
  /** The model of the destination format register: how xAPIC mode reads `logicalId`. */
  readonly format: number
  readonly softwareEnabled: boolean
  readonly focusEnabled: boolean
}

/** The logical ID that an x2APIC derives from its ID: a cluster of sixteen, and one bit in it. */
export function x2apicLogicalId(id: number): number {
  return (((id >>> 4) << 16) | (1 << (id & 15))) >>> 0
}

/** Reads an APIC's identity from shared memory. Any CPU may read any other's. */
export function readIdentity(memory: MachineMemory, cpu: number): ApicIdentity {
  const page = new ApicPage(memory, cpu)
  const base = memory.readCpu(cpu, CPU.apicBase)
  const svr = page.load(REGISTER.svr)
  // Zero: the thread exists but has not powered its APIC up. An INIT must find it all the same, and
  // what it finds is the state after power-up.
  if (base === 0) return { ...identityOf(page, APIC_BASE.powerUp, 0), id: cpu, logicalId: 0 }
  return identityOf(page, base, svr)
}

function identityOf(page: ApicPage, base: number, svr: number): ApicIdentity {
  const mode = modeOf(base) ?? 'disabled'
  const shift = mode === 'x2apic' ? 0 : 24
  return {
    cpu: page.cpu,
    mode,
    id: page.load(REGISTER.id) >>> shift,
    logicalId: page.load(REGISTER.ldr) >>> shift,
    format: page.load(REGISTER.dfr) >>> 28,
    softwareEnabled: (svr & SVR.enabled) !== 0,
    focusEnabled: (svr & SVR.focusDisabled) === 0,
  }
}

/** Whether an APIC that is enabled takes a message for `destination` as its own. */
export function matches(apic: ApicIdentity, destination: number, logical: boolean): boolean {
  if (destination === BROADCAST) return true
  if (!logical) return apic.id === destination
  if (apic.mode === 'x2apic') return sharesCluster(apic.logicalId, destination, 16)
  if (isWide(destination)) return false
  if (apic.format === DFR.flat) return (apic.logicalId & destination) !== 0
  return apic.format === DFR.cluster && sharesCluster(apic.logicalId, destination, 4)
}

/** Whether a destination is more than eight bits can answer to. */
function isWide(destination: number): boolean {
  return (destination & ~0xff) !== 0
}

/** Same cluster, and a bit in common in the low half, which is `width` bits wide. */
function sharesCluster(logicalId: number, destination: number, width: number): boolean {
  const members = logicalId & destination & ((1 << width) - 1)
  return logicalId >>> width === destination >>> width && members !== 0
}

/**
 * One sender's map of all APICs, as of one generation. Immutable but for what it remembers: an NMI
 * handler that sends while its CPU makes a map makes its own.
 */
export class ApicMap {
  /** The header's generation when this map was made. Another one there means: make a new map. */
  readonly generation: number
  /** Everybody who accepts messages, ascending. */
  readonly all: readonly number[]
  /** Everybody but the sender. */
  readonly allButSelf: readonly number[]
  readonly #identities: readonly ApicIdentity[]
  readonly #physical: (readonly number[])[] = []
  readonly #logical: (readonly number[])[] = []
  readonly #clusters = new Map<number, readonly number[]>()

  constructor(memory: MachineMemory, self: number) {
    // Before the identities, pairing with ApicPage.publish, which raises it after the change: a
    // change that this reading misses has yet to move the generation away from what we note here.
    this.generation = load(memory.words, HEADER.apicMapGeneration)
    this.#identities = [...memory.readMask(HEADER.presentMask)]
      .map((cpu) => readIdentity(memory, cpu))
      .filter((apic) => apic.mode !== 'disabled')
    this.all = this.#identities.map((apic) => apic.cpu)
    this.allButSelf = this.all.filter((cpu) => cpu !== self)
  }

  /** The CPUs that a destination means. Each is worked out once, then remembered. */
  resolve(destination: number, logical: boolean): readonly number[] {
    if (destination === BROADCAST) return this.all
    if (isWide(destination)) return logical ? this.#resolveCluster(destination) : NOBODY
    const memo = logical ? this.#logical : this.#physical
    return (memo[destination] ??= this.#match(destination, logical))
  }

  /** What the map knows of a CPU that it has given as a destination. */
  identity(cpu: number): ApicIdentity | undefined {
    return this.#identities.find((apic) => apic.cpu === cpu)
  }

  #resolveCluster(destination: number): readonly number[] {
    const known = this.#clusters.get(destination)
    if (known !== undefined) return known
    if (this.#clusters.size >= CLUSTER_MEMO_MAX) this.#clusters.clear()
    const cpus = this.#match(destination, true)
    this.#clusters.set(destination, cpus)
    return cpus
  }

  #match(destination: number, logical: boolean): readonly number[] {
    return this.#identities
      .filter((apic) => matches(apic, destination, logical))
      .map((apic) => apic.cpu)
  }
}

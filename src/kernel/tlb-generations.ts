/**
 * The TLB driver that keeps copies coherent by generations: a flush writes what to forget into the log
 * of its space and publishes the generation; every CPU looks at that before each look-up. Nobody is
 * asked, but who wants to wait for copies to be gone. Linux `arch/x86/mm/tlb.c`.
 */

import type { CpuMask } from '../base/cpu-mask.ts'
import type { Cpu } from './cpu.ts'
import { Fill } from './fills.ts'
import { FLUSH, FLUSH_ALL_RECORD, FlushLog, type Flush } from './flush-log.ts'
import { cpuVmMask, findMm } from './mm.ts'
import type { IpiSenders } from './send.ts'
import { Shootdown, type FlushLevel, type FlushRequest } from './shootdown.ts'
import { FLUSH_ALL, type TlbDriver } from './tlb.ts'
import { Translations } from './translations.ts'

/** Translations that a CPU keeps of a space that says nothing about it. */
const ENTRIES = 4096

/** How to flush. */
export interface ShootdownOptions {
  readonly level: FlushLevel
  /** Linux has it as `freed_tables`: also lazy CPUs drop their copies before the flush is over. */
  readonly wakeLazy?: boolean
}

/** The driver on one CPU. Private to its thread. */
export class GenerationTlb implements TlbDriver {
  readonly #cpu: Cpu
  readonly #shootdown: Shootdown
  readonly #spaces = new Map<number, Translations>()
  /** The logs of spaces that this CPU only flushes. */
  readonly #logs = new Map<number, FlushLog>()
  /** Active in this turn of the event loop. */
  #active: Translations[] = []

  constructor(cpu: Cpu, senders: IpiSenders) {
    this.#cpu = cpu
    this.#shootdown = new Shootdown(cpu, senders)
  }

  findMm(name: string): number {
    return findMm(this.#cpu.memory, name)
  }

  cpuVmMask(mm: number): CpuMask {
    return cpuVmMask(this.#cpu.memory, mm)
  }

  /** This CPU's copies of a space, which it uses from now on. */
  space(mm: number, capacity = ENTRIES): Translations {
    let space = this.#spaces.get(mm)
    if (space === undefined) {
      space = new Translations(this.#cpu, mm, capacity, this.#onActive)
      space.join()
      this.#spaces.set(mm, space)
    }
    return space
  }

  /** Whether this CPU uses a space. */
  uses(mm: number): boolean {
    return this.#spaces.has(mm)
  }

  /** This CPU needs a space no more. */
  leave(mm: number): void {
    this.#spaces.get(mm)?.leave()
    this.#spaces.delete(mm)
  }

  /**
   * Active until its turn of the event loop ends. Until then nobody need ring: this CPU looks for itself
   * in the next turn.
   */
  readonly #onActive = (space: Translations): void => {
    this.#cpu.onLook()
    if (this.#active.length === 0) this.#cpu.platform.defer(this.#onTurnEnd)
    if (!this.#active.includes(space)) this.#active.push(space)
  }

  /** Nothing that has read a translation is on the stack any more. */
  readonly #onTurnEnd = (): void => {
    const spaces = this.#active
    this.#active = []
    for (const space of spaces) space.goLazy(false)
  }

  switchMm(mm: number): void {
    this.space(mm).poll()
  }

  enterLazyTlb(mm: number): void {
    this.#spaces.get(mm)?.goLazy(true)
  }

  /** The walk and the fill are one section with interrupts off; what was flushed meanwhile is not kept. */
  translate(mm: number, address: number, walk: (address: number) => unknown): unknown {
    const space = this.space(mm)
    const held = space.find(address)
    if (held !== undefined) return held.value
    const flags = this.#cpu.localIrqSave()
    const fill = new Fill(address)
    const mayKeep = space.begin(fill)
    try {
      const value = walk(address)
      if (mayKeep) space.end(fill, value)
      return value
    } finally {
      space.abandon(fill)
      this.#cpu.localIrqRestore(flags)
    }
  }

  holds(mm: number, address: number): boolean {
    const space = this.#spaces.get(mm)
    space?.poll()
    return space?.buffer.has(address) === true
  }

  flush(mm: number, start: number, end: number): FlushRequest | undefined {
    const kind = end - start === 1 ? FLUSH.key : FLUSH.range
    const flush = start === FLUSH_ALL ? FLUSH_ALL_RECORD : { kind, from: start | 0, to: end | 0 }
    return this.shootDown(mm, [flush], { level: 'dropped' })
  }

  /**
   * Flushes all of it at once. When this returns it is visible everywhere; the request is for who wants
   * more. The tables were changed before. Any context.
   */
  shootDown(
    mm: number,
    flushes: readonly Flush[],
    { level, wakeLazy = false }: ShootdownOptions,
  ): FlushRequest | undefined {
    const generation = this.#log(mm).append(flushes)
    const space = this.#spaces.get(mm)
    if (space !== undefined) {
      const flags = this.#cpu.localIrqSave()
      space.invalidate()
      this.#cpu.localIrqRestore(flags)
    }
    return this.flushTlbOthers(mm, generation, { level, wakeLazy })
  }

  /** Waits for the other CPUs to have applied a generation that was published. */
  flushTlbOthers(
    mm: number,
    generation: number,
    { level, wakeLazy = false }: ShootdownOptions,
  ): FlushRequest | undefined {
    return this.#shootdown.flushTlbOthers({ mm, generation, level, wakeLazy })
  }

  /**
   * Breaks a key: when this returns no CPU has a translation of that hash, and none keeps one until it is
   * made whole. Gives its place for `makeKey`, or -1 if too many are broken.
   */
  breakKey(space: Translations, hash: number): number {
    const place = space.broken.enter(hash)
    if (place >= 0) this.#publishBroken(space.mm, hash)
    return place
  }

  /** Makes a broken key whole. */
  makeKey(space: Translations, hash: number, place: number): void {
    space.broken.leave(place)
    this.#publishBroken(space.mm, hash)
  }

  #publishBroken(mm: number, hash: number): void {
    this.shootDown(mm, [{ kind: FLUSH.broken, from: hash, to: 0 }], { level: 'visible' })
  }

  #log(mm: number): FlushLog {
    const { memory, platform } = this.#cpu
    let log = this.#spaces.get(mm)?.log ?? this.#logs.get(mm)
    if (log === undefined) {
      log = new FlushLog(memory, mm, platform.processors)
      this.#logs.set(mm, log)
    }
    return log
  }

  flushEverything(): void {
    for (const space of this.#spaces.values()) space.flushLocal()
  }

  smpInvalidateInterrupt(): void {
    for (const space of this.#spaces.values()) space.invalidate()
    this.#cpu.apic.eoi()
  }

  leaveAll(): void {
    for (const space of this.#spaces.values()) space.leave()
  }
}

/**
 * One thread's copies of one address space, and what keeps them coherent. Linux `arch/x86/mm/tlb.c`:
 * switch_mm_irqs_off, enter_lazy_tlb, flush_tlb_func.
 *
 *                 look-up                          turn of the event loop ends
 *       lazy ---------------> active, catches up ------------------------------> lazy
 *                                ^      |
 *                                +------+  look-up, or interrupt: catches up if the generation has moved
 *
 * **The master rule**: a look-up that begins after a flush was published does not give what was read
 * before. Each look-up begins with an atomic look at the generation. A plain read would be a hint and
 * not enough: a compiler may take it out of a loop, or answer it from the turn before. So a flush needs
 * nobody's answer to be true; answers are for whoever wants to know that copies are gone.
 */

import { TLB, TLB_STATE } from '../hardware/layout.ts'
import { exchange, load, store, type SharedWords } from '../hardware/memory.ts'
import {
  hashKey,
  TranslationBuffer,
  type Filling,
  type Key,
  type Translation,
} from '../hardware/tlb.ts'
import { BrokenKeys } from './broken-keys.ts'
import { EVENT, type Cpu } from './cpu.ts'
import { Fills, type Fill } from './fills.ts'
import { FLUSH, FlushLog, type Flush } from './flush-log.ts'
import { vmMask } from './mm.ts'
import { wake } from './robust-lock.ts'

/** How long it takes to apply one record, in microseconds, and the part of a buffer that is used again. */
const RECORD_US = 0.2
const REUSED = 0.5
/** How long a walk takes before any was measured, in microseconds. */
const WALK_US = 100
/** Weight of a new measurement. */
const NEW = 1 / 8

/** One address space in one thread. */
export class Translations {
  readonly mm: number
  readonly buffer: TranslationBuffer
  readonly log: FlushLog
  readonly broken: BrokenKeys
  readonly #cpu: Cpu
  readonly #published: SharedWords
  readonly #line: number
  readonly #fills = new Fills()
  /** Called when it becomes active: kernel/tlb-generations.ts sees to it that it gets lazy again. */
  readonly #onActive: (self: Translations) => void
  /** The generation up to which everything is applied. */
  #seen = 0
  #quarters = 0
  #lazy = true
  /** It got lazy in the middle of a turn. */
  #blocked = false
  #left = false
  #brokenHashes: ReadonlySet<number> = new Set()
  #walkUs = WALK_US
  #fullCount = 0
  /** How often it became active: in another turn it is another number. */
  turn = 0

  constructor(cpu: Cpu, mm: number, capacity: number, onActive: (self: Translations) => void) {
    const { memory, id } = cpu
    this.#cpu = cpu
    this.mm = mm
    this.buffer = new TranslationBuffer(capacity)
    this.log = new FlushLog(memory, mm, cpu.platform.processors)
    this.broken = new BrokenKeys(cpu, mm)
    this.#published = this.log.published
    this.#line = memory.tlbLine(id, mm)
    this.#onActive = onActive
  }

  /** From now on this CPU uses the space. Once. */
  join(): void {
    const { memory, id } = this.#cpu
    store(memory.words, this.#line + TLB.state, TLB_STATE.lazy)
    memory.setCpu(vmMask(this.mm), id)
    // After the bit: whoever publishes later finds it, and nothing was read earlier.
    this.#seen = load(this.#published, 0)
    this.#quarters = this.log.quarters
    this.#brokenHashes = this.broken.read()
    store(memory.words, this.#line + TLB.ack, this.#seen)
  }

  /** The generation up to which everything is applied here. */
  get generation(): number {
    return this.#seen
  }

  /** How many flushes of everything there were, and how many fills were fenced. */
  get counts(): { readonly full: number; readonly fenced: number } {
    return { full: this.#fullCount, fenced: this.#fills.fencedCount }
  }

  /** Whether this CPU has left the space for good. */
  get hasLeft(): boolean {
    return this.#left
  }

  /** The translation of `key` if this thread has one. */
  find(key: Key): Translation | undefined {
    // As poll, without the way there.
    if (this.#lazy || load(this.#published, 0) !== this.#seen) this.service()
    return this.buffer.find(key)
  }

  /** The look before each look-up. */
  poll(): void {
    if (this.#lazy || load(this.#published, 0) !== this.#seen) this.service()
  }

  /** Catches up, and becomes active if it was lazy. Any context. */
  service(): void {
    if (this.#left) return
    const flags = this.#cpu.localIrqSave()
    const wasLazy = this.#lazy
    const atTurn = wasLazy && !this.#blocked
    if (wasLazy) {
      this.#lazy = this.#blocked = false
      // Active first, then the generation. The partner is
      // Shootdown.flushTlbOthers, which looks who is active after the generation was published.
      store(this.#cpu.memory.words, this.#line + TLB.state, TLB_STATE.active)
      this.turn++
      this.#onActive(this)
    }
    const generation = load(this.#published, 0)
    if (wasLazy || generation !== this.#seen) this.#catchUp(generation, atTurn)
    this.#cpu.localIrqRestore(flags)
  }

  /** An interrupt asks for it: a lazy thread drops its copies, and stays lazy. Interrupts off. */
  invalidate(): void {
    const generation = load(this.#published, 0)
    if (!this.#left && generation !== this.#seen) this.#catchUp(generation, false)
  }

  #catchUp(generation: number, atTurn: boolean): void {
    const { quarters } = this.log
    const behind = (generation - this.#seen) | 0
    const missed = behind < 0 || ((quarters - this.#quarters) | 0) > 1
    if (missed || behind > this.#ceiling) this.#full()
    else {
      for (let each = 1; each <= behind; each++) {
        const flush = this.log.read((this.#seen + each) | 0)
        if (flush === undefined) {
          this.#full()
          break
        }
        this.#apply(flush)
      }
    }
    this.#quarters = quarters
    // What was read above, and not what is published by now.
    this.#seen = generation
    const { words } = this.#cpu.memory
    store(words, this.#line + TLB.ack, generation)
    if (atTurn) store(words, this.#line + TLB.turnAck, generation)
    this.#tellWaiters()
  }

  /**
   * How many records are worth applying: more than the ring holds are not there, and more than it costs to
   * walk anew for what would be lost are not worth it. Linux has 33, because its walks are cheap.
   */
  get #ceiling(): number {
    const lost = (this.buffer.size + this.#fills.count) * REUSED * this.#walkUs
    return Math.min(this.log.size, lost / RECORD_US)
  }

  /** A walk has taken so long, in microseconds. */
  noteWalk(us: number): void {
    this.#walkUs += (us - this.#walkUs) * NEW
  }

  #apply({ kind, from, to }: Flush): void {
    this.#cpu.count(EVENT.tlbFlushes)
    switch (kind) {
      case FLUSH.key:
        this.buffer.invalidateHash(from)
        this.#fills.fence(from)
        return
      case FLUSH.range:
        this.buffer.invalidateRange(from >>> 0, to >>> 0)
        this.#fills.fenceRange(from >>> 0, to >>> 0)
        return
      case FLUSH.tag:
        this.buffer.invalidateTag(from)
        this.#fills.noteTag(from)
        return
      case FLUSH.broken:
        this.buffer.invalidateHash(from)
        this.#fills.fence(from)
        this.#brokenHashes = this.broken.read()
        return
      default:
        this.#full()
    }
  }

  #full(): void {
    this.#cpu.count(EVENT.tlbFlushes)
    this.#fullCount++
    this.buffer.flushAll()
    this.#fills.fenceAll()
    this.#brokenHashes = this.broken.read()
  }

  /** Forgets everything, here only. Interrupts off. */
  flushLocal(): void {
    this.#full()
  }

  /** Forgets one translation, here only, and lets fills go on. */
  drop(key: Key): void {
    const flags = this.#cpu.localIrqSave()
    this.buffer.invalidatePage(key)
    this.#cpu.localIrqRestore(flags)
  }

  /** Forgets one translation, here only, and fences fills. Gives whether there was one. */
  evict(key: Key): boolean {
    const flags = this.#cpu.localIrqSave()
    const held = this.buffer.invalidatePage(key)
    this.#fills.fence(hashKey(key))
    this.#cpu.localIrqRestore(flags)
    return held
  }

  /** A fill that somebody who asks now may join. */
  findFill(key: Key): Fill | undefined {
    this.poll()
    return this.#fills.find(key)
  }

  /**
   * A walk begins: read nothing before this. Gives whether its result may be kept; if not, nobody may
   * join it.
   */
  begin(fill: Fill): boolean {
    // One section: a key that is broken in the middle of it is broken before, or fences the fill.
    const flags = this.#cpu.localIrqSave()
    this.poll()
    const mayKeep = !this.#left && !this.#brokenHashes.has(fill.hash)
    if (mayKeep) this.#fills.add(fill)
    this.#cpu.localIrqRestore(flags)
    return mayKeep
  }

  /** A walk is over, for which `begin` gave true; gives whether its result was kept. */
  end(fill: Fill, value: unknown, filling?: Filling): boolean {
    // Not needed for the rule, the next look-up would catch up; it saves what would be dropped there.
    this.poll()
    const flags = this.#cpu.localIrqSave()
    const kept = this.#fills.delete(fill) && !isFlushed(fill, filling)
    if (kept) this.buffer.fill(fill.key, value, filling)
    this.#cpu.localIrqRestore(flags)
    return kept
  }

  /**
   * The calling thread has written `value` itself, and everybody else shall forget what they have. Gives the
   * generation of the flush. This thread keeps the value, unless somebody flushed the key since the fill
   * began, or flushes anything at this moment.
   */
  publishAndKeep(fill: Fill, flush: Flush, value: unknown, filling: Filling): number {
    this.poll()
    const flags = this.#cpu.localIrqSave()
    const mayKeep = this.#fills.delete(fill) && !isFlushed(fill, filling)
    const before = this.#seen
    const generation = this.log.append([flush])
    this.invalidate()
    // Nobody came before us, and nobody after whom this thread has caught up with: not flushed since.
    const alone = generation === ((before + 1) | 0) && generation === this.#seen
    if (mayKeep && alone) this.buffer.fill(fill.key, value, filling)
    this.#cpu.localIrqRestore(flags)
    return generation
  }

  /** A walk has failed, or nobody wants its result any more. */
  abandon(fill: Fill): void {
    const flags = this.#cpu.localIrqSave()
    this.#fills.delete(fill)
    this.#cpu.localIrqRestore(flags)
  }

  /**
   * `enter_lazy_tlb`: no code below this has read anything, so nobody needs to wait for this thread. It
   * catches up before its next look-up. `blocked`: in the middle of a turn.
   */
  goLazy(blocked: boolean): void {
    const flags = this.#cpu.localIrqSave()
    if (!this.#left && (!this.#lazy || (this.#blocked && !blocked))) {
      const { words } = this.#cpu.memory
      this.#lazy = true
      this.#blocked = blocked
      if (!blocked) store(words, this.#line + TLB.turnAck, this.#seen)
      store(words, this.#line + TLB.state, blocked ? TLB_STATE.lazyBlocked : TLB_STATE.lazy)
      this.#tellWaiters()
    }
    this.#cpu.localIrqRestore(flags)
  }

  /** This thread needs the space no more. */
  leave(): void {
    if (this.#left) return
    const { memory, id } = this.#cpu
    const flags = this.#cpu.localIrqSave()
    this.#full()
    this.#left = this.#lazy = true
    memory.clearCpu(vmMask(this.mm), id)
    store(memory.words, this.#line + TLB.state, TLB_STATE.off)
    this.#tellWaiters()
    this.#cpu.localIrqRestore(flags)
  }

  /**
   * After what they wait for was stored. The partner is Shootdown, whose waiters enter themselves here
   * and then look: either they see what we stored, or we see them.
   */
  #tellWaiters(): void {
    const { memory } = this.#cpu
    const { words } = memory
    if (load(words, this.#line + TLB.awaited) === 0) return
    exchange(words, this.#line + TLB.awaited, 0)
    for (let i = 0; i < (memory.cpuCount + 31) >>> 5; i++) {
      let bits = exchange(words, this.#line + TLB.waiters + i, 0)
      for (let cpu = i * 32; bits !== 0; cpu++, bits >>>= 1) {
        if ((bits & 1) !== 0) wake(this.#cpu, cpu)
      }
    }
  }
}

/** Whether a result bears a tag that was flushed while it was walked for. */
function isFlushed({ flushedTags }: Fill, filling: Filling | undefined): boolean {
  if (flushedTags === undefined) return false
  return (filling?.tags ?? []).some((tag) => flushedTags.includes(tag))
}

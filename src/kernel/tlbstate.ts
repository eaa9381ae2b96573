/**
 * TLB shootdown, the protocol of Linux 2.6.11 `arch/i386/kernel/smp.c` (flush_tlb_others,
 * smp_invalidate_interrupt, leave_mm) and `include/asm-i386/mmu_context.h` (switch_mm): one global
 * request slot under `tlbstate_lock`, and a mask in which every asked CPU clears its own bit after
 * it has flushed; it also says which request it has answered, because the bit alone could be cleared
 * for the request of an initiator that has died. Two of its defects are mended, both named where they stood: the handler that
 * left without acknowledging, and the old space's mask bit cleared before its tables were left.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import { assert } from '../base/assert.ts'
import { CPU, CPU_STATE, HEADER, INIT_MM, MM_COUNT_MAX } from '../hardware/layout.ts'
import { add, load, store } from '../hardware/memory.ts'
import { TranslationBuffer } from '../hardware/tlb.ts'
import { EVENT, type Cpu } from './cpu.ts'
import { cpuVmMask, findMm, vmMask } from './mm.ts'
import { RobustLock, wake } from './robust-lock.ts'
import type { IpiSenders } from './send.ts'
import type { FlushRequest } from './shootdown.ts'
import { FLUSH_ALL, type TlbDriver } from './tlb.ts'
import { VECTOR } from './vectors.ts'

/** `cpu_tlbstate.state`. */
export const TLBSTATE = { OK: 1, LAZY: 2 } as const

/** The driver on one CPU, which has one active space at a time. Private to its thread. */
export class TlbStateDriver implements TlbDriver {
  readonly #cpu: Cpu
  readonly #senders: IpiSenders
  readonly #lock: RobustLock
  /** This CPU's translations. */
  readonly buffer = new TranslationBuffer()
  /** Whose tables are loaded: what CR3 points to. */
  #loaded = INIT_MM

  constructor(cpu: Cpu, senders: IpiSenders) {
    this.#cpu = cpu
    this.#senders = senders
    this.#lock = new RobustLock(cpu, HEADER.tlbLock)
    this.#activeMm = INIT_MM
    this.#state = TLBSTATE.OK
  }

  findMm(name: string): number {
    return findMm(this.#cpu.memory, name)
  }

  get #activeMm(): number {
    return this.#cpu.memory.words[this.#cpu.page + CPU.activeMm]!
  }

  set #activeMm(mm: number) {
    store(this.#cpu.memory.words, this.#cpu.page + CPU.activeMm, mm)
  }

  get #state(): number {
    return this.#cpu.memory.words[this.#cpu.page + CPU.tlbState]!
  }

  set #state(state: number) {
    store(this.#cpu.memory.words, this.#cpu.page + CPU.tlbState, state)
  }

  /** The space whose tables are loaded. */
  get loaded(): number {
    return this.#loaded
  }

  cpuVmMask(mm: number): CpuMask {
    return cpuVmMask(this.#cpu.memory, mm)
  }

  /**
   * `switch_mm`: makes `next` the active space. The order is what the protocol lives by:
   * state and active space before the mask bit, so that a flush that finds the bit finds a CPU that
   * will honour it; the mask bit before the tables, so that no translation is read that a flush
   * does not reach; the old space's bit last, while 2.6.11 cleared it first and for a moment read
   * tables that nobody told it about.
   */
  switchMm(next: number): void {
    const flags = this.#cpu.localIrqSave()
    const { memory, id } = this.#cpu
    const prev = this.#activeMm
    if (prev !== next) {
      this.#state = TLBSTATE.OK
      this.#activeMm = next
      memory.setCpu(vmMask(next), id)
      this.#loadTables(next)
      memory.clearCpu(vmMask(prev), id)
    } else {
      this.#state = TLBSTATE.OK
      // Clear: we left while lazy, and were told of no change since.
      if (!memory.setCpu(vmMask(next), id)) this.#loadTables(next)
    }
    this.#cpu.localIrqRestore(flags)
  }

  /** `enter_lazy_tlb`: nothing of the space is needed now; a flush may make this CPU leave it. */
  enterLazyTlb(): void {
    // Of the active space, whatever the caller's: there is one state.
    if (this.#state === TLBSTATE.OK) this.#state = TLBSTATE.LAZY
  }

  /** `leave_mm`: from now on nobody needs to ask this CPU. Lazy CPUs only. */
  #leaveMm(): void {
    assert(this.#state !== TLBSTATE.OK, 'a CPU that uses a space does not leave it')
    this.#cpu.memory.clearCpu(vmMask(this.#activeMm), this.#cpu.id)
    this.#loadTables(INIT_MM)
  }

  #loadTables(mm: number): void {
    this.#loaded = mm
    this.buffer.reload()
  }

  /**
   * Translates through the buffer; `walk` reads the tables on a miss. The walk and the fill are one
   * section with interrupts off: a flush comes before both or after both, never between.
   */
  translate(mm: number, address: number, walk: (address: number) => unknown): unknown {
    if (this.#loaded !== mm || this.#activeMm !== mm || this.#state !== TLBSTATE.OK) {
      this.switchMm(mm)
    }
    const flags = this.#cpu.localIrqSave()
    try {
      if (!this.buffer.has(address)) this.buffer.fill(address, walk(address))
      return this.buffer.lookup(address)
    } finally {
      this.#cpu.localIrqRestore(flags)
    }
  }

  holds(mm: number, address: number): boolean {
    return this.#loaded === mm && this.buffer.has(address)
  }

  /** `flush_tlb_mm` and `flush_tlb_page`. A range takes the whole space with it: the request has no end. */
  flush(mm: number, start: number, end: number): FlushRequest | undefined {
    const va = end - start === 1 ? start : FLUSH_ALL
    this.#flushLocal(mm, va)
    return this.flushOthers(mm, va)
  }

  #flushLocal(mm: number, va: number): void {
    const flags = this.#cpu.localIrqSave()
    if (this.#activeMm === mm) this.#flush(va)
    this.#cpu.localIrqRestore(flags)
  }

  /** `do_flush_tlb_all`: everything, and a lazy CPU leaves. Runs on each CPU, interrupts off. */
  flushEverything(): void {
    this.#cpu.count(EVENT.tlbFlushes)
    this.buffer.flushAll()
    if (this.#state === TLBSTATE.LAZY && this.#loaded !== INIT_MM) this.#leaveMm()
  }

  #flush(va: number): void {
    this.#cpu.count(EVENT.tlbFlushes)
    if (this.#state !== TLBSTATE.OK) {
      if (this.#loaded !== INIT_MM) this.#leaveMm()
    } else if (va === FLUSH_ALL) {
      this.buffer.reload()
    } else {
      this.buffer.invalidatePage(va)
    }
  }

  /**
   * `flush_tlb_others`, as a condition that goes one step further each time it is looked at and
   * holds when every CPU of the space has flushed: take the lock, publish the request, interrupt,
   * wait for the mask, give the lock back. Undefined if nobody has to be asked. The caller has
   * changed the tables before: the mask is read here, after that.
   */
  flushOthers(mm: number, va: number): FlushRequest | undefined {
    const { memory, id } = this.#cpu
    const mask = this.cpuVmMask(mm).and(memory.onlineMask).without(id)
    if (mask.isEmpty) return undefined
    const asked = [...mask].map((cpu) => ({ cpu, life: memory.readCpu(cpu, CPU.incarnation) }))
    let sequence = 0
    let done = false
    return {
      mustFinish: true,
      late: () => asked.filter((each) => !this.#hasFlushed(each, sequence)).map(({ cpu }) => cpu),
      finish: () => {
        if (done) return true
        if (sequence === 0) {
          if (!this.#lock.tryAcquire()) return false
          sequence = this.#publish(mask, mm, va)
        }
        if (!asked.every((each) => this.#hasFlushed(each, sequence))) return false
        memory.words[HEADER.flushMm] = INIT_MM
        // The bits of those that died instead of answering.
        memory.writeMask(HEADER.flushMask, CpuMask.of())
        this.#lock.release()
        done = true
        return true
      },
    }
  }

  #publish(mask: CpuMask, mm: number, va: number): number {
    const { memory } = this.#cpu
    memory.words[HEADER.flushMm] = mm
    memory.words[HEADER.flushVa] = va | 0
    memory.writeMask(HEADER.flushMask, mask)
    const sequence = add(memory.words, HEADER.flushSequence, 1) + 1
    // The request before its number, the number before the interrupt: the partner is
    // smpInvalidateInterrupt, which loads the number first.
    this.#senders.sendIpiMask(mask, VECTOR.INVALIDATE_TLB_VECTOR)
    return sequence
  }

  /**
   * Whether a CPU has answered the request, or is gone and holds no translations any more. Its bit
   * in the mask is not asked: a CPU that was slow over the request of an initiator that died clears
   * it in whatever request stands there then.
   */
  #hasFlushed({ cpu, life }: { cpu: number; life: number }, sequence: number): boolean {
    const { memory } = this.#cpu
    if (memory.readCpu(cpu, CPU.flushAck) === sequence) return true
    if (memory.readCpu(cpu, CPU.incarnation) !== life) return true
    const state = memory.readCpu(cpu, CPU.state)
    return state === CPU_STATE.dead || state === CPU_STATE.offline || state === CPU_STATE.stopped
  }

  /**
   * `smp_invalidate_interrupt`: flushes if this CPU uses the space, leaves it if lazy, does nothing
   * if it uses another; acknowledges; then says so and clears its bit. That goes last: when the
   * initiator sees it, the flush has been done.
   */
  smpInvalidateInterrupt(): void {
    const { memory, id, apic, page } = this.#cpu
    // The number first: what is read after it is this request or a later one, never an earlier.
    const sequence = load(memory.words, HEADER.flushSequence)
    const asked = sequence !== memory.words[page + CPU.flushAck]
    if (asked && memory.words[HEADER.flushMm] === this.#activeMm) {
      this.#flush(memory.words[HEADER.flushVa]! >>> 0)
    }
    apic.eoi()
    if (!asked) return
    store(memory.words, page + CPU.flushAck, sequence)
    memory.clearCpu(HEADER.flushMask, id)
    const initiator = this.#lock.holder
    if (initiator >= 0) wake(this.#cpu, initiator)
  }

  /** This CPU goes offline: it leaves every space, and nobody needs to ask it. */
  leaveAll(): void {
    for (let mm = INIT_MM; mm < MM_COUNT_MAX; mm++) {
      this.#cpu.memory.clearCpu(vmMask(mm), this.#cpu.id)
    }
    this.#activeMm = INIT_MM
    this.#loadTables(INIT_MM)
    this.#cpu.memory.clearCpu(HEADER.flushMask, this.#cpu.id)
  }
}

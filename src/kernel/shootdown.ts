/**
 * Waiting for other CPUs to have dropped what was flushed. Linux `arch/x86/mm/tlb.c`: flush_tlb_others,
 * should_flush_tlb. That nobody can see the old value any more needs no waiting at all
 * (kernel/translations.ts); this is for whoever must know more.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import { CPU, CPU_STATE, TLB, TLB_STATE } from '../hardware/layout.ts'
import { load, or, store } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'
import { cpuVmMask } from './mm.ts'
import type { IpiSenders } from './send.ts'
import { VECTOR } from './vectors.ts'

/** What must be so when a flush is over, one more than the other. */
export type FlushLevel =
  /** Every look-up that begins from now on misses, or gives what was read after the flush began. */
  | 'visible'
  /** And every active CPU has dropped its copy, and fenced its fills. Lazy ones do before they look. */
  | 'dropped'
  /** And every CPU has ended the turn of its event loop in which it may have read one. */
  | 'quiesced'

/** A flush of other CPUs under way. */
export interface FlushRequest {
  /** Steps the protocol; holds when it is over. */
  readonly finish: () => boolean
  /** The CPUs that have not answered yet. */
  readonly late: () => number[]
  /** It holds a lock, and must be stepped on even if nobody waits for it any more. */
  readonly mustFinish: boolean
}

/** One flush, as its waiters look at it. */
interface Awaited {
  readonly mm: number
  readonly generation: number
  readonly level: FlushLevel
  /** Lazy CPUs are interrupted too, because what their copies point to will be used again. */
  readonly wakeLazy: boolean
}

interface Target {
  readonly cpu: number
  readonly life: number
}

/** The shootdowns of one CPU. Private to its thread. */
export class Shootdown {
  readonly #cpu: Cpu
  readonly #senders: IpiSenders

  constructor(cpu: Cpu, senders: IpiSenders) {
    this.#cpu = cpu
    this.#senders = senders
  }

  /**
   * `flush_tlb_others`: interrupts the CPUs that must drop copies now; undefined if there is nobody to
   * wait for. The generation was published before, and who is active is looked at here, after that: a
   * CPU that is seen lazy looks at the generation after it has said that it is active.
   */
  flushTlbOthers(awaited: Awaited): FlushRequest | undefined {
    if (awaited.level === 'visible') return undefined
    const { memory, id } = this.#cpu
    let targets: Target[] = []
    const interrupted: number[] = []
    for (const cpu of cpuVmMask(memory, awaited.mm).without(id)) {
      const target = { cpu, life: memory.readCpu(cpu, CPU.incarnation) }
      if (this.#isDone(target, awaited)) continue
      targets.push(target)
      const state = load(memory.words, memory.tlbLine(cpu, awaited.mm) + TLB.state)
      // Who is to end a turn does so without being interrupted.
      const asked = awaited.level === 'dropped' && (state === TLB_STATE.active || awaited.wakeLazy)
      if (asked && this.#cpu.isOnline(cpu)) interrupted.push(cpu)
    }
    if (targets.length === 0) return undefined
    if (interrupted.length > 0) {
      this.#senders.sendIpiMask(CpuMask.from(interrupted), VECTOR.INVALIDATE_TLB_VECTOR)
    }
    return {
      finish: () => {
        const rest: Target[] = []
        for (const target of targets) if (!this.#awaits(target, awaited)) rest.push(target)
        targets = rest
        return targets.length === 0
      },
      late: () => targets.map(({ cpu }) => cpu),
      mustFinish: false,
    }
  }

  /** Whether a target has answered; if not, it will tell us. Entered first, then looked. */
  #awaits(target: Target, awaited: Awaited): boolean {
    if (this.#isDone(target, awaited)) return true
    const { memory, id } = this.#cpu
    const line = memory.tlbLine(target.cpu, awaited.mm)
    or(memory.words, line + TLB.waiters + (id >>> 5), 1 << (id & 31))
    store(memory.words, line + TLB.awaited, 1)
    return this.#isDone(target, awaited)
  }

  #isDone({ cpu, life }: Target, { mm, generation, level, wakeLazy }: Awaited): boolean {
    const { memory } = this.#cpu
    const line = memory.tlbLine(cpu, mm)
    const state = load(memory.words, line + TLB.state)
    if (state === TLB_STATE.off) return true
    if (level === 'quiesced') {
      if (state === TLB_STATE.lazy) return true
    } else if (state !== TLB_STATE.active && !wakeLazy) return true
    const ack = load(memory.words, line + (level === 'quiesced' ? TLB.turnAck : TLB.ack))
    if (((ack - generation) | 0) >= 0) return true
    if (memory.readCpu(cpu, CPU.incarnation) !== life) return true
    const does = memory.readCpu(cpu, CPU.state)
    return does === CPU_STATE.dead || does === CPU_STATE.offline || does === CPU_STATE.stopped
  }
}

/**
 * The default call driver: one lock-free queue per target. Linux `kernel/smp.c`
 * (generic_smp_call_function_single_interrupt): only the enqueuer that found the queue empty sends
 * the interrupt; the target takes the whole queue at once, and serves whoever waits first.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import { CPU, SLOT } from '../hardware/layout.ts'
import { compareExchange, exchange, load } from '../hardware/memory.ts'
import { EVENT, type Cpu } from './cpu.ts'
import {
  CLOSED,
  pushSlot,
  REQUEST_FLAG,
  requestFlags,
  slotsOldestFirst,
  takeSlots,
} from './request.ts'
import type { IpiSenders } from './send.ts'
import type { CallServer } from './serve.ts'
import { VECTOR } from './vectors.ts'

/** Requests that were filled together: one slot per target. */
export interface CallBatch {
  readonly targets: readonly number[]
  readonly slots: readonly number[]
  readonly wait: boolean
}

/** A batch that was handed over. */
export interface Submission {
  /** The targets that were not online. */
  readonly offline: number[]
  /** What the driver has still to do, as a condition to be looked at until it holds. */
  readonly finish?: (() => boolean) | undefined
  /** Whether the requests have left this CPU; without it they have. */
  readonly hasLeft?: (() => boolean) | undefined
}

/** How filled requests get to their targets. */
export interface CallDriver {
  readonly name: CallDriverName
  /** Hands the requests of a batch over. */
  submit(batch: CallBatch): Submission
  /** `smp_call_function_interrupt`, after the acknowledgement. */
  serve(): void
  /** Whether `serve` would now run nothing but what may run in the middle of other JavaScript. */
  isInterruptSafe(): boolean
  /** Opens this CPU's door to requests. */
  open(): void
  /** Closes the door and serves what came through it before: the last act of a leaving CPU. */
  close(): void
  /** Closes the door, and runs nothing of what came through it before: in the middle of anything. */
  shut(): void
}

/** Names of the drivers, in the order of HEADER.callDriver. */
export const CALL_DRIVERS = ['queue', 'callData'] as const
/** `queue`: per-target queues; `callData`: the one global record of Linux 2.6.11. */
export type CallDriverName = (typeof CALL_DRIVERS)[number]

/** Nobody was offline: shared, because it is the common answer. */
const ALL_ONLINE: { readonly offline: number[] } = { offline: [] }

/** Per-target queues. One per thread. */
export class CallQueueDriver implements CallDriver {
  readonly name = 'queue'
  readonly #cpu: Cpu
  readonly #senders: IpiSenders
  readonly #server: CallServer
  readonly #head: number

  constructor(cpu: Cpu, senders: IpiSenders, server: CallServer) {
    this.#cpu = cpu
    this.#senders = senders
    this.#server = server
    this.#head = cpu.page + CPU.callQueue
  }

  submit(batch: CallBatch): { readonly offline: number[] } {
    const { memory } = this.#cpu
    if (batch.targets.length === 1) {
      const target = batch.targets[0]!
      const pushed = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[0]!)
      if (pushed === 'closed') return { offline: [target] }
      // The interrupt follows the push: a target that takes the queue finds the request.
      if (pushed === 'first') this.#senders.sendIpiCpu(target, VECTOR.CALL_FUNCTION_VECTOR)
      else this.#cpu.count(EVENT.ipisAvoided)
      return ALL_ONLINE
    }
    const offline: number[] = []
    const told: number[] = []
    for (let i = 0; i < batch.targets.length; i++) {
      const target = batch.targets[i]!
      const pushed = pushSlot(memory, memory.cpuPage(target) + CPU.callQueue, batch.slots[i]!)
      if (pushed === 'closed') offline.push(target)
      else if (pushed === 'first') told.push(target)
      else this.#cpu.count(EVENT.ipisAvoided)
    }
    if (told.length === 1) this.#senders.sendIpiCpu(told[0]!, VECTOR.CALL_FUNCTION_VECTOR)
    else this.#senders.sendIpiMask(CpuMask.from(told), VECTOR.CALL_FUNCTION_VECTOR)
    return offline.length === 0 ? ALL_ONLINE : { offline }
  }

  serve(): void {
    if (this.#cpu.core.isForced) return this.#serveForced()
    // The exchange comes after the interrupt was taken: a request that is pushed after it finds the
    // queue empty and sends an interrupt of its own.
    const taken = takeSlots(this.#cpu.memory, this.#head)
    if (taken === CLOSED) this.close()
    else this.#serveList(taken)
  }

  /**
   * Below a forced entry: takes the queue only as it was when all of it was found safe. Something else
   * may be pushed at any moment; then the interrupt is requested once more, for a safepoint.
   */
  #serveForced(): void {
    const { memory, apic } = this.#cpu
    for (;;) {
      const newest = load(memory.words, this.#head)
      if (newest === 0) return
      if (!this.#allSafe(newest)) {
        apic.raise(VECTOR.CALL_FUNCTION_VECTOR)
        return
      }
      if (compareExchange(memory.words, this.#head, newest, 0) !== newest) continue
      return this.#serveList(newest)
    }
  }

  isInterruptSafe(): boolean {
    return this.#allSafe(load(this.#cpu.memory.words, this.#head))
  }

  #allSafe(newest: number): boolean {
    if (newest === CLOSED) return false
    const slots: number[] = []
    slotsOldestFirst(this.#cpu.memory, newest, slots)
    return slots.every((slot) => this.#server.isInterruptSafe(slot))
  }

  open(): void {
    exchange(this.#cpu.memory.words, this.#head, 0)
  }

  close(): void {
    // One exchange takes what is there and lets nobody in after it: what was pushed while this CPU
    // was online runs, what comes later finds the door closed. No CPU needs to be stopped for that.
    const last = exchange(this.#cpu.memory.words, this.#head, CLOSED)
    if (last !== CLOSED) this.#serveList(last)
  }

  shut(): void {
    const newest = exchange(this.#cpu.memory.words, this.#head, CLOSED)
    if (newest === CLOSED) return
    const slots: number[] = []
    slotsOldestFirst(this.#cpu.memory, newest, slots)
    for (const slot of slots) this.#server.refuse(slot)
  }

  #serveList(first: number): void {
    if (first === 0) return
    const { memory } = this.#cpu
    if (memory.words[memory.slot(first - 1) + SLOT.next] === 0) return this.#serveOne(first - 1)
    const slots: number[] = []
    slotsOldestFirst(memory, first, slots)
    const later: number[] = []
    for (const slot of slots) {
      // Whoever waits comes first: a processor may be idle until we answer.
      if ((requestFlags(memory, slot) & REQUEST_FLAG.wait) !== 0) this.#serveOne(slot)
      else later.push(slot)
    }
    for (const slot of later) this.#serveOne(slot)
  }

  #serveOne(slot: number): void {
    const call = this.#server.claim(slot)
    if (typeof call === 'object') this.#server.run(call)
  }
}

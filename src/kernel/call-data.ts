/**
 * The call driver of Linux 2.6.11, `arch/i386/kernel/smp.c`: one global record, `call_data`, under
 * one lock, and one interrupt to all. Kept beside the queues so that both can be studied, compared
 * and explored. Its public defects are mended here; each is named where it stood:
 *
 *  - *count before the lock*: 2.6.11 counts the online CPUs, then takes `call_lock`. A CPU that goes
 *    in between is waited for in vain. Here one mask is counted, sent to and waited for, and a CPU
 *    of it that has gone is not waited for.
 *  - *dangling call_data*: the pointer outlives the record, and starts as null. Here it is 0, the
 *    idle record, whenever no request is out: a late interrupt is a no-op.
 *  - *equality of counts*: `started` is a counter compared with `!=`, so a CPU that was not counted
 *    overshoots it and the initiator spins for ever. Here `started` and `finished` are masks.
 *  - *finished after irq_exit*: softirqs of the target delay the initiator, and one that needs a
 *    lock of the initiator deadlocks it. Here completion is published before they run.
 *  - *unbounded waits*: here every wait has a deadline, and the dead are not waited for.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import { CPU, CPU_STATE, HEADER } from '../hardware/layout.ts'
import { exchange, load, or, store } from '../hardware/memory.ts'
import type { CallBatch, CallDriver, Submission } from './call-queue.ts'
import type { Cpu } from './cpu.ts'
import { CLOSED, REQUEST_STATE, requestFlags, stateOf, useOf } from './request.ts'
import { holderOf, RobustLock, wake } from './robust-lock.ts'
import type { IpiSenders } from './send.ts'
import type { CallServer } from './serve.ts'
import { VECTOR } from './vectors.ts'

/** One CPU that a batch asks. */
interface Asked {
  readonly cpu: number
  readonly slot: number
  /** Which use of the slot, and which life of the CPU. */
  readonly use: number
  readonly life: number
}

/** The one global record. One driver object per thread. */
export class CallDataDriver implements CallDriver {
  readonly name = 'callData'
  readonly #cpu: Cpu
  readonly #senders: IpiSenders
  readonly #server: CallServer
  readonly #lock: RobustLock

  constructor(cpu: Cpu, senders: IpiSenders, server: CallServer) {
    this.#cpu = cpu
    this.#senders = senders
    this.#server = server
    this.#lock = new RobustLock(cpu, HEADER.callLock, HEADER.callData)
  }

  /**
   * `smp_call_function` from the lock on: a condition that takes one step further each time it is
   * looked at, because a thread with an event loop cannot spin here.
   */
  submit(batch: CallBatch): Submission {
    const { memory } = this.#cpu
    // The life before the door: a death in between makes it another life, and never the reverse.
    const batchOf = batch.targets.map((cpu, i) => ({
      cpu,
      slot: batch.slots[i]!,
      use: useOf(requestFlags(memory, batch.slots[i]!)),
      life: memory.readCpu(cpu, CPU.incarnation),
    }))
    const asked = batchOf.filter(({ cpu }) => this.#isOpen(cpu))
    const offline = batchOf.filter((each) => !asked.includes(each)).map(({ cpu }) => cpu)
    const waitFor = batch.wait ? HEADER.callFinished : HEADER.callStarted
    let published = false
    let left = asked.length === 0
    return {
      offline,
      hasLeft: () => published || left,
      finish: () => {
        if (left) return true
        if (!published) {
          if (asked.every((each) => this.#stateOf(each) !== REQUEST_STATE.queued)) {
            // Everybody gave up before it was our turn: there is nothing left to ask.
            for (const each of asked) this.#refuse(each)
            left = true
            return true
          }
          if (!this.#lock.tryAcquire()) return false
          published = true
          this.#publish(asked)
        }
        if (!this.#allSet(waitFor, asked, batch.wait)) return false
        store(memory.words, HEADER.callData, 0)
        this.#lock.release()
        left = true
        return true
      },
    }
  }

  /** Fills the record, publishes it, interrupts. */
  #publish(asked: readonly Asked[]): void {
    const { memory, id } = this.#cpu
    const { words } = memory
    // Whoever left while we waited for the lock is not asked any more; nor is a later life.
    const there: number[] = []
    for (const each of asked) {
      if (this.#isAnotherLife(each)) continue
      if (this.#isOpen(each.cpu)) there.push(each.cpu)
      else this.#refuse(each)
    }
    const mask = CpuMask.from(there)
    memory.writeMask(HEADER.callStarted, CpuMask.of())
    memory.writeMask(HEADER.callFinished, CpuMask.of())
    for (const { cpu, slot } of asked) words[HEADER.callSlots + cpu] = slot
    memory.writeMask(HEADER.callMask, mask)
    // The record before the pointer, the pointer before the interrupt: partner is `serve`.
    store(words, HEADER.callData, this.#lock.word)
    if (mask.equals(memory.onlineMask.without(id))) {
      this.#senders.sendIpiAllButSelf(VECTOR.CALL_FUNCTION_VECTOR)
    } else {
      this.#senders.sendIpiMask(mask, VECTOR.CALL_FUNCTION_VECTOR)
    }
  }

  /**
   * Whether every counted CPU has its bit in the shared mask `at`, or can never set it. The bit
   * alone is not enough: a CPU that still runs the function of an initiator that died sets its bit
   * in whatever record stands there then. So its slot must say the same.
   */
  #allSet(at: number, asked: readonly Asked[], wait: boolean): boolean {
    const { memory } = this.#cpu
    return asked.every((each) => {
      // It died, and its number lives again: what was asked of the dead is settled.
      if (this.#isAnotherLife(each)) return true
      const { cpu } = each
      const cpuState = memory.readCpu(cpu, CPU.state)
      if (cpuState === CPU_STATE.dead || cpuState === CPU_STATE.offline) return true
      const state = this.#stateOf(each)
      if (state === REQUEST_STATE.queued || state === REQUEST_STATE.cancelled) {
        // It closed its door after we had looked, and will not come for this any more.
        if (!this.#isOpen(cpu)) this.#refuse(each)
        return false
      }
      if (wait && state === REQUEST_STATE.running) return false
      return memory.testCpu(at, cpu) || !this.#isOpen(cpu)
    })
  }

  /** What became of a request. Its slot may have another by now: then this one has ended. */
  #stateOf({ slot, use }: Asked): number {
    const flags = requestFlags(this.#cpu.memory, slot)
    return useOf(flags) === use ? stateOf(flags) : REQUEST_STATE.done
  }

  #refuse(each: Asked): void {
    const state = this.#stateOf(each)
    // Only what is still out: the slot of one that died is perhaps somebody else's already.
    if (state === REQUEST_STATE.queued || state === REQUEST_STATE.cancelled) {
      this.#server.refuse(each.slot)
    }
  }

  #isAnotherLife({ cpu, life }: Asked): boolean {
    return this.#cpu.memory.readCpu(cpu, CPU.incarnation) !== life
  }

  /** `smp_call_function_interrupt`: copies the record, says so, runs, says so. */
  serve(): void {
    const { memory, id } = this.#cpu
    const { words } = memory
    const initiator = holderOf(load(words, HEADER.callData))
    // No request is out, or none for us: a late or a duplicate interrupt.
    if (initiator < 0 || !memory.testCpu(HEADER.callMask, id)) return
    const slot = words[HEADER.callSlots + id]!
    const call = this.#server.claim(slot)
    // A duplicate: touch nothing, the masks may be those of the next request already.
    if (call === undefined) return
    const waiter = call === 'cancelled' ? initiator : call.source
    this.#set(HEADER.callStarted, waiter)
    if (call === 'cancelled') {
      this.#set(HEADER.callFinished, initiator)
      return
    }
    // From here on the record may be gone unless somebody waits; we have copied all of it.
    // `finished` before the answer: an initiator that has its answer can let go of the lock.
    this.#server.run(call, () => this.#set(HEADER.callFinished, call.source))
  }

  /** Never: this driver is for study, and its record may be replaced while it is looked at. */
  isInterruptSafe(): boolean {
    return false
  }

  #set(mask: number, initiator: number): void {
    const { id, memory } = this.#cpu
    or(memory.words, mask + (id >>> 5), 1 << (id & 31))
    wake(this.#cpu, initiator)
  }

  /** This driver has no queues; the word still says whether a CPU may be asked. */
  #isOpen(cpu: number): boolean {
    return load(this.#cpu.memory.words, this.#cpu.memory.cpuPage(cpu) + CPU.callQueue) !== CLOSED
  }

  open(): void {
    exchange(this.#cpu.memory.words, this.#cpu.page + CPU.callQueue, 0)
  }

  close(): void {
    this.shut()
    this.serve()
  }

  shut(): void {
    exchange(this.#cpu.memory.words, this.#cpu.page + CPU.callQueue, CLOSED)
  }
}

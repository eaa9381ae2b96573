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
import { RobustLock, wake } from './robust-lock.ts'
import type { IpiSenders } from './send.ts'
import type { CallServer } from './serve.ts'
import { VECTOR } from './vectors.ts'

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
    this.#lock = new RobustLock(cpu, HEADER.callLock)
  }

  /**
   * `smp_call_function` from the lock on: a condition that takes one step further each time it is
   * looked at, because a thread with an event loop cannot spin here.
   */
  submit(batch: CallBatch): Submission {
    const offline = batch.targets.filter((target) => !this.#isOpen(target))
    const members = batch.targets.filter((target) => !offline.includes(target))
    const slots = batch.slots.filter((_, i) => !offline.includes(batch.targets[i]!))
    const uses = slots.map((slot) => ({ slot, use: useOf(requestFlags(this.#cpu.memory, slot)) }))
    const waitFor = batch.wait ? HEADER.callFinished : HEADER.callStarted
    let published = false
    let left = members.length === 0
    return {
      offline,
      hasLeft: () => published || left,
      finish: () => {
        if (left) return true
        if (!published) {
          if (
            slots.every(
              (slot) => stateOf(requestFlags(this.#cpu.memory, slot)) !== REQUEST_STATE.queued,
            )
          ) {
            // Everybody gave up before it was our turn: there is nothing left to ask.
            for (const slot of slots) this.#server.refuse(slot)
            left = true
            return true
          }
          if (!this.#lock.tryAcquire()) return false
          published = true
          this.#publish(members, slots)
        }
        if (!this.#allSet(waitFor, members, uses, batch.wait)) return false
        store(this.#cpu.memory.words, HEADER.callData, 0)
        this.#lock.release()
        left = true
        return true
      },
    }
  }

  /** Fills the record, publishes it, interrupts. */
  #publish(members: readonly number[], slots: readonly number[]): void {
    const { memory, id } = this.#cpu
    const { words } = memory
    // Whoever left while we waited for the lock is not asked any more.
    const there = members.filter((cpu, i) => {
      if (this.#isOpen(cpu)) return true
      this.#server.refuse(slots[i]!)
      return false
    })
    const mask = CpuMask.from(there)
    memory.writeMask(HEADER.callStarted, CpuMask.of())
    memory.writeMask(HEADER.callFinished, CpuMask.of())
    members.forEach((cpu, i) => {
      words[HEADER.callSlots + cpu] = slots[i]!
    })
    memory.writeMask(HEADER.callMask, mask)
    // The record before the pointer, the pointer before the interrupt: partner is `serve`.
    store(words, HEADER.callData, id + 1)
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
  #allSet(
    at: number,
    members: readonly number[],
    uses: readonly { readonly slot: number; readonly use: number }[],
    wait: boolean,
  ): boolean {
    const { memory } = this.#cpu
    return members.every((cpu, i) => {
      const cpuState = memory.readCpu(cpu, CPU.state)
      if (cpuState === CPU_STATE.dead || cpuState === CPU_STATE.offline) return true
      const { slot, use } = uses[i]!
      const flags = requestFlags(memory, slot)
      const state = useOf(flags) === use ? stateOf(flags) : REQUEST_STATE.done
      if (state === REQUEST_STATE.queued || state === REQUEST_STATE.cancelled) {
        // It closed its door after we had looked, and will not come for this any more.
        if (!this.#isOpen(cpu)) this.#server.refuse(slot)
        return false
      }
      if (wait && state === REQUEST_STATE.running) return false
      return memory.testCpu(at, cpu) || !this.#isOpen(cpu)
    })
  }

  /** `smp_call_function_interrupt`: copies the record, says so, runs, says so. */
  serve(): void {
    const { memory, id } = this.#cpu
    const { words } = memory
    const initiator = load(words, HEADER.callData) - 1
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
    exchange(this.#cpu.memory.words, this.#cpu.page + CPU.callQueue, CLOSED)
    this.serve()
  }
}

/**
 * Burying a CPU whose thread is gone, or is going: whatever was addressed to it settles, whatever it
 * held comes back. Every step is a compare-and-swap or an idempotent store, so any thread may bury,
 * several may at once, and a thread that dies while it buries leaves the rest to the next.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import { ATTENTION, CPU, CPU_STATE, HEADER, SCHED, SLOT } from '../hardware/layout.ts'
import { add, exchange, store } from '../hardware/memory.ts'
import { CALL_DRIVERS } from './call-queue.ts'
import type { Cpu } from './cpu.ts'
import {
  CLOSED,
  REQUEST_FLAG,
  REQUEST_STATE,
  requestFlags,
  stateOf,
  targetOf,
  transition,
  UNPUSHED,
} from './request.ts'
import { RobustLock } from './robust-lock.ts'
import { buryTasksOf } from './sched/burial.ts'
import { buryTranslations } from './tlb-death.ts'

/** States of a request that its target has still to do something about. */
const OUT: readonly number[] = [
  REQUEST_STATE.queued,
  REQUEST_STATE.running,
  REQUEST_STATE.cancelled,
]

/**
 * Settles every request addressed to `dead` that it did not complete: with `died`, or with `left` if
 * its state says that it has left in good order: what it had not claimed was never asked of it. Safe
 * while its thread still runs: what it claims or completes later fails.
 */
export function settleRequestsOf(cpu: Cpu, dead: number): void {
  const left = cpu.memory.readCpu(dead, CPU.state) === CPU_STATE.offline
  const { memory } = cpu
  exchange(memory.words, memory.cpuPage(dead) + CPU.callQueue, CLOSED)
  const slots = memory.cpuCount * memory.slotCount
  for (let slot = 0; slot < slots; slot++) {
    for (;;) {
      const flags = requestFlags(memory, slot)
      const state = stateOf(flags)
      if (targetOf(flags) !== dead || !OUT.includes(state)) break
      const end = left && state !== REQUEST_STATE.running ? REQUEST_STATE.left : REQUEST_STATE.died
      if (transition(memory, slot, flags, end)) break
    }
  }
}

/**
 * Makes the answers to a dead CPU's own requests find their way back to its slots. A request in a
 * target's queue is claimed in time; one that was never pushed, or that only the record of
 * `call_data` could have led to, is claimed by nobody.
 */
function orphanRequestsFrom(cpu: Cpu, dead: number): void {
  const { memory } = cpu
  const onNoQueue = CALL_DRIVERS[memory.words[HEADER.callDriver]!] === 'callData'
  const first = dead * memory.slotCount
  for (let slot = first; slot < first + memory.slotCount; slot++) {
    for (;;) {
      const flags = requestFlags(memory, slot)
      const state = stateOf(flags)
      if (!OUT.includes(state)) break
      const unpushed = memory.words[memory.slot(slot) + SLOT.next] === UNPUSHED
      const lost = state !== REQUEST_STATE.running && (onNoQueue || unpushed)
      const next = lost ? REQUEST_STATE.died : state
      if (transition(memory, slot, flags, next, REQUEST_FLAG.notify)) break
    }
  }
}

/** Tells everybody that a thread has ended, also those whose notification died with it. */
export function announce(cpu: Cpu): void {
  const { memory, descriptors } = cpu
  add(memory.words, HEADER.burials, 1)
  for (const other of memory.readMask(HEADER.presentMask)) {
    // The dead may have set attention bits and not lived to ring: so ring in any case.
    descriptors[other]!.attend(ATTENTION.wake)
    descriptors[other]!.ringAlways()
  }
}

/**
 * Buries CPU `dead`. Its thread must be gone, or be in its last act. Gives the CPUs as they are to
 * everybody: masks true, locks free, requests settled.
 */
export function bury(cpu: Cpu, dead: number): void {
  const { memory } = cpu
  const { words } = memory
  const page = memory.cpuPage(dead)
  memory.clearCpu(HEADER.onlineMask, dead)
  settleRequestsOf(cpu, dead)
  store(words, page + CPU.state, CPU_STATE.dead)
  store(words, page + CPU.schedState, SCHED.closed)
  buryTasksOf(memory, dead)
  for (const mask of [HEADER.commencedMask, HEADER.callinMask, HEADER.calloutMask]) {
    memory.clearCpu(mask, dead)
  }
  buryTranslations(cpu, dead)
  memory.clearCpu(HEADER.flushMask, dead)
  new RobustLock(cpu, HEADER.callLock, HEADER.callData).recover(dead)
  orphanRequestsFrom(cpu, dead)
  const tlbLock = new RobustLock(cpu, HEADER.tlbLock)
  if (tlbLock.holder === dead) memory.writeMask(HEADER.flushMask, CpuMask.of())
  tlbLock.recover(dead)
  new RobustLock(cpu, HEADER.controlLock).recover(dead)
  store(words, page + CPU.forced, 0)
  announce(cpu)
  cpu.onBurial()
}

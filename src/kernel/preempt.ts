/**
 * The preemption count: how deep in interrupts this CPU is, and whether it may be preempted. Linux
 * 2.6.11, `include/linux/hardirq.h`: bits 0-7 preemption, 8-15 softirq, 16-27 hardirq, 28 active.
 */

import { assert } from '../base/assert.ts'

/** One unit of each field. */
export const PREEMPT_OFFSET = 0x1
export const SOFTIRQ_OFFSET = 0x100
export const HARDIRQ_OFFSET = 0x10000
export const PREEMPT_ACTIVE = 0x10000000

const SOFTIRQ_MASK = 0xff00
const HARDIRQ_MASK = 0x0fff0000

/** One CPU's count. Private to its thread. */
export class PreemptCount {
  /** The whole count, fields as in the kernel. */
  value = 0

  /** Adds to the count: one of the OFFSET constants. */
  add(offset: number): void {
    this.value += offset
  }

  /** Takes away what `add` added. */
  sub(offset: number): void {
    assert(this.value >= offset, 'the preemption count never goes below zero')
    this.value -= offset
  }

  /** Inside a hardware interrupt handler. */
  get inIrq(): boolean {
    return (this.value & HARDIRQ_MASK) !== 0
  }

  /** Inside a softirq, or with softirqs off. */
  get inSoftirq(): boolean {
    return (this.value & SOFTIRQ_MASK) !== 0
  }

  /** Inside either: code that must not wait. */
  get inInterrupt(): boolean {
    return (this.value & (HARDIRQ_MASK | SOFTIRQ_MASK)) !== 0
  }
}

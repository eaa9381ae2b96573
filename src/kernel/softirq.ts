/**
 * Softirqs: the deferred half of an interrupt, for work too long for a handler. Linux 2.6.11,
 * `kernel/softirq.c`: run on the way out of the outermost interrupt, with interrupts on; what keeps
 * coming is left to ksoftirqd, here a turn of the event loop.
 */

import { IpiError } from '../base/errors.ts'
import { lowestBit } from '../base/bits.ts'
import { EVENT, type Cpu } from './cpu.ts'
import type { HandlerErrorSink } from './entry.ts'
import { HARDIRQ_OFFSET, PREEMPT_OFFSET, SOFTIRQ_OFFSET } from './preempt.ts'

/** The kernel's softirqs in their order; the rest up to SOFTIRQ_COUNT are free. */
export const SOFTIRQ = {
  HI_SOFTIRQ: 0,
  TIMER_SOFTIRQ: 1,
  NET_TX_SOFTIRQ: 2,
  NET_RX_SOFTIRQ: 3,
  SCSI_SOFTIRQ: 4,
  TASKLET_SOFTIRQ: 5,
} as const

/** How many softirqs there are: one bit of a word each. */
export const SOFTIRQ_COUNT = 32
/** `MAX_SOFTIRQ_RESTART`: rounds before ksoftirqd takes over. */
const SOFTIRQ_ROUNDS_MAX = 10

/** What runs when a softirq was raised: synchronous, with interrupts on; must not wait. */
export type SoftirqAction = () => void

/** One CPU's softirqs. Private to its thread. */
export class Softirqs {
  readonly #cpu: Cpu
  readonly #onError: HandlerErrorSink
  readonly #actions: (SoftirqAction | undefined)[] = []
  #pending = 0
  #ksoftirqdWoken = false

  constructor(cpu: Cpu, onError: HandlerErrorSink) {
    this.#cpu = cpu
    this.#onError = onError
  }

  /** Which softirqs wait to run, one bit each. */
  get pending(): number {
    return this.#pending
  }

  /** `open_softirq`: what runs when softirq `nr` (0..31) is raised on this CPU. */
  openSoftirq(nr: number, action: SoftirqAction): void {
    checkNumber(nr)
    this.#actions[nr] = action
  }

  /**
   * `raise_softirq`: marks softirq `nr` (0..31) pending. It runs when the outermost interrupt ends;
   * raised outside any, in the next turn of the event loop. Any context of this thread.
   */
  raiseSoftirq(nr: number): void {
    checkNumber(nr)
    const flags = this.#cpu.localIrqSave()
    this.#pending |= 1 << nr
    if (!this.#cpu.preempt.inInterrupt) this.#wakeKsoftirqd()
    this.#cpu.localIrqRestore(flags)
  }

  /** `irq_enter`: one hardirq level more. */
  irqEnter(): void {
    this.#cpu.preempt.add(HARDIRQ_OFFSET)
  }

  /**
   * `irq_exit`: one hardirq level less; at the outermost, runs pending softirqs. One preemption
   * unit is held meanwhile, and dropped without a look at NEED_RESCHED: ret_from_intr looks. Below a
   * forced entry they are left to ksoftirqd: nobody said that they may run between any two statements.
   */
  irqExit(): void {
    const { preempt } = this.#cpu
    preempt.sub(HARDIRQ_OFFSET - PREEMPT_OFFSET)
    if (!preempt.inInterrupt && this.#pending !== 0) {
      if (this.#cpu.core.isForced) this.#wakeKsoftirqd()
      else this.doSoftirq()
    }
    preempt.sub(PREEMPT_OFFSET)
  }

  /** `nmi_exit`: one hardirq level less, and nothing else. */
  nmiExit(): void {
    this.#cpu.preempt.sub(HARDIRQ_OFFSET)
  }

  /** `do_softirq`: runs what is pending, lowest first, in at most SOFTIRQ_ROUNDS_MAX rounds. */
  doSoftirq(): void {
    const { preempt } = this.#cpu
    if (preempt.inInterrupt) return
    const flags = this.#cpu.localIrqSave()
    preempt.add(SOFTIRQ_OFFSET)
    for (let round = 0; this.#pending !== 0 && round < SOFTIRQ_ROUNDS_MAX; round++) {
      let snapshot = this.#pending
      this.#pending = 0
      this.#cpu.localIrqEnable()
      for (; snapshot !== 0; snapshot &= snapshot - 1) this.#run(lowestBit(snapshot))
      this.#cpu.localIrqDisable()
    }
    if (this.#pending !== 0) this.#wakeKsoftirqd()
    preempt.sub(SOFTIRQ_OFFSET)
    this.#cpu.localIrqRestore(flags)
  }

  #run(nr: number): void {
    this.#cpu.count(EVENT.softirqs)
    try {
      this.#actions[nr]?.()
    } catch (error) {
      this.#onError(`softirq ${nr}`, 0, error)
    }
  }

  /** ksoftirqd: the event loop, which other work shares fairly. Woken once at a time. */
  #wakeKsoftirqd(): void {
    if (this.#ksoftirqdWoken) return
    this.#ksoftirqdWoken = true
    this.#cpu.platform.defer(() => {
      this.#ksoftirqdWoken = false
      this.doSoftirq()
    })
  }
}

function checkNumber(nr: number): void {
  if (Number.isInteger(nr) && nr >= 0 && nr < SOFTIRQ_COUNT) return
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `${String(nr)} is no softirq; softirqs are numbered 0 to ${SOFTIRQ_COUNT - 1}`,
  )
}

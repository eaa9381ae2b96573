/**
 * Reschedule signalling: asking another CPU to look at its run queue. Linux 2.6.11 `kernel/sched.c`
 * resched_task, later resched_curr; `arch/i386/kernel/smp.c` smp_send_reschedule. What is scheduled
 * is not known here: a scheduler puts itself behind `onSchedule`.
 */

import { IpiError } from '../base/errors.ts'
import { CPU, CPU_STATE } from '../hardware/layout.ts'
import { or } from '../hardware/memory.ts'
import { EVENT, type Cpu } from './cpu.ts'
import type { EntryBuilder, HandlerErrorSink } from './entry.ts'
import type { IpiSenders } from './send.ts'
import { TIF } from './thread-flags.ts'
import { VECTOR } from './vectors.ts'

/** Of a scheduler that may run in the middle of other JavaScript. Doing nothing may. */
export const ALWAYS = (): boolean => true
/** Of one that must not. */
export const NEVER = (): boolean => false

/** Picks and runs what should run now. Called with interrupts on, NEED_RESCHED cleared. */
export type ScheduleHook = () => void

/** Rescheduling on one CPU. */
export class Rescheduler {
  readonly #cpu: Cpu
  readonly #senders: IpiSenders
  /** Bound by a scheduler. Without one, being rescheduled changes nothing. */
  onSchedule: ScheduleHook = () => undefined
  #isHookSafe = ALWAYS
  /** A CPU was marked and interrupted, and nobody waits for it; kernel/kernel.ts binds it. */
  onMarked: (target: number) => void = () => undefined

  readonly #onError: HandlerErrorSink

  constructor(cpu: Cpu, senders: IpiSenders, builder: EntryBuilder, onError: HandlerErrorSink) {
    this.#onError = onError
    this.#cpu = cpu
    this.#senders = senders
    builder.schedule = () => this.schedule()
    builder.isScheduleSafe = () => this.isHookSafe()
    cpu.preemptSchedule = () => this.schedule()
  }

  /** Tells whether the scheduler may run in the middle of other JavaScript now. */
  get isHookSafe(): () => boolean {
    return this.#isHookSafe
  }

  set isHookSafe(isSafe: () => boolean) {
    this.#isHookSafe = isSafe
    // Others look at it before they have this CPU entered.
    if (isSafe === NEVER) this.#cpu.setThreadFlags(TIF.SCHEDULE_UNSAFE)
    else this.#cpu.clearThreadFlags(TIF.SCHEDULE_UNSAFE)
  }

  /** Whether a CPU was marked, and has not rescheduled yet. It may be gone. */
  isMarked(target: number): boolean {
    const flags = this.#cpu.memory.readCpu(target, CPU.threadFlags)
    return (flags & TIF.NEED_RESCHED) !== 0 && this.#cpu.isOnline(target)
  }

  /** Whether a rescheduling interrupt may be taken by a forced entry now. */
  get isInterruptSafe(): boolean {
    return !this.#cpu.needResched || this.isHookSafe()
  }

  /**
   * `smp_send_reschedule`: only interrupts one CPU. It reschedules on its way back if somebody has
   * marked it (`reschedTask`); without the mark nothing follows. Waits for nothing. Throws `IPI_INVALID_CPU`, `IPI_CPU_OFFLINE`.
   */
  smpSendReschedule(target: number): void {
    this.#check(target)
    this.#senders.sendIpiCpu(target, VECTOR.RESCHEDULE_VECTOR)
  }

  /**
   * `resched_task`: marks a CPU for rescheduling, and interrupts it only if it would not find out by
   * itself. It would if it was marked already, or spins in its idle loop. Setting the mark and
   * reading POLLING is one operation: the idle loop clears POLLING and then looks at the mark.
   */
  reschedTask(target: number): void {
    this.#check(target)
    this.kick(target)
  }

  /** The same of a CPU that is known to be online, or was a moment ago: then nothing happens. */
  kick(target: number): void {
    const { memory, id } = this.#cpu
    const old = or(memory.words, memory.cpuPage(target) + CPU.threadFlags, TIF.NEED_RESCHED)
    if ((old & TIF.NEED_RESCHED) !== 0 || target === id) return
    if ((old & TIF.POLLING_NRFLAG) !== 0) {
      this.#cpu.count(EVENT.ipisAvoided)
      return
    }
    this.#senders.sendIpiCpu(target, VECTOR.RESCHEDULE_VECTOR)
    if ((old & TIF.SCHEDULE_UNSAFE) === 0) this.onMarked(target)
  }

  /**
   * `schedule`: the mark is cleared first, so that a request during the hook is not lost. What is scheduled
   * does not poll, whatever the idle loop below it does: it is interrupted for what overtakes it.
   */
  schedule(): void {
    const old = this.#cpu.clearThreadFlags(TIF.NEED_RESCHED | TIF.POLLING_NRFLAG)
    const flags = this.#cpu.localIrqSave()
    if (!this.#cpu.core.interruptsEnabled) this.#cpu.localIrqEnable()
    try {
      this.onSchedule()
    } catch (error) {
      // The interrupted code did not call the scheduler and must not see it fail.
      this.#onError('schedule', VECTOR.RESCHEDULE_VECTOR, error)
    } finally {
      if (!flags) this.#cpu.localIrqDisable()
      // The idle loop looks at the mark in each turn, so also after this.
      if ((old & TIF.POLLING_NRFLAG) !== 0) this.#cpu.setThreadFlags(TIF.POLLING_NRFLAG)
    }
  }

  #check(target: number): void {
    const { memory } = this.#cpu
    this.#cpu.checkPossible(target)
    const state = memory.readCpu(target, CPU.state)
    if (state !== CPU_STATE.dead && this.#cpu.isOnline(target)) return
    throw new IpiError('IPI_CPU_OFFLINE', `CPU ${target} is not online: it schedules nothing`, {
      cpu: target,
    })
  }
}

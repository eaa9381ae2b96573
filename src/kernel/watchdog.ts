/**
 * The watchdog of stuck requests. Linux `kernel/smp.c` csd_lock_wait_toolong: after a while it says
 * who waits for whom, for which function, what that CPU is doing, and sends the interrupt again.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import type { Timer } from '../hardware/platform.ts'
import type { OpenCall } from './call.ts'
import type { Cpu } from './cpu.ts'
import { describeTarget } from './diagnose.ts'
import type { FunctionTable } from './functions.ts'
import type { IpiSenders } from './send.ts'
import type { OutgoingCalls } from './outgoing-calls.ts'
import { VECTOR } from './vectors.ts'

/** A call that has waited for longer than `watchdogMs`. */
export interface StuckCall {
  readonly kind: 'call'
  /** The CPU that waits. */
  readonly cpu: number
  /** The CPUs that have not answered, ascending. */
  readonly targets: readonly number[]
  readonly functionName: string
  readonly waitedMs: number
  /** What each target does, in words. */
  readonly doing: readonly string[]
  /** What force has done for them (`forceAfterMs`), in words; empty if nobody wanted any. */
  readonly force: string
}

/** What the watchdog tells, and to whom. */
export interface WatchdogListener {
  stuck(report: StuckCall): void
  unstuck(report: StuckCall): void
}

/** Watches the calls of one CPU. Costs nothing while none is out. */
export class Watchdog {
  readonly #cpu: Cpu
  readonly #calls: OutgoingCalls
  readonly #functions: FunctionTable
  readonly #senders: IpiSenders
  readonly #limitMs: number
  readonly #listener: WatchdogListener
  readonly #reported = new Map<OpenCall, StuckCall>()
  #timer: Timer | undefined
  #lastLook = 0

  constructor(
    cpu: Cpu,
    calls: OutgoingCalls,
    functions: FunctionTable,
    senders: IpiSenders,
    limitMs: number,
    listener: WatchdogListener,
  ) {
    this.#cpu = cpu
    this.#calls = calls
    this.#functions = functions
    this.#senders = senders
    this.#limitMs = limitMs
    this.#listener = listener
  }

  /** Something is out: look now and then until nothing is. */
  start(): void {
    // Nobody looked while nothing was out, and that is not this thread standing still.
    if (this.#calls.open.size <= 1) this.#lastLook = this.#cpu.platform.now()
    if (this.#timer !== undefined || this.#limitMs === Infinity) return
    this.#timer = this.#cpu.platform.startTimer(this.#limitMs, () => {
      this.#timer = undefined
      this.look()
      if (this.#calls.open.size > 0) this.start()
    })
  }

  /** Ends it. */
  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** Looks at every open call. Also called by a blocked wait, whose timers stand still. */
  look(): void {
    const now = this.#cpu.platform.now()
    // This thread itself stood still: nobody else is to blame before they had their time.
    const weSlept = this.#lastLook !== 0 && now - this.#lastLook > 2 * this.#limitMs
    this.#lastLook = now
    for (const [entry, report] of this.#reported) {
      if (this.#calls.open.has(entry)) continue
      this.#reported.delete(entry)
      this.#listener.unstuck({ ...report, waitedMs: Math.round(now - entry.start) })
    }
    if (weSlept) return
    for (const entry of this.#calls.open) {
      if (this.#reported.has(entry) || now - entry.start < this.#limitMs) continue
      this.#report(entry, now)
    }
  }

  #report(entry: OpenCall, now: number): void {
    const targets = entry.call.late()
    const report: StuckCall = {
      kind: 'call',
      cpu: this.#cpu.id,
      targets,
      functionName: entry.call.record.name,
      waitedMs: Math.round(now - entry.start),
      doing: targets.map((target) => describeTarget(this.#cpu, this.#functions, target)),
      force: entry.call.describeForce(),
    }
    this.#reported.set(entry, report)
    this.#listener.stuck(report)
    // Harmless if it was not lost: a call-function interrupt with nothing queued is a no-op.
    const online = CpuMask.from(targets).and(this.#cpu.memory.onlineMask)
    this.#senders.sendIpiMask(online, VECTOR.CALL_FUNCTION_VECTOR)
  }
}

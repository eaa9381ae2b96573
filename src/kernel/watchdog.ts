/**
 * The watchdog of stuck requests. Linux `kernel/smp.c` csd_lock_wait_toolong: after a while it says
 * who waits for whom, for which function, what that CPU is doing, and sends the interrupt again. As
 * the kernel's does, by trigger_single_cpu_backtrace, it has the stack of that CPU.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import type { Timer } from '../hardware/platform.ts'
import type { NmiBacktrace, Question } from './backtrace.ts'
import type { OpenCall } from './call.ts'
import type { Cpu } from './cpu.ts'
import { describeTarget } from './diagnose.ts'
import type { ForcedEntry } from './forced.ts'
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
  /** The JavaScript that each target runs, a line per frame, newest first; empty if none or unknown. */
  readonly stacks: readonly string[]
  /** What force has done for them (`forceAfterMs`), in words; empty if nobody wanted any. */
  readonly force: string
}

/** What the watchdog tells, and to whom. */
export interface WatchdogListener {
  /** Whether anybody listens now: nobody is asked for nobody. */
  isListening(): boolean
  stuck(report: StuckCall): void
  unstuck(report: StuckCall): void
}

/** What the watchdog stands on. */
interface WatchdogParts {
  readonly cpu: Cpu
  readonly calls: OutgoingCalls
  readonly functions: FunctionTable
  readonly senders: IpiSenders
  readonly forced: ForcedEntry
  readonly backtrace: NmiBacktrace
  readonly limitMs: number
  readonly listener: WatchdogListener
}

/** Calls that were found stuck, while their targets are asked what they do. */
interface Inquiry {
  readonly calls: readonly OpenCall[]
  readonly question: Question
}

/**
 * How long to wait for the stacks of those who do not answer. Shorter than for a backtrace: what is
 * known without them is worth telling, too.
 */
const STACKS_MS = 1000
/** How often to look whether they are there. */
const STACKS_STEP_MS = 10

/** Watches the calls of one CPU. Costs nothing while none is out. */
export class Watchdog {
  readonly #parts: WatchdogParts
  readonly #reported = new Map<OpenCall, StuckCall>()
  #inquiry: Inquiry | undefined
  #timer: Timer | undefined
  #lastLook = 0

  constructor(parts: WatchdogParts) {
    this.#parts = parts
  }

  /** Something is out: look now and then until nothing is. */
  start(): void {
    const { calls, cpu, limitMs } = this.#parts
    // Nobody looked while nothing was out, and that is not this thread standing still.
    if (calls.open.size <= 1) this.#lastLook = cpu.platform.now()
    if (this.#timer !== undefined || limitMs === Infinity) return
    this.#startTimer(limitMs)
  }

  #startTimer(delayMs: number): void {
    const { calls, cpu } = this.#parts
    this.#timer = cpu.platform.startTimer(delayMs, () => {
      this.#timer = undefined
      this.look()
      if (this.#inquiry !== undefined) this.#startTimer(STACKS_STEP_MS)
      else if (calls.open.size > 0) this.start()
    })
  }

  /** Ends it. */
  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#inquiry = undefined
  }

  /** Looks at every open call. Also called by a blocked wait, whose timers stand still. */
  look(): void {
    const { calls, cpu, limitMs, listener } = this.#parts
    const now = cpu.platform.now()
    // This thread itself stood still: nobody else is to blame before they had their time.
    const weSlept = this.#lastLook !== 0 && now - this.#lastLook > 2 * limitMs
    this.#lastLook = now
    for (const [entry, report] of this.#reported) {
      if (calls.open.has(entry)) continue
      this.#reported.delete(entry)
      listener.unstuck({ ...report, waitedMs: Math.round(now - entry.start) })
    }
    if (this.#inquiry !== undefined) return this.#inquire(this.#inquiry, now)
    if (weSlept) return
    const found: OpenCall[] = []
    for (const entry of calls.open) {
      if (!this.#reported.has(entry) && now - entry.start >= limitMs) found.push(entry)
    }
    if (found.length > 0) this.#accuse(found, now)
  }

  #accuse(found: readonly OpenCall[], now: number): void {
    const { backtrace, cpu, forced, senders, listener } = this.#parts
    const targets = CpuMask.from(found.flatMap((entry) => entry.call.late()))
    const online = targets.and(cpu.memory.onlineMask)
    // Harmless if it was not lost: a call-function interrupt with nothing queued is a no-op.
    senders.sendIpiMask(online, VECTOR.CALL_FUNCTION_VECTOR)
    if (!listener.isListening() || !forced.capabilities.forcedEntry) {
      for (const entry of found) this.#report(entry, now, () => '')
      return
    }
    this.#inquiry = { calls: found, question: backtrace.ask(online, STACKS_MS) }
    this.#inquire(this.#inquiry, now)
  }

  /** Tells, once it is known what the targets do, or cannot be. */
  #inquire({ calls: found, question }: Inquiry, now: number): void {
    const { backtrace, calls } = this.#parts
    if (!backtrace.isAnswered(question)) return
    this.#inquiry = undefined
    const answers = backtrace.end(question)
    for (const entry of found) {
      // It may have been answered meanwhile.
      if (!calls.open.has(entry)) continue
      this.#report(entry, now, (target) => answers.get(target)?.stack ?? '')
    }
  }

  #report(entry: OpenCall, now: number, stackOf: (target: number) => string): void {
    const { cpu, functions, listener } = this.#parts
    const targets = entry.call.late()
    const report: StuckCall = {
      kind: 'call',
      cpu: cpu.id,
      targets,
      functionName: entry.call.record.name,
      waitedMs: Math.round(now - entry.start),
      doing: targets.map((target) => describeTarget(cpu, functions, target)),
      stacks: targets.map(stackOf),
      force: entry.call.describeForce(),
    }
    this.#reported.set(entry, report)
    listener.stuck(report)
  }
}

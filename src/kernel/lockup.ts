/**
 * Lockup detectors: CPUs that have not looked up for too long. Linux `kernel/watchdog.c` and
 * `kernel/watchdog_buddy.c`: nothing of it runs in the thread that is stuck, the others see that a
 * count stands still.
 *
 *    every CPU, interrupts on                     every CPU on which somebody listens
 *      its timer fires:  one sign more              its timer fires, twice within a limit:
 *                                                     signs have moved, or it is halted:  fine
 *      asked, at its next safepoint   <~~ wake ~~     else:  asks
 *      or turn:  one sign more                        not moved for the limit:  an NMI asks for its stack
 *
 * In the kernel each CPU watches the next one, and all tell one console. Here whoever listens is told on
 * its own thread, and so each that listens watches all others: one look is one word for each of them.
 */

import { CpuMask } from '../base/cpu-mask.ts'
import { ATTENTION, CPU, CPU_STATE } from '../hardware/layout.ts'
import type { Timer } from '../hardware/platform.ts'
import { describeBacktrace, type CpuBacktrace, type NmiBacktrace } from './backtrace.ts'
import type { Cpu } from './cpu.ts'
import type { ForcedEntry } from './forced.ts'
import { wake } from './robust-lock.ts'

/**
 * A CPU that has not looked up for too long, and what it did when it was found: see CpuBacktrace for
 * the rest of the fields.
 */
export interface Lockup extends CpuBacktrace {
  /**
   * `soft`: for `softLockupMs` its thread has come to neither its event loop nor a safepoint. `hard`: for
   * `hardLockupMs` it has taken no interrupt, and has them off.
   */
  readonly kind: 'soft' | 'hard'
  /** The CPU that is stuck. */
  readonly cpu: number
  /** The CPU that found it, on whose thread this is told. */
  readonly foundBy: number
  /** How long it has lasted, at least; in `unstuck`, in all. */
  readonly lastedMs: number
  /** All of it in one line, without the stack; why there is no stack, if there is none. */
  readonly message: string
}

/** When a CPU counts as stuck, in milliseconds; Infinity: never. */
export interface LockupLimits {
  readonly softLockupMs: number
  readonly hardLockupMs: number
}

/** Who is told. */
export interface LockupListener {
  /** Whether anybody listens now: nobody is accused for nobody. */
  isListening(): boolean
  stuck(lockup: Lockup): void
  unstuck(lockup: Lockup): void
}

/** What the detector stands on. */
interface LockupParts {
  readonly cpu: Cpu
  readonly forced: ForcedEntry
  readonly backtrace: NmiBacktrace
  readonly limits: LockupLimits
  readonly listener: LockupListener
}

/** One CPU, from its last sign on: an episode, if that is long ago. */
interface Watched {
  readonly incarnation: number
  readonly signs: number
  /** When its sign was seen, on this CPU's clock: no two clocks are compared. */
  since: number
  /** Whether interrupts were off at every look since then. */
  irqsOff: boolean
  /** Whether it is accused, reported or about to be: once for each episode. */
  accused: boolean
  report: Lockup | undefined
}

/** Looks within the shorter limit: at the first that finds no sign a CPU is asked. */
const LOOKS_PER_LIMIT = 2
/** How long to wait for what a CPU does where only one that looks by itself can answer. */
const UNFORCED_ANSWER_MS = 100

/** Gives the signs of one CPU, and looks for those of the others. Private to its thread. */
export class LockupDetector {
  readonly #cpu: Cpu
  readonly #forced: ForcedEntry
  readonly #backtrace: NmiBacktrace
  readonly #limits: LockupLimits
  readonly #listener: LockupListener
  readonly #periodMs: number
  readonly #watched = new Map<number, Watched>()
  #timer: Timer | undefined
  #lastLook = 0
  #stopped = false

  constructor({ cpu, forced, backtrace, limits, listener }: LockupParts) {
    this.#cpu = cpu
    this.#forced = forced
    this.#backtrace = backtrace
    this.#limits = limits
    this.#listener = listener
    this.#periodMs = Math.min(limits.softLockupMs, limits.hardLockupMs) / LOOKS_PER_LIMIT
  }

  /** This CPU is online: from now on it gives signs, and looks. */
  start(): void {
    if (this.#periodMs === Infinity || this.#stopped) return
    this.#timer = this.#cpu.platform.startTimer(this.#periodMs, () => {
      // Retired, the page may be another life's.
      if (this.#cpu.core.isRetired) return
      if (!this.#cpu.irqsDisabled) this.sign()
      if (this.#listener.isListening()) this.#look()
      else this.#watched.clear()
      this.start()
    })
  }

  /** Ends it. Episodes of CPUs that are gone end with it; the others are not seen to end. */
  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#endGone(this.#cpu.platform.now())
    this.#watched.clear()
  }

  /**
   * This CPU takes interrupts: says so. Called by its timer, and when it takes the attention that it
   * was asked for; never on the way of an interrupt or of a safepoint that finds nothing.
   */
  sign(): void {
    const { core, memory, page } = this.#cpu
    if (this.#periodMs !== Infinity && !core.isRetired) memory.words[page + CPU.signs]!++
  }

  #look(): void {
    const { memory, id, platform, irqsDisabled } = this.#cpu
    const now = platform.now()
    // This thread itself stood still, or the machine slept: nobody else is to blame before they had
    // their time.
    const weSlept = now - this.#lastLook > 2 * this.#periodMs
    this.#lastLook = now
    this.#endGone(now)
    const found = new Map<number, Lockup['kind']>()
    for (const cpu of memory.onlineMask) {
      const kind = cpu === id ? undefined : this.#lookAt(cpu, now, weSlept)
      // With interrupts off here no answer would be taken.
      if (kind !== undefined && !irqsDisabled) found.set(cpu, kind)
    }
    if (found.size > 0) void this.#accuse(found)
  }

  /** Gives what is to be said of a CPU, once. */
  #lookAt(cpu: number, now: number, weSlept: boolean): Lockup['kind'] | undefined {
    const { memory } = this.#cpu
    const watched = this.#watched.get(cpu)
    if (watched === undefined || this.#hasMoved(cpu, watched)) {
      if (watched !== undefined) this.#end(watched, now)
      this.#watched.set(cpu, {
        incarnation: memory.readCpu(cpu, CPU.incarnation),
        signs: memory.readCpu(cpu, CPU.signs),
        since: now,
        irqsOff: true,
        accused: false,
        report: undefined,
      })
      return undefined
    }
    if (weSlept && !watched.accused) {
      watched.since = now
      watched.irqsOff = true
    }
    watched.irqsOff &&= memory.readCpu(cpu, CPU.interruptsOff) !== 0
    // What it was asked before. With interrupts off a safepoint takes the question in, and does not
    // answer it.
    const hasNotLooked = (memory.readCpu(cpu, CPU.attention) & ATTENTION.wake) !== 0
    wake(this.#cpu, cpu)
    if (watched.accused) return undefined
    const lastedMs = now - watched.since
    if (watched.irqsOff && lastedMs >= this.#limits.hardLockupMs) return 'hard'
    return hasNotLooked && lastedMs >= this.#limits.softLockupMs ? 'soft' : undefined
  }

  /**
   * A CPU that is halted sleeps until there is something for it, and is none to wake for a sign. What
   * its state says else is no proof: under its event loop it is `parked`, whatever that runs.
   */
  #hasMoved(cpu: number, { signs }: Watched): boolean {
    const { memory } = this.#cpu
    if (memory.readCpu(cpu, CPU.signs) !== signs) return true
    return memory.readCpu(cpu, CPU.state) === CPU_STATE.halted
  }

  /** Asks what they do, and tells, unless they have gone on meanwhile. */
  async #accuse(found: ReadonlyMap<number, Lockup['kind']>): Promise<void> {
    const accused = new Map([...found.keys()].map((cpu) => [cpu, this.#watched.get(cpu)!]))
    for (const watched of accused.values()) watched.accused = true
    const { forcedEntry, reason } = this.#forced.capabilities
    const options = forcedEntry ? {} : { timeoutMs: UNFORCED_ANSWER_MS }
    const { cpus } = await this.#backtrace.trigger(CpuMask.from([...found.keys()]), options)
    const now = this.#cpu.platform.now()
    for (const answer of cpus) {
      const { cpu } = answer
      const watched = accused.get(cpu)!
      const isSame = this.#watched.get(cpu) === watched
      // Gone, or alive: the next look sees that.
      if (!isSame || !this.#isThere(cpu, watched) || this.#hasMoved(cpu, watched)) continue
      const kind = found.get(cpu)!
      const lastedMs = Math.round(now - watched.since)
      const why = forcedEntry ? '' : `; no stack: there is no forced entry, because ${reason}`
      const message = `${kind} lockup for ${lastedMs} ms: ${describeBacktrace(answer)}${why}`
      const foundBy = this.#cpu.id
      watched.report = { ...answer, kind, foundBy, lastedMs, message }
      this.#listener.stuck(watched.report)
    }
  }

  #isThere(cpu: number, { incarnation }: Watched): boolean {
    const isSameLife = this.#cpu.memory.readCpu(cpu, CPU.incarnation) === incarnation
    return isSameLife && this.#cpu.isOnline(cpu)
  }

  /** Who has died or left is stuck no more. */
  #endGone(now: number): void {
    for (const [cpu, watched] of this.#watched) {
      if (this.#isThere(cpu, watched)) continue
      this.#watched.delete(cpu)
      this.#end(watched, now)
    }
  }

  #end({ report, since }: Watched, now: number): void {
    if (report === undefined) return
    this.#listener.unstuck({ ...report, lastedMs: Math.round(now - since) })
  }
}

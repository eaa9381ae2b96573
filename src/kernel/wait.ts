/**
 * Waiting: for a condition that another CPU will make true, blocking or not. Every wait has a
 * deadline, serves this CPU's own interrupts, and can be told to look again.
 */

import { IpiError } from '../base/errors.ts'
import { CPU_STATE } from '../hardware/layout.ts'
import { pause } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'
import {
  SuspendedWaits,
  type AbortSignalLike,
  type SuspendedWait,
  type WaitLimits,
} from './suspended-wait.ts'

/** How long a blocked wait sleeps before it looks around: at dead threads, at stuck requests. */
const LOOK_AROUND_MS = 20
/**
 * How long a blocking wait spins before it sleeps: an answer from a polling CPU takes about 1 µs.
 * Always as long, unlike halt polling: where both threads stand on one of several processors, two
 * that want to run are what makes the operating system part them. On one alone nobody spins.
 */
const SPIN_MS = 0.05
/** Turns of the spin loop before each look at the clock: reading it costs as much as four turns. */
const SPINS_PER_LOOK = 128

/** Something to be done now and then while this CPU waits. */
export type LookAround = () => void

/** One CPU's waits. Private to its thread. */
export class Waits {
  readonly #cpu: Cpu
  readonly #suspended: SuspendedWaits
  #held = 0
  #pinned = false
  #ended: Error | undefined
  /** Called when this thread begins to await something; kernel/idle.ts binds it. */
  onHold: () => void = () => undefined
  /** Called every LOOK_AROUND_MS of a blocking wait, with interrupts on. */
  readonly lookAround: LookAround[] = []

  constructor(cpu: Cpu) {
    this.#cpu = cpu
    this.#suspended = new SuspendedWaits(cpu.platform, () => this.release())
  }

  /**
   * Throws unless this context may wait for another CPU: `IPI_WOULD_DEADLOCK` with interrupts off or
   * in a handler, `IPI_CANNOT_BLOCK` for a blocking wait on a thread that must not block.
   */
  checkMayWait(what: string, blocking: boolean): void {
    this.checkOpen()
    const cpu = this.#cpu
    if (cpu.inInterrupt) {
      throw new IpiError(
        'IPI_WOULD_DEADLOCK',
        `${what} was called in an interrupt handler or softirq of CPU ${cpu.id}. If the other CPU ` +
          'waited for this one, each would wait for the other for ever. Start it from a task: ' +
          'queueMicrotask(() => …) or setImmediate',
        { cpu: cpu.id },
      )
    }
    if (cpu.irqsDisabled) {
      throw new IpiError(
        'IPI_WOULD_DEADLOCK',
        `${what} was called with interrupts off on CPU ${cpu.id}. A CPU that calls this one waits ` +
          'until interrupts are on; if this one waits for it, neither goes on. Call ' +
          'localIrqEnable() first',
        { cpu: cpu.id },
      )
    }
    if (blocking && !cpu.platform.mayBlock) {
      throw new IpiError(
        'IPI_CANNOT_BLOCK',
        `${what} blocks, and a browser's main thread must not; use the form that returns a promise`,
        { cpu: cpu.id },
      )
    }
  }

  /**
   * Blocks until `condition` holds or `timeoutMs` have passed; gives which. The clock is first read
   * when the condition did not come true at once. Takes this CPU's interrupts meanwhile. What makes
   * the condition true must ring this CPU.
   */
  block(condition: () => boolean, timeoutMs: number): boolean {
    if (condition()) return true
    // Others need not ring while we look ourselves.
    this.#cpu.onLook()
    this.#cpu.preemptDisable()
    this.#cpu.kernelDepth++
    try {
      const spins = this.#cpu.platform.processors > 1
      return (spins && this.#spin(condition)) || this.#sleep(condition, timeoutMs)
    } finally {
      this.#cpu.kernelDepth--
      this.#cpu.preemptEnable()
    }
  }

  #spin(condition: () => boolean): boolean {
    const { core, platform } = this.#cpu
    let until = -1
    for (;;) {
      for (let i = 0; i < SPINS_PER_LOOK; i++) {
        if (condition()) return true
        core.poll()
        pause()
      }
      const now = platform.now()
      if (until < 0) until = now + SPIN_MS
      else if (now >= until) return false
    }
  }

  #sleep(condition: () => boolean, timeoutMs: number): boolean {
    const { core, platform } = this.#cpu
    const deadline = platform.now() + timeoutMs
    for (;;) {
      if (condition()) return true
      // This CPU may have left while it waited: nothing would come any more. Or it shall not wait.
      this.checkOpen()
      this.#cpu.checkSignal()
      const rest = deadline - platform.now()
      if (rest <= 0) return false
      this.#haltUnless(condition, Math.min(rest, LOOK_AROUND_MS))
      core.deliverInterrupts('safepoint')
      for (const look of this.lookAround) look()
    }
  }

  /**
   * Whoever makes the condition true does so and then reads our state; we write our state and then
   * read the condition. So one of the two sees the other (Descriptor.ring is the partner).
   */
  #haltUnless(condition: () => boolean, timeoutMs: number): void {
    const { core } = this.#cpu
    const { doorbell, state } = core
    core.state = CPU_STATE.halted
    if (!condition()) core.sleep(doorbell, timeoutMs)
    core.state = state
  }

  /**
   * Resolves when `condition` holds, rejects with what `onTimeout` gives after `timeoutMs` or with
   * the signal's reason. The condition is looked at whenever this CPU is told to look: whoever makes
   * it true sets ATTENTION.wake.
   */
  until(
    condition: () => boolean,
    timeoutMs: number,
    onTimeout: () => unknown,
    signal?: AbortSignalLike,
  ): Promise<void> {
    const flags = this.#cpu.localIrqSave()
    try {
      // Interrupts stay off until the wait is in the set: a wake-up between the look and the entry
      // would find nobody to tell.
      if (condition()) return Promise.resolve()
      const at = this.#cpu.platform.now() + timeoutMs
      return this.suspend({ at, onTimeout, signal }, condition).promise
    } finally {
      this.#cpu.localIrqRestore(flags)
    }
  }

  /**
   * Starts a wait that ends when it is resumed, at its limits, or with this CPU. Keeps the thread
   * alive until then. With a condition it is resumed when that holds, looked at as `until` says.
   */
  suspend(limits: WaitLimits, condition?: () => boolean): SuspendedWait {
    this.hold()
    return this.#suspended.add(limits, condition)
  }

  /** Looks at every pending condition: called when others have done something. */
  recheck(): void {
    this.#suspended.recheck((condition) => this.#holds(condition))
  }

  /** With interrupts off: a condition may be a step of a protocol, and must not enter itself. */
  #holds(condition: () => boolean): boolean {
    const flags = this.#cpu.localIrqSave()
    try {
      return condition()
    } finally {
      this.#cpu.localIrqRestore(flags)
    }
  }

  /** Whether anything is outstanding that this thread awaits. */
  get held(): boolean {
    return this.#held > 0
  }

  /** Keeps the thread alive while something is outstanding. Counted. */
  hold(): void {
    if (this.#held++ === 0 && !this.#pinned) this.#cpu.platform.keepAlive(true)
    this.onHold()
  }

  /** Undoes one `hold`. */
  release(): void {
    if (--this.#held === 0 && !this.#pinned) this.#cpu.platform.keepAlive(false)
  }

  /** Keeps the thread alive, whatever is outstanding: an idle CPU has nothing else that does. */
  pin(alive: boolean): void {
    this.#pinned = alive
    this.#cpu.platform.keepAlive(alive || this.#held > 0)
  }

  /** Throws if this CPU has left its machine. */
  checkOpen(): void {
    if (this.#ended !== undefined) throw this.#ended
    if (this.#cpu.core.isRetired) {
      throw new IpiError(
        'IPI_MACHINE_CLOSED',
        `CPU ${this.#cpu.id} has left the machine: no answer would reach this thread any more`,
        { cpu: this.#cpu.id },
      )
    }
  }

  /** Ends every pending wait with an error, and every later one: this CPU has left its machine. */
  abandon(error: Error): void {
    this.#ended = error
    this.#suspended.fail(error)
  }
}

/**
 * The idle loop: what a CPU does between interrupts. It polls for a while, because waking a sleeping
 * thread costs tens of microseconds, and then parks under its event loop, which goes on living.
 * Linux: `arch/i386/kernel/process.c` cpu_idle and poll_idle; `virt/kvm/kvm_main.c` halt polling.
 */

import { Doorbell } from '../hardware/doorbell.ts'
import { CPU, CPU_STATE } from '../hardware/layout.ts'
import { EVENT, type Cpu } from './cpu.ts'
import type { Rescheduler } from './resched.ts'
import { TIF } from './thread-flags.ts'
import type { Waits } from './wait.ts'

/** The first polling time after a wake-up that polling would have caught. */
const HALT_POLL_START_MS = 0.02
/** How fast it grows, and shrinks: one late wake-up on a busy machine says little. */
const HALT_POLL_FACTOR = 2
/** How long interrupts may keep the event loop from turning. */
const TURN_MS_MAX = 10
/** Looks at the attention word between two looks at the clock. */
const LOOKS_PER_CLOCK = 64

/** How one CPU idles. */
export interface IdleOptions {
  /** Whether the library owns this thread's time: an AP. The boot CPU's belongs to its program. */
  readonly ownsThread: boolean
  /** The longest time to poll before parking, in milliseconds. 0: never; Infinity: always. */
  readonly haltPollMs: number
}

/**
 * Adaptive polling, as KVM does it: grows while waking up proves to have been a mistake, and stops
 * when nothing comes for longer than polling may last.
 */
class HaltPolling {
  readonly #maxMs: number
  #ms = 0

  constructor(maxMs: number) {
    this.#maxMs = maxMs
    if (maxMs === Infinity) this.#ms = Infinity
  }

  /** How long to poll now. */
  get ms(): number {
    return this.#ms
  }

  /** It came `sleptMs` after polling had ended. */
  woke(sleptMs: number): void {
    if (this.#ms === Infinity) return
    if (sleptMs > this.#maxMs)
      this.#ms = this.#ms <= HALT_POLL_START_MS ? 0 : this.#ms / HALT_POLL_FACTOR
    else this.#ms = Math.min(this.#maxMs, Math.max(HALT_POLL_START_MS, this.#ms * HALT_POLL_FACTOR))
  }
}

/** One CPU's idle loop, and the doorbell that calls it. */
export class IdleLoop {
  readonly #cpu: Cpu
  readonly #rescheduler: Rescheduler
  readonly #waits: Waits
  readonly #doorbell: Doorbell
  readonly #halt: HaltPolling
  readonly #answer: HaltPolling
  #parkedAt = 0
  #turning = false
  #stopped = false

  constructor(cpu: Cpu, rescheduler: Rescheduler, waits: Waits, options: IdleOptions) {
    this.#cpu = cpu
    this.#rescheduler = rescheduler
    this.#waits = waits
    this.#halt = new HaltPolling(options.ownsThread ? options.haltPollMs : 0)
    this.#answer = new HaltPolling(Math.min(options.haltPollMs, TURN_MS_MAX))
    this.#doorbell = new Doorbell(cpu.memory, cpu.id, () => this.#onRing())
  }

  /** Starts idling: from now on the doorbell brings this CPU back. */
  start(): void {
    this.#park()
  }

  /** Ends it: the doorbell is answered no more. */
  stop(): void {
    this.#stopped = true
  }

  /** Only arms the doorbell: for a CPU that waits for its start-up interrupt. */
  arm(): void {
    this.#doorbell.arm()
    if (this.#cpu.core.attentionPending) this.#cpu.descriptors[this.#cpu.id]!.ringAlways()
  }

  #onRing(): void {
    if (this.#stopped) return
    const { core, platform } = this.#cpu
    this.#cpu.count(EVENT.rings)
    if (core.state !== CPU_STATE.parked) {
      // Waiting for its start-up interrupt, or turning the event loop already.
      if (core.state === CPU_STATE.waitingForSipi) this.#deliver()
      if (core.state === CPU_STATE.waitingForSipi) this.arm()
      return
    }
    const sleptMs = platform.now() - this.#parkedAt
    this.#halt.woke(sleptMs)
    if (this.#waits.held) this.#answer.woke(sleptMs)
    this.#run()
  }

  /** The only place where an INIT is taken: nothing else is on this thread's stack. */
  #deliver(): void {
    const { core } = this.#cpu
    core.initBlocked = false
    try {
      core.deliverInterrupts('eventLoop')
    } finally {
      core.initBlocked = true
    }
  }

  /** Serves until there is nothing to serve, but lets the event loop turn now and then. */
  #run(): void {
    const { core } = this.#cpu
    core.state = CPU_STATE.running
    this.#serve()
    if (core.state !== CPU_STATE.running) return
    if (this.#halt.ms > 0 && !this.#tooManyPoll() && this.#poll()) {
      this.#cpu.platform.defer(() => {
        if (!this.#stopped) this.#run()
      })
    } else if (core.state === CPU_STATE.running) {
      this.#park()
    }
  }

  #serve(): void {
    this.#deliver()
    if (this.#cpu.needResched) this.#rescheduler.schedule()
  }

  /**
   * Serves whatever comes while polling pays; gives whether it stopped only to let the event loop
   * turn. This CPU says that it polls all the while, also in a handler: it looks again before it
   * does anything else. POLLING promises that NEED_RESCHED alone is enough; the promise is kept by
   * looking at it once more after taking the flag back (partner: Rescheduler.reschedTask).
   */
  #poll(): boolean {
    const { core, platform } = this.#cpu
    this.#cpu.setThreadFlags(TIF.POLLING_NRFLAG)
    core.state = CPU_STATE.polling
    const start = platform.now()
    let until = start + this.#halt.ms
    let now = start
    let turn = false
    do {
      let served = false
      for (let i = 0; i < LOOKS_PER_CLOCK; i++) {
        if (!core.attentionPending && !this.#cpu.needResched) continue
        this.#serve()
        if (core.state !== CPU_STATE.polling) {
          // An INIT was taken: this CPU idles no more.
          this.#cpu.clearThreadFlags(TIF.POLLING_NRFLAG)
          return false
        }
        served = true
      }
      now = platform.now()
      if (served) until = now + this.#halt.ms
      turn = now - start >= TURN_MS_MAX
    } while (now < until && !turn)
    core.state = CPU_STATE.running
    const old = this.#cpu.clearThreadFlags(TIF.POLLING_NRFLAG)
    return turn || core.attentionPending || (old & TIF.NEED_RESCHED) !== 0
  }

  /** One processor is left to those who work: else a poller keeps from running what it waits for. */
  #tooManyPoll(): boolean {
    const { memory, platform, id } = this.#cpu
    if (this.#halt.ms === Infinity) return false
    let polling = 0
    for (const cpu of memory.onlineMask) {
      const idle = (memory.readCpu(cpu, CPU.threadFlags) & TIF.POLLING_NRFLAG) !== 0
      if (idle && cpu !== id) polling++
    }
    return polling >= Math.max(1, platform.processors - 1)
  }

  /**
   * Parks: state first, then the doorbell, then one more look. A sender posts, then reads the state:
   * either it sees us parked and rings, or we see its post here.
   */
  #park(): void {
    const { core, platform } = this.#cpu
    this.#turning = false
    this.#parkedAt = platform.now()
    core.state = CPU_STATE.parked
    this.#doorbell.arm()
    if (core.attentionPending || this.#cpu.needResched) {
      core.state = CPU_STATE.running
      platform.defer(() => {
        if (!this.#stopped) this.#run()
      })
    }
  }

  /**
   * Keeps the event loop turning for a while instead of letting the processor sleep, because an
   * answer is expected soon. Blocks nothing: everything else of the loop goes on between the turns.
   */
  expectAnswer(): void {
    const ms = this.#answer.ms
    const { core, platform } = this.#cpu
    if (this.#turning || ms === 0 || core.state !== CPU_STATE.parked) return
    this.#turning = true
    core.state = CPU_STATE.running
    const until = platform.now() + Math.min(ms, TURN_MS_MAX)
    const turn = (): void => {
      if (this.#stopped) return
      if (core.attentionPending) this.#deliver()
      if (this.#waits.held && platform.now() < until) platform.defer(turn)
      else this.#park()
    }
    platform.defer(turn)
  }
}

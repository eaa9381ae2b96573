/**
 * The idle loop: what a CPU does between interrupts. It polls for a while, because waking a sleeping
 * thread costs tens of microseconds, and then parks under its event loop, which goes on living.
 * Linux: `arch/i386/kernel/process.c` cpu_idle and poll_idle; `virt/kvm/kvm_main.c` halt polling.
 *
 *                     ring                    nothing came while polling
 *      parked ------------------> running ------------------------------> parked
 *        ^                         ^   |
 *        |  nothing came           |   | the event loop's turn: it has work of its own,
 *        |                         |   v or an answer is near
 *        +---------------------- turning
 *
 * Turning, a CPU looks once in each turn of the event loop and need not be rung. It says `running`.
 */

import { Doorbell } from '../hardware/doorbell.ts'
import { CPU, CPU_STATE } from '../hardware/layout.ts'
import { pause } from '../hardware/memory.ts'
import { EVENT, type Cpu } from './cpu.ts'
import { HaltPolling } from './halt-polling.ts'
import type { Rescheduler } from './resched.ts'
import { TIF } from './thread-flags.ts'
import type { Waits } from './wait.ts'

/** How long interrupts may keep the event loop from turning. */
const TURN_MS_MAX = 10
/** Looks at the attention word between two looks at the clock. */
const LOOKS_PER_CLOCK = 64
/** How long a thread whose event loop never sleeps looks at each turn, after an interrupt. */
const BUSY_LOOP_MS = 1
/** How long to look for an answer before the first turn: a turn takes about as long. */
const FIRST_LOOK_MS = 0.003

/** How one CPU idles. */
export interface IdleOptions {
  /** Whether the library owns this thread's time: an AP. The boot CPU's belongs to its program. */
  readonly ownsThread: boolean
  /** The longest time to poll before parking, in milliseconds. 0: never; Infinity: always. */
  readonly haltPollMs: number
}

/** One CPU's idle loop, and the doorbell that calls it. */
export class IdleLoop {
  readonly #cpu: Cpu
  readonly #rescheduler: Rescheduler
  readonly #waits: Waits
  readonly #doorbell: Doorbell
  /** How long to poll for the next interrupt, blocking the event loop. */
  readonly #halt: HaltPolling
  /** How long to look for an answer at each turn of the event loop. */
  readonly #answer: HaltPolling
  #parkedAt = 0
  /** When the last thing was served: polling counts from here. */
  #servedAt = 0
  /** Whether a turn of the event loop will come back to us. */
  #turning = false
  /** Until when to turn because the event loop is busy anyway. */
  #busyUntil = 0
  /** What the event loop had slept, when the doorbell rang the last time. */
  #sleptBefore = 0
  /** When the last answer began to be awaited; until when to turn for it. */
  #awaitedAt = 0
  #answerUntil = 0
  #stopped = false
  /** Whether the event loop may be kept from turning; kernel/sched/scheduler.ts binds it. */
  mayPoll: () => boolean = () => true

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
    core.state = CPU_STATE.running
    // Before it is served: an answer ends the waiting for it.
    const { held } = this.#waits
    // The interrupt first: a look at the clock may take a microsecond.
    this.#serve()
    const now = platform.now()
    this.#halt.woke(now - this.#parkedAt)
    if (held) this.#answer.woke(now - this.#awaitedAt)
    const slept = platform.sleptMs()
    if (slept === this.#sleptBefore) this.#busyUntil = now + BUSY_LOOP_MS
    this.#sleptBefore = slept
    this.#servedAt = now
    this.#goOn(now)
  }

  /** The only place where an INIT is taken: nothing else is on this thread's stack. */
  #deliver(): boolean {
    const { core } = this.#cpu
    core.initBlocked = false
    try {
      return core.deliverInterrupts('eventLoop')
    } finally {
      core.initBlocked = true
    }
  }

  /** Serves what there is; gives whether there was anything. */
  #serve(): boolean {
    const taken = this.#deliver()
    if (!this.#cpu.needResched) return taken
    this.#rescheduler.schedule()
    return true
  }

  /** Everything is served: turns, polls or parks. An event loop with work of its own is not kept. */
  #goOn(now: number): void {
    if (this.#cpu.core.state !== CPU_STATE.running) return this.#leaveIdling()
    if (now < this.#busyUntil || (this.#waits.held && now < this.#answerUntil)) this.#turn()
    else if (now >= this.#servedAt + this.#halt.ms || this.#tooManyPoll() || !this.mayPoll()) {
      this.#park()
    } else this.#poll()
  }

  /**
   * Serves whatever comes while polling pays, then parks; lets the event loop turn now and then. This
   * CPU says that it polls all the while, also in a handler: it looks again before it does anything
   * else. POLLING promises that NEED_RESCHED alone is enough; the promise is kept by looking at it
   * once more after taking the flag back (partner: Rescheduler.reschedTask).
   */
  #poll(): void {
    const { core, platform } = this.#cpu
    this.#cpu.setThreadFlags(TIF.POLLING_NRFLAG)
    core.state = CPU_STATE.polling
    const turnAt = platform.now() + TURN_MS_MAX
    let caught = false
    let now: number
    do {
      let served = false
      for (let i = 0; i < LOOKS_PER_CLOCK && core.state === CPU_STATE.polling; i++) {
        if (core.attentionPending || this.#cpu.needResched) served = this.#serve() || served
        else pause()
      }
      now = platform.now()
      if (served) this.#servedAt = now
      caught ||= served
    } while (
      core.state === CPU_STATE.polling &&
      this.mayPoll() &&
      now < turnAt &&
      now < this.#servedAt + this.#halt.ms
    )
    const old = this.#cpu.clearThreadFlags(TIF.POLLING_NRFLAG)
    if (core.state !== CPU_STATE.polling) return this.#leaveIdling()
    core.state = CPU_STATE.running
    const over = now >= this.#servedAt + this.#halt.ms
    if (caught || over) this.#halt.polled(caught)
    const goesOn = !over && this.mayPoll()
    if (goesOn || core.attentionPending || (old & TIF.NEED_RESCHED) !== 0) this.#turn()
    else this.#park()
  }

  /** It was stopped; or an INIT was taken, and it waits for a start-up interrupt now. */
  #leaveIdling(): void {
    if (this.#cpu.core.state === CPU_STATE.waitingForSipi) this.arm()
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
    return polling >= platform.processors - 1
  }

  /**
   * Parks: state first, then the doorbell, then one more look. A sender posts, then reads the state:
   * either it sees us parked and rings, or we see its post here.
   */
  #park(): void {
    const { core, platform } = this.#cpu
    this.#parkedAt = platform.now()
    core.state = CPU_STATE.parked
    this.#doorbell.arm()
    if (core.attentionPending || this.#cpu.needResched) this.#turn()
  }

  /** Comes back in the next turn of the event loop. Until then nobody need ring. */
  #turn(): void {
    this.#cpu.core.state = CPU_STATE.running
    if (this.#turning) return
    this.#turning = true
    this.#cpu.platform.defer(this.#onTurn)
  }

  readonly #onTurn = (): void => {
    this.#turning = false
    const { core, platform } = this.#cpu
    if (this.#stopped || core.state !== CPU_STATE.running) return
    const served = this.#serve()
    const now = platform.now()
    if (served) {
      this.#servedAt = now
      if (now < this.#busyUntil) this.#busyUntil = now + BUSY_LOOP_MS
    }
    if (this.#answerUntil !== 0) this.#endAnswer(now)
    this.#goOn(now)
  }

  /** Takes note of how the turning for an answer has ended, if it has. */
  #endAnswer(now: number): void {
    const { held } = this.#waits
    if (held && now < this.#answerUntil) return
    this.#answer.polled(!held)
    this.#answerUntil = 0
  }

  /**
   * Looks at each turn instead of parking, because this thread looks for itself meanwhile: it blocks
   * in a wait, and others need not ring. Does nothing unless this CPU is parked.
   */
  leave(): void {
    if (this.#cpu.core.state === CPU_STATE.parked) this.#turn()
  }

  /**
   * Keeps the event loop turning for a while instead of letting the processor sleep, because an
   * answer is expected soon. Blocks nothing: everything else of the loop goes on between the turns.
   */
  expectAnswer(): void {
    const { core, platform } = this.#cpu
    this.#awaitedAt = platform.now()
    if (this.#answer.ms === 0 || platform.processors === 1) return
    this.#answerUntil = this.#awaitedAt + this.#answer.ms
    if (core.state !== CPU_STATE.parked) return
    this.#turn()
    void Promise.resolve().then(this.#firstLook)
  }

  /** Before the first turn, and after everything that the program does now. */
  readonly #firstLook = (): void => {
    const { core, platform } = this.#cpu
    const until = platform.now() + FIRST_LOOK_MS
    while (!core.attentionPending && platform.now() < until);
    if (!this.#stopped && core.state === CPU_STATE.running) this.#serve()
  }
}

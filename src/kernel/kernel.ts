/** The kernel of one CPU: every part of it, made and joined in the order in which they need each other. */

import {
  ATTENTION,
  CPU,
  CPU_STATE,
  HEADER,
  MM_COUNT_MAX,
  TASK_LEVELS,
  TASK_WORDS,
  TLB,
  TLB_STATE,
} from '../hardware/layout.ts'
import type { MachineMemory } from '../hardware/machine-memory.ts'
import { store } from '../hardware/memory.ts'
import type { Platform } from '../hardware/platform.ts'
import { Events } from '../base/events.ts'
import { NmiBacktrace } from './backtrace.ts'
import { CallBook } from './call-book.ts'
import { CallDataDriver } from './call-data.ts'
import { CALL_DRIVERS, CallQueueDriver, type CallDriver } from './call-queue.ts'
import { Cpu, EVENT } from './cpu.ts'
import { EntryBuilder } from './entry.ts'
import { Escalation } from './escalation.ts'
import { FlushWaits } from './flush-waits.ts'
import { ForcedEntry } from './forced.ts'
import { FunctionTable } from './functions.ts'
import { IdleLoop } from './idle.ts'
import type { HandlerViolation } from './handler-checks.ts'
import { Idt } from './idt.ts'
import type { SharedOptions } from './protocol.ts'
import { LocalTimer } from './local-timer.ts'
import { LockupDetector, type Lockup, type LockupListener } from './lockup.ts'
import { MemoryTypes } from './memory-types.ts'
import { MtrrHandler } from './mtrr-handler.ts'
import { Nmi } from './nmi.ts'
import { OutgoingCalls } from './outgoing-calls.ts'
import { Rendezvous } from './rendezvous.ts'
import { Rescheduler } from './resched.ts'
import { IpiSenders } from './send.ts'
import { SchedDoor } from './sched.ts'
import { CallServer } from './serve.ts'
import { CallFunction } from './smp.ts'
import { installSmpInterrupts } from './smp-interrupts.ts'
import { SOFTIRQ, Softirqs } from './softirq.ts'
import { MultiCpuStop } from './stop-machine.ts'
import { TLB_DRIVERS, type TlbDriver } from './tlb.ts'
import { GenerationTlb } from './tlb-generations.ts'
import { TlbStateDriver } from './tlbstate.ts'
import { Values } from './values.ts'
import { VECTOR } from './vectors.ts'
import { Waits } from './wait.ts'
import { Watchdog, type StuckCall, type WatchdogListener } from './watchdog.ts'

/** Somebody waits for too long, or does not look up: `kind` says what. */
export type StuckReport = StuckCall | Lockup

/** What a machine tells those who listen. */
export interface MachineEvents {
  /** A CPU takes interrupts from now on. */
  online: { readonly cpu: number }
  /** A CPU has left in good order. */
  offline: { readonly cpu: number }
  /** A CPU's thread ended without leaving. */
  died: { readonly cpu: number; readonly error: unknown }
  /**
   * `call`: a call of this CPU waits for longer than `watchdogMs`. `soft`, `hard`: another CPU has not
   * looked up for `softLockupMs`, `hardLockupMs`. Once; `unstuck` when it has ended after all.
   */
  stuck: StuckReport
  unstuck: StuckReport
  /** A handler of this CPU broke a rule, as far as `checkHandlers` finds out. Told while it runs. */
  violation: HandlerViolation
  /** A handler of this CPU threw, and nobody waited for its result. */
  error: { readonly cpu: number; readonly name: string; readonly error: unknown }
}

/** One CPU's kernel. Private to its thread. */
export class Kernel {
  readonly cpu: Cpu
  readonly events: Events<MachineEvents>
  readonly builder: EntryBuilder
  readonly softirqs: Softirqs
  readonly idt: Idt
  readonly senders: IpiSenders
  readonly forced: ForcedEntry
  readonly nmi: Nmi
  readonly escalation: Escalation
  readonly functions: FunctionTable
  readonly values: Values
  readonly waits: Waits
  readonly book: CallBook
  readonly driver: CallDriver
  readonly outgoing: OutgoingCalls
  readonly calls: CallFunction
  readonly rescheduler: Rescheduler
  readonly tlb: TlbDriver
  readonly flushes: FlushWaits
  readonly rendezvous: Rendezvous
  readonly stop: MultiCpuStop
  readonly types: MemoryTypes
  readonly mtrr: MtrrHandler
  readonly timer: LocalTimer
  readonly watchdog: Watchdog
  readonly idle: IdleLoop
  readonly backtrace: NmiBacktrace
  readonly lockup: LockupDetector
  readonly sched: SchedDoor
  readonly #warned = new Set<string>()
  #isShutDown = false

  constructor(
    memory: MachineMemory,
    id: number,
    platform: Platform,
    functions: FunctionTable,
    options: SharedOptions,
  ) {
    resetCpuPage(memory, id)
    const cpu = new Cpu(memory, id, platform)
    const onError = (name: string, vector: number, error: unknown): void =>
      this.#handlerError(name, vector, error)
    this.cpu = cpu
    this.events = new Events((event, error) =>
      platform.warn(`interprocessor: a listener of "${event}" threw: ${describe(error)}`),
    )
    this.builder = new EntryBuilder(cpu, onError)
    this.softirqs = new Softirqs(cpu, onError)
    this.idt = new Idt(cpu, this.builder, this.softirqs)
    this.senders = new IpiSenders(cpu)
    this.forced = new ForcedEntry(cpu)
    this.escalation = new Escalation(cpu, this.forced)
    this.nmi = new Nmi(cpu, this.senders, this.forced, onError)
    this.functions = new FunctionTable(functions)
    this.values = new Values(memory, (port) => platform.adoptPort(port))
    this.waits = new Waits(cpu)
    this.book = new CallBook(cpu, this.values)
    const server = new CallServer(cpu, this.functions, this.values, onError)
    this.driver =
      CALL_DRIVERS[memory.words[HEADER.callDriver]!] === 'callData'
        ? new CallDataDriver(cpu, this.senders, server)
        : new CallQueueDriver(cpu, this.senders, server)
    this.outgoing = new OutgoingCalls({
      cpu,
      book: this.book,
      driver: this.driver,
      functions: this.functions,
      waits: this.waits,
      escalation: this.escalation,
    })
    this.calls = new CallFunction(
      {
        cpu,
        functions: this.functions,
        waits: this.waits,
        timeoutMs: options.timeoutMs,
        forceAfterMs: options.forceAfterMs,
        forced: this.forced,
      },
      this.outgoing,
    )
    this.rescheduler = new Rescheduler(cpu, this.senders, this.builder, onError)
    this.tlb =
      TLB_DRIVERS[memory.words[HEADER.tlbDriver]!] === 'tlbstate'
        ? new TlbStateDriver(cpu, this.senders)
        : new GenerationTlb(cpu, this.senders)
    this.flushes = new FlushWaits({
      cpu,
      waits: this.waits,
      escalation: this.escalation,
      functions: this.functions,
      options,
    })
    this.rendezvous = new Rendezvous(cpu)
    this.stop = new MultiCpuStop(cpu, this.rendezvous)
    const onTypeError = (error: unknown): void => onError('memory type', 0, error)
    this.types = new MemoryTypes(cpu, onTypeError)
    this.mtrr = new MtrrHandler(this)
    this.timer = new LocalTimer(cpu)
    this.idle = new IdleLoop(cpu, this.rescheduler, this.waits, {
      ownsThread: id !== 0,
      haltPollMs: options.haltPollMs,
    })
    this.backtrace = new NmiBacktrace(this)
    const listener = this.#stuckListener()
    this.watchdog = new Watchdog({
      cpu,
      calls: this.outgoing,
      functions: this.functions,
      senders: this.senders,
      forced: this.forced,
      backtrace: this.backtrace,
      limitMs: options.watchdogMs,
      listener,
    })
    this.lockup = new LockupDetector({
      cpu,
      forced: this.forced,
      backtrace: this.backtrace,
      limits: options,
      listener,
    })
    this.sched = new SchedDoor(this)
    this.#join(options)
  }

  #stuckListener(): WatchdogListener & LockupListener {
    const { platform } = this.cpu
    const tell = (event: 'stuck' | 'unstuck', report: StuckReport): void => {
      platform.publish(event, report)
      this.events.emit(event, report)
    }
    return {
      isListening: () => this.events.has('stuck') || platform.isObserved('stuck'),
      stuck: (report) => tell('stuck', report),
      unstuck: (report) => tell('unstuck', report),
    }
  }

  /** Binds the parts that call each other. */
  #join(options: SharedOptions): void {
    installSmpInterrupts(this.cpu, this.idt, this.softirqs, {
      serveCalls: () => this.driver.serve(),
      invalidateTlb: () => this.tlb.smpInvalidateInterrupt(),
      timer: () => this.softirqs.raiseSoftirq(SOFTIRQ.TIMER_SOFTIRQ),
      areCallsSafe: () => this.driver.isInterruptSafe(),
      isScheduleSafe: () => this.rescheduler.isInterruptSafe,
      nmi: this.nmi,
    })
    this.cpu.handlers.attention = (bits) => {
      this.lockup.sign()
      if ((bits & ATTENTION.completion) !== 0) this.book.takeCompletions()
      if ((bits & ATTENTION.tasks) !== 0) this.sched.attend()
      if ((bits & ATTENTION.wake) !== 0) {
        if (this.book.sweep()) this.#standInForTheDead()
        this.sched.look()
      }
      this.waits.recheck()
    }
    const { forceAfterMs } = options
    if (forceAfterMs !== Infinity) {
      const { rescheduler, escalation } = this
      rescheduler.onMarked = (target) =>
        escalation.follow(target, () => rescheduler.isMarked(target), forceAfterMs)
    }
    this.cpu.onLook = () => this.idle.leave()
    this.outgoing.onOpen = () => this.watchdog.start()
    this.waits.onHold = () => this.idle.expectAnswer()
    this.waits.lookAround.push(
      () => this.watchdog.look(),
      () => this.escalation.look(),
      () => this.timer.check(),
    )
    this.cpu.core.initBlocked = true
    // What an earlier life of this CPU left behind.
    this.book.sweep()
  }

  /**
   * The dead may have queued a request, or marked this CPU for rescheduling, and not lived to send the
   * interrupt; others then relied on it. So whatever is there is interrupted for once more.
   */
  #standInForTheDead(): void {
    const { apic, memory, id, needResched } = this.cpu
    if (memory.readCpu(id, CPU.callQueue) > 0) apic.raise(VECTOR.CALL_FUNCTION_VECTOR)
    if (needResched) apic.raise(VECTOR.RESCHEDULE_VECTOR)
  }

  /** A handler let an error out and nobody waits for it: count it, tell, go on. */
  #handlerError(name: string, vector: number, error: unknown): void {
    this.cpu.count(EVENT.handlerErrors)
    const { id } = this.cpu
    if (this.events.has('error')) {
      this.events.emit('error', { cpu: id, name, error })
      return
    }
    this.cpu.platform.warn(
      `interprocessor: "${name}" (vector ${vector}) threw on CPU ${id} and nobody waited: ` +
        describe(error),
    )
  }

  /** Loads and starts the development mode of handlers. */
  async checkHandlers(budgetMs: number): Promise<void> {
    const { HandlerChecks } = await import('./handler-checks.ts')
    const { cpu } = this
    if (this.#isShutDown) return
    cpu.checks = new HandlerChecks(cpu, budgetMs, (violation) => this.#tellViolation(violation))
  }

  /** Where nobody listens the operator is told, once for each handler and rule. */
  #tellViolation(violation: HandlerViolation): void {
    const { platform } = this.cpu
    const { name, rule, message, stack } = violation
    if (this.events.has('violation') || platform.isObserved('violation')) {
      platform.publish('violation', violation)
      this.events.emit('violation', violation)
    } else if (!this.#warned.has(`${rule} ${name}`)) {
      this.#warned.add(`${rule} ${name}`)
      // At once: the handler may never return.
      platform.warnNow(`interprocessor: ${message}${stack === '' ? '' : `\n${stack}`}`)
    }
  }

  /** Ends this CPU's part: nothing of it calls back any more. */
  shutDown(reason: Error): void {
    this.#isShutDown = true
    this.cpu.checks?.stop()
    this.cpu.checks = undefined
    this.forced.close()
    this.watchdog.stop()
    this.lockup.stop()
    this.escalation.stop()
    this.timer.stop()
    // What has been answered already is still told; nothing else will be.
    this.cpu.core.deliverInterrupts('eventLoop')
    this.outgoing.abandon(reason)
    this.waits.abandon(reason)
    this.idle.stop()
    // The wait that is armed on the doorbell cannot be withdrawn; rung, it ends.
    this.cpu.descriptors[this.cpu.id]!.ringAlways()
    this.values.close()
    this.tlb.leaveAll()
  }
}

/** An error with its stack, for an operator. Never throws, whatever was thrown. */
export function describe(error: unknown): string {
  try {
    return error instanceof Error ? (error.stack ?? error.message) : String(error)
  } catch {
    return 'something that cannot be printed'
  }
}

/**
 * Power-on: what an earlier life of this CPU left in its per-CPU page means nothing now. The doorbell
 * goes on counting, completions still lead slots home, statistics stay, as the kernel's do.
 */
function resetCpuPage(memory: MachineMemory, id: number): void {
  const page = memory.cpuPage(id)
  for (let i = 0; i < CPU.doorbell; i++) store(memory.words, page + i, 0)
  for (const field of [
    CPU.nmiPosts,
    CPU.initSipi,
    CPU.forced,
    CPU.threadFlags,
    CPU.currentRequest,
    CPU.currentVector,
    CPU.interruptsOff,
    CPU.stopAck,
    CPU.flushAck,
    CPU.typesDrained,
    CPU.schedState,
  ]) {
    store(memory.words, page + field, 0)
  }
  for (let i = 0; i < 8; i++) {
    store(memory.words, page + CPU.levelPosts + i, 0)
    store(memory.words, page + CPU.stackAskers + i, 0)
  }
  for (let mm = 0; mm < MM_COUNT_MAX; mm++) {
    store(memory.words, memory.tlbLine(id, mm) + TLB.state, TLB_STATE.off)
  }
  for (let i = 0; i < TASK_LEVELS * TASK_WORDS; i++) store(memory.words, page + CPU.tasks + i, 0)
  store(memory.words, page + CPU.state, CPU_STATE.offline)
}

/**
 * The processor core: when an interrupt is taken. Intel SDM vol. 3, chapter "Interrupt and Exception
 * Handling": the interrupt flag, the STI shadow, NMI blocking, HLT, and what beats what.
 *
 * A thread has no instruction boundaries that others can use; it has safepoints. `poll` is one: the
 * instruction NOP and the boundary behind it. What the manual says of instruction boundaries holds
 * for safepoints here, and for forced entries, which are boundaries that the thread did not choose.
 *
 * A forced entry comes at any call and at any turn of a loop, also inside this file. So what it would
 * find half changed is closed to it, NMIs included; `#open` lets it in when that is over. And it
 * takes only what may run in the middle of other JavaScript: the rest waits for a safepoint.
 */

import { ATTENTION, CPU, CPU_STATE } from './layout.ts'
import { ATOMIC_LOOK_EVERY, type SafepointCredit } from './apic/interrupts.ts'
import type { LocalApic } from './apic/local-apic.ts'
import { Descriptor } from './descriptor.ts'
import type { CoreHandlers, EntryPath } from './gates.ts'
import type { MachineMemory } from './machine-memory.ts'
import { load, store, wait, type SharedWords } from './memory.ts'

/** The attention bits that the core hands on. */
const SOFT_ATTENTION = ATTENTION.completion | ATTENTION.wake | ATTENTION.tasks

/** One CPU's core. Belongs to the thread that is the CPU; nothing here is shared but its memory. */
export class Core {
  readonly apic: LocalApic
  readonly #handlers: CoreHandlers
  readonly #words: SharedWords
  readonly #page: number
  readonly #attention: SharedWords
  readonly #safepoints: SafepointCredit
  #interruptFlag = false
  #shadow = false
  #softAttention = 0
  #path: EntryPath = 'safepoint'
  /** How often something was taken: a halt ends when this changes. */
  #takings = 0
  #retired = false
  /** What runs is about to be aborted, wherever the engine looks next: nothing is begun until it is. */
  isDoomed = false
  /** While true a forced entry takes nothing, registers and latches may be half changed; one came. */
  #closed = false
  #keptOut = false
  /** Forced entries that are on the stack. */
  #forcedDepth = 0
  readonly #descriptor: Descriptor
  /** An INIT stays latched: a thread cannot throw away the JavaScript that is on its stack. */
  initBlocked = false

  constructor(memory: MachineMemory, apic: LocalApic, handlers: CoreHandlers) {
    this.apic = apic
    this.#handlers = handlers
    this.#words = memory.words
    this.#page = memory.cpuPage(apic.cpu)
    this.#attention = memory.viewOf(this.#page + CPU.attention)
    this.#safepoints = apic.safepoints
    this.#descriptor = new Descriptor(memory, apic.cpu)
  }

  /** Whether this thread is the CPU no more. */
  get isRetired(): boolean {
    return this.#retired
  }

  /** From here on nothing is taken from, or written to, a page that may have another life at once. */
  retire(): void {
    this.#retired = true
  }

  /** EFLAGS.IF. */
  get interruptsEnabled(): boolean {
    return this.#interruptFlag
  }

  /** How the core came to take what it is taking now. */
  get path(): EntryPath {
    return this.#path
  }

  /** Whether a forced entry is on the stack: until it has returned, safepoints take what it may. */
  get isForced(): boolean {
    return this.#forcedDepth > 0
  }

  /** Every change of the flag goes through here: others read the word when they ask what we do. */
  #setFlag(flag: boolean): void {
    this.#interruptFlag = flag
    this.#words[this.#page + CPU.interruptsOff] = flag ? 0 : 1
  }

  /** CLI: maskable interrupts wait from here on. */
  cli(): void {
    this.#setFlag(false)
    this.#shadow = false
  }

  /** STI: maskable interrupts are taken again, one safepoint from now. Opens no window by itself. */
  sti(): void {
    if (!this.#interruptFlag) {
      this.#setFlag(true)
      this.#shadow = true
    }
  }

  /**
   * A safepoint. The look at the attention word is a plain read, which a compiler or a processor may
   * answer from an old value; every ATOMIC_LOOK_EVERY-th look is atomic and bounds the delay.
   */
  poll(): void {
    this.#shadow = false
    if (this.#attention[0] !== 0 || --this.#safepoints.left < 0) this.look()
  }

  /** A safepoint that looks for sure. */
  look(): void {
    if (load(this.#attention, 0) === 0 && !this.#anyWaiting) {
      this.#shadow = false
      this.#safepoints.left = ATOMIC_LOOK_EVERY - 1
    } else {
      this.deliverInterrupts('safepoint')
    }
  }

  /** INT n: enters the gate at once, whatever the flags say. The APIC has no part in it. */
  interrupt(vector: number): void {
    this.#shadow = false
    this.#enter(vector)
    this.deliverInterrupts('safepoint')
  }

  /**
   * Takes everything that may be taken now: INIT before NMI before the rest, then maskable
   * interrupts by priority. A forced entry with interrupts off, or in the STI shadow, leaves all
   * maskable ones pending. Gives whether anything was taken.
   */
  deliverInterrupts(path: EntryPath): boolean {
    if (this.#retired || this.isDoomed) return false
    if (path === 'forced') return this.#deliverForced()
    return this.#deliverAs(path)
  }

  /** In the STI shadow it takes nothing: the safepoint that ends that finds what was posted. */
  #deliverForced(): boolean {
    if (this.#closed) this.#keptOut = true
    if (this.#closed || this.#shadow) return false
    this.#forcedDepth++
    let taken = false
    try {
      taken = this.#deliverAs('forced')
    } finally {
      this.#forcedDepth--
    }
    // What it took in and may not take is announced again: whoever looks for work before it goes to
    // sleep looks at the attention word, and that says nothing of it any more.
    if (this.#anyWaiting) this.#descriptor.attend(ATTENTION.wake)
    if (taken) this.#endHalt()
    return taken
  }

  #deliverAs(path: EntryPath): boolean {
    this.#shadow = false
    this.#closed = true
    // Pairs with Descriptor.attend: an attention bit that this load misses was set after it, and
    // its sender then reads our state after we last wrote it. The plain read only saves the load.
    if (this.#attention[0] !== 0 || load(this.#attention, 0) !== 0) {
      this.#softAttention |= this.apic.harvest() & SOFT_ATTENTION
    }
    if (!this.#anyWaiting) {
      this.#safepoints.left = ATOMIC_LOOK_EVERY - 1
      this.#open()
      return false
    }
    // A handler may open interrupts: its safepoints must see what waits beside what it handles.
    this.#safepoints.left = 0
    const outerPath = this.#path
    this.#path = path
    try {
      const taken = this.#deliver()
      if (taken) this.#takings++
      return taken
    } finally {
      this.#closed = true
      this.#path = outerPath
      // What is kept from us by a flag or a priority may be let through before the next safepoint.
      if (!this.#anyWaiting) this.#safepoints.left = ATOMIC_LOOK_EVERY - 1
      this.#open()
    }
  }

  /**
   * What was taken by force came into the middle of something. If that was about to sleep, or slept, it
   * must look again: nobody else will ring for what is taken already.
   */
  #endHalt(): void {
    if (this.state === CPU_STATE.halted) this.#descriptor.ringAlways()
  }

  /** Forced entries may come again, and one that came meanwhile takes place now. */
  #open(): void {
    this.#closed = false
    if (!this.#keptOut) return
    this.#keptOut = false
    this.deliverInterrupts('forced')
  }

  get #anyWaiting(): boolean {
    return this.apic.hasPending || this.#softAttention !== 0
  }

  #deliver(): boolean {
    const { apic } = this
    let taken = false
    while (!this.#retired) {
      if (apic.latchPending && this.#takeLatched()) {
        taken = true
        continue
      }
      if (!this.#interruptFlag) return taken
      const vector = apic.hasPending ? apic.pendingVector() : -1
      if (vector >= 0) {
        // The strongest first, or none: a weaker one that may be forced does not pass it.
        if (this.#forcedDepth > 0 && !this.#handlers.isInterruptSafe(vector)) return taken
        apic.acknowledge(vector)
        this.#enter(vector)
      } else if (this.#softAttention !== 0 && this.#forcedDepth === 0) this.#attend()
      else return taken
      taken = true
    }
    return taken
  }

  /**
   * Takes the strongest of what no flag keeps out; gives whether there was any. In the middle of an
   * INIT or a start-up neither is taken by force: the second would come before the first.
   */
  #takeLatched(): boolean {
    const { apic } = this
    if (!this.initBlocked && (apic.initPending || apic.startupVector >= 0)) {
      this.initBlocked = true
      if (apic.initPending) this.#takeInit()
      else this.#takeStartup()
      this.#closed = true
      this.initBlocked = false
    } else if (this.#canTakeNmi()) this.#takeNmi()
    else return false
    return true
  }

  #attend(): void {
    const bits = this.#softAttention
    this.#softAttention = 0
    this.#setFlag(false)
    this.#open()
    try {
      this.#handlers.attention(bits)
    } finally {
      this.#closed = true
      this.#setFlag(true)
    }
  }

  /** Through an interrupt gate and back: the flag is cleared on the way in, restored by IRET. */
  #enter(vector: number): void {
    this.#closed = true
    const flag = this.#interruptFlag
    this.#setFlag(false)
    this.#open()
    try {
      this.#handlers.gates[vector]!(vector, flag)
    } finally {
      this.#closed = true
      this.#setFlag(flag)
      this.#shadow = false
    }
  }

  /** Further NMIs are blocked until IRET; one of them is remembered. */
  #takeNmi(): void {
    this.apic.nmiBlocked = true
    this.apic.nmiPending--
    const flag = this.#interruptFlag
    this.#setFlag(false)
    this.#open()
    try {
      this.#handlers.nmi(flag)
    } finally {
      this.#closed = true
      this.#setFlag(flag)
      this.apic.nmiBlocked = false
    }
  }

  /** An IRET inside an NMI handler, before its end: a remembered NMI is taken at once. */
  iret(): void {
    this.apic.nmiBlocked = false
    this.deliverInterrupts('safepoint')
  }

  #takeInit(): void {
    this.cli()
    this.apic.initPending = false
    this.apic.reset('init')
    this.#open()
    this.#handlers.init()
  }

  /** Honoured in wait-for-SIPI only; in any other state it is forgotten. */
  #takeStartup(): void {
    const vector = this.apic.startupVector
    this.apic.startupVector = -1
    if (this.state !== CPU_STATE.waitingForSipi) return
    this.#open()
    this.#handlers.startup(vector)
  }

  /** What senders believe this CPU is doing. */
  get state(): number {
    return this.#words[this.#page + CPU.state]!
  }

  /**
   * Tells senders what this CPU does from now on. Whoever goes to sleep must load `attention` after
   * this store: it pairs with Descriptor.attend, which sets attention and then loads the state.
   */
  set state(state: number) {
    if (this.#retired) return
    store(this.#words, this.#page + CPU.state, state)
  }

  /** Whether somebody has asked for attention that was not taken yet. */
  get attentionPending(): boolean {
    return load(this.#attention, 0) !== 0
  }

  /** The value of the doorbell: read it before looking for work, and wait on the value read. */
  get doorbell(): number {
    return load(this.#words, this.#page + CPU.doorbell)
  }

  /**
   * HLT: blocks until an interrupt that the flags let through, an NMI, an INIT, or attention of the
   * other kinds; takes it, or finds it taken by force, and gives true. Gives false if `timeoutMs`
   * passed first. STI followed by this loses nothing: the doorbell is read, then everything is
   * harvested, then the thread blocks on the value read; a sender who posts after the harvest has
   * changed it.
   */
  hlt(timeoutMs: number, now: () => number): boolean {
    if (this.#retired) return false
    const outerState = this.state
    const deadline = now() + timeoutMs
    // The shadow ends here: what is forced in from here on ends the halt.
    const takings = this.#takings
    this.#shadow = false
    this.state = CPU_STATE.halted
    let woken = false
    for (let rest = timeoutMs; ; rest = deadline - now()) {
      const doorbell = this.doorbell
      woken = takings !== this.#takings || this.sleep(doorbell, rest)
      if (woken || rest <= 0) break
    }
    woken ||= takings !== this.#takings
    // A sender that read `halted` has rung. One that reads a parked state from here on finds the
    // doorbell's asynchronous wait armed, or notified already and about to look.
    this.state = outerState
    this.deliverInterrupts('safepoint')
    return woken
  }

  /**
   * One round of HLT: harvests, and blocks on the doorbell if nothing can be taken. The caller has set
   * the state, and read `doorbell` before any look for work of its own. Gives whether something can.
   */
  sleep(doorbell: number, timeoutMs: number): boolean {
    if (this.#retired) return false
    this.#closed = true
    if (this.attentionPending) this.#softAttention |= this.apic.harvest() & SOFT_ATTENTION
    const canTake = this.#canTake()
    this.#open()
    if (canTake) return true
    if (timeoutMs > 0) wait(this.#words, this.#page + CPU.doorbell, doorbell, timeoutMs)
    return false
  }

  /** Not while one is handled, and not before start-up: until then one stays latched. */
  #canTakeNmi(): boolean {
    const { apic } = this
    return apic.nmiPending > 0 && !apic.nmiBlocked && this.state !== CPU_STATE.waitingForSipi
  }

  /** Whether something is pending that ends a halt. */
  #canTake(): boolean {
    const apic = this.apic
    if (apic.initPending && !this.initBlocked) return true
    if (apic.startupVector >= 0 && this.state === CPU_STATE.waitingForSipi) return true
    if (this.#canTakeNmi()) return true
    if (!this.#interruptFlag) return false
    return this.#softAttention !== 0 || (apic.hasPending && apic.pendingVector() >= 0)
  }
}

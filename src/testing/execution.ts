/**
 * One execution of a scenario under a schedule that somebody else chooses: which CPU makes the next
 * access, whose timed wait ends, who dies. Everything else follows from these choices.
 */

import { WAIT, WAIT_RESULT, type Access } from './access.ts'
import { mix } from './hash.ts'
import { Runner, type Frame } from './runner.ts'
import type { Failure, Scenario, Setup } from './scenario.ts'

/**
 * What can happen next: CPU `cpu` makes its access, or finds that its time is over, or is interrupted,
 * or dies.
 */
export interface Choice {
  readonly kind: 'step' | 'timeout' | 'interrupt' | 'death'
  readonly cpu: number
}

/** What has happened, for the table. */
export interface Event extends Choice {
  readonly access: Pick<Access, 'operation' | 'at' | 'value' | 'expected'>
  readonly result: number
  /** Whether it was done by an interrupt, in the middle of something else. */
  readonly inInterrupt: boolean
}

const STEPS_MAX = 10_000
/** Reads between two accesses after which a program counts as one that never comes back. */
const SIGHTINGS_MAX = 100_000

/** One run. */
export class Execution {
  readonly memory: Int32Array
  /** How many accesses there were. */
  steps = 0
  /** What went wrong, if anything has. */
  failure: Failure | undefined
  /** Filled if it was asked for. */
  readonly events: Event[] | undefined
  readonly #scenario: Scenario
  readonly #setup: Setup
  readonly #cpus: Runner[] = []
  readonly #stepsMax: number
  /** A hash of memory: exclusive-or of one for each word, so that a write costs two. */
  #memoryHash = 0
  /** Whose program runs now, -1 between two steps. */
  #running = -1
  /** What it has read since its last access. */
  #sightings = 0
  /** Interrupts and early timeouts that may still come. */
  #interruptsLeft: number
  #earlyTimeoutsLeft: number

  constructor(scenario: Scenario, record = false) {
    const memory = new Int32Array(scenario.words ?? 0)
    this.#scenario = scenario
    this.#stepsMax = scenario.stepsMax ?? STEPS_MAX
    this.events = record ? [] : undefined
    this.#interruptsLeft = scenario.interruptible === undefined ? 0 : (scenario.interruptsMax ?? 1)
    this.#earlyTimeoutsLeft = scenario.earlyTimeouts ?? 0
    this.#setup = scenario.setup(memory, {
      saw: (value) => this.#saw(value),
      wrote: (at, old) => this.#changed(this.#running, at, old),
      running: () => this.#running,
      wake: (cpu) => {
        const { frame } = this.#cpus[cpu]!
        if (frame.status === 'waiting') this.#wake(cpu, frame)
      },
    })
    this.memory = this.#setup.memory ?? memory
    this.#cpus.push(...this.#setup.cpus.map((program) => new Runner(program)))
    this.#cpus.forEach((runner, cpu) => this.#resume(cpu, runner.frame, 0))
  }

  /**
   * What can happen next; nothing if the run is over. An interrupt and a death are possible wherever a
   * step is. Time passes when nobody can go on, and earlier if the scenario says so.
   */
  choices(): Choice[] {
    if (this.failure !== undefined) return []
    const choices: Choice[] = []
    for (const [cpu, { frame }] of this.#cpus.entries()) {
      if (frame.status !== 'ready') continue
      // A boundary concerns nobody else: whether an interrupt comes there is decided at once.
      if (frame.access.operation === 'boundary') {
        const step: Choice = { kind: 'step', cpu }
        return this.#mayInterrupt(cpu) ? [step, { kind: 'interrupt', cpu }] : [step]
      }
      choices.push({ kind: 'step', cpu })
    }
    if (choices.length === 0) return this.#stuck()
    if (this.steps >= this.#stepsMax) {
      this.failure = { kind: 'livelock', message: `no end after ${this.steps} accesses` }
      return []
    }
    if (this.#earlyTimeoutsLeft > 0) choices.push(...this.#timeouts())
    const { interruptible = [], mortal = [] } = this.#scenario
    for (const cpu of interruptible) {
      if (this.#mayInterrupt(cpu)) choices.push({ kind: 'interrupt', cpu })
    }
    for (const cpu of mortal) {
      if (this.#cpus[cpu]!.isAlive) choices.push({ kind: 'death', cpu })
    }
    return choices
  }

  #mayInterrupt(cpu: number): boolean {
    const runner = this.#cpus[cpu]!
    if (this.#interruptsLeft === 0 || !runner.isAlive || runner.outer !== undefined) return false
    return this.#scenario.interruptible?.includes(cpu) === true
  }

  /** Whose time may be over. */
  #timeouts(): Choice[] {
    const choices: Choice[] = []
    for (const [cpu, { frame }] of this.#cpus.entries()) {
      const sleeps = frame.status === 'waiting' || frame.status === 'paused'
      if (sleeps && frame.access.value === WAIT.timed) choices.push({ kind: 'timeout', cpu })
    }
    return choices
  }

  #stuck(): Choice[] {
    const choices = this.#scenario.timeouts === false ? [] : this.#timeouts()
    if (choices.length > 0) return choices
    const asleep = [...this.#cpus.keys()].filter((cpu) => {
      const { status, access } = this.#cpus[cpu]!.frame
      return status === 'paused' || (status === 'waiting' && access.value !== WAIT.idle)
    })
    if (asleep.length > 0) this.failure = this.#blame(asleep)
    else this.#check('books', this.#setup.atEnd)
    return []
  }

  /** Everybody sleeps: whose word has moved since was not told. */
  #blame(asleep: readonly number[]): Failure {
    const lost = asleep.some((cpu) => {
      const { status, access } = this.#cpus[cpu]!.frame
      return status === 'waiting' && this.memory[access.at] !== access.expected
    })
    const who = asleep.map((cpu) => {
      const { status, access } = this.#cpus[cpu]!.frame
      if (status === 'paused') return `CPU ${cpu} spins`
      const { at, expected } = access
      return `CPU ${cpu} waits while ${this.#name(at)} is ${expected}, and it is ${this.memory[at]}`
    })
    return { kind: lost ? 'lost wake-up' : 'deadlock', message: who.join('; ') }
  }

  #name(at: number): string {
    return this.#scenario.nameOf?.(at) ?? `word ${at}`
  }

  /**
   * Identifies the state, with 53 bits: memory, what each CPU has seen, is or waits for, and a number
   * of the caller's.
   */
  key(mark: number): number {
    const left = this.#interruptsLeft * 64 + this.#earlyTimeoutsLeft
    let low = mix(mix(this.#memoryHash, mark), left)
    let high = mix(this.#memoryHash, mark ^ 0x5bd1e995)
    for (const runner of this.#cpus) {
      const [first, second] = runner.key()
      low = mix(low, first)
      high = mix(high, second)
    }
    return (low >>> 0) * 0x200000 + (high & 0x1fffff)
  }

  /** The CPU that runs now has seen this without an access: a plain read. */
  #saw(value: number): void {
    const runner = this.#cpus[this.#running]
    if (runner === undefined) return
    runner.saw(value)
    if (++this.#sightings > SIGHTINGS_MAX) throw new Error('it reads for ever, and yields nothing')
  }

  /** Lets it happen. */
  apply({ kind, cpu }: Choice): void {
    const runner = this.#cpus[cpu]!
    const { frame } = runner
    const { operation, at, value, expected } = frame.access
    const inInterrupt = runner.outer !== undefined
    const early = kind === 'timeout' && this.#someoneIsReady()
    const result = this.#happen(kind, cpu, frame)
    this.events?.push({
      kind,
      cpu,
      access: { operation, at, value, expected },
      result,
      inInterrupt,
    })
    if (early) this.#earlyTimeoutsLeft--
    if (kind === 'interrupt') this.#resume(cpu, runner.frame, 0)
    else if (frame.status === 'ready') this.#resume(cpu, frame, result)
    this.steps++
    this.#check('invariant', this.#setup.invariant)
  }

  #happen(kind: Choice['kind'], cpu: number, frame: Frame): number {
    switch (kind) {
      case 'step':
        return this.#perform(cpu, frame)
      case 'timeout':
        frame.status = 'ready'
        return WAIT_RESULT.timedOut
      case 'interrupt':
        this.#interruptsLeft--
        this.#cpus[cpu]!.interrupt(this.#setup.interrupt!(cpu))
        return 0
      case 'death':
        this.#die(cpu)
        return 0
    }
  }

  #someoneIsReady(): boolean {
    return this.#cpus.some(({ frame }) => frame.status === 'ready')
  }

  #die(cpu: number): void {
    this.#cpus[cpu]!.frame.status = 'dead'
    this.#setup.onDeath?.(cpu)
  }

  /** Makes the access of a CPU; gives its result. A CPU that begins to sleep is not ready after it. */
  #perform(cpu: number, frame: Frame): number {
    const { memory } = this
    const { operation, at, value, expected } = frame.access
    const old = memory[at]!
    switch (operation) {
      case 'load':
        return old
      case 'store':
        this.#write(cpu, at, value)
        return value
      case 'add':
        this.#write(cpu, at, old + value)
        return old
      case 'or':
        this.#write(cpu, at, old | value)
        return old
      case 'and':
        this.#write(cpu, at, old & value)
        return old
      case 'exchange':
        this.#write(cpu, at, value)
        return old
      case 'compareExchange':
        if (old === expected) this.#write(cpu, at, value)
        return old
      case 'wait':
        if (old !== expected) return WAIT_RESULT.notEqual
        frame.status = 'waiting'
        return WAIT_RESULT.ok
      case 'notify':
        return this.#notify(at, value)
      case 'pause':
        if (frame.news === 0) frame.status = 'paused'
        frame.news = 0
        return WAIT_RESULT.ok
      case 'boundary':
        return 0
    }
  }

  #write(writer: number, at: number, value: number): void {
    const { memory } = this
    const old = memory[at]!
    memory[at] = value
    if (memory[at] !== old) this.#changed(writer, at, old)
  }

  #changed(writer: number, at: number, old: number): void {
    this.#memoryHash ^= mix(at + 1, old) ^ mix(at + 1, this.memory[at]!)
    for (const [cpu, runner] of this.#cpus.entries()) {
      for (const frame of runner.frames) {
        // What an interrupt writes is news to what it has interrupted.
        if (cpu === writer && frame === runner.frame) continue
        if (frame.status === 'paused') this.#wake(cpu, frame)
        else frame.news++
      }
    }
  }

  #notify(at: number, count: number): number {
    let woken = 0
    for (const [cpu, runner] of this.#cpus.entries()) {
      for (const frame of runner.frames) {
        if (frame.status !== 'waiting' || frame.access.at !== at || woken >= count) continue
        this.#wake(cpu, frame)
        woken++
      }
    }
    return woken
  }

  #wake(cpu: number, frame: Frame): void {
    frame.status = 'ready'
    if (frame === this.#cpus[cpu]!.frame) this.#resume(cpu, frame, WAIT_RESULT.ok)
    else frame.result = WAIT_RESULT.ok
  }

  /** Runs a frame to its next access, and what it has interrupted after its end. */
  #resume(cpu: number, frame: Frame, result: number): void {
    const runner = this.#cpus[cpu]!
    const outer = this.#running
    this.#running = cpu
    this.#sightings = 0
    runner.saw(result)
    let ended = true
    try {
      let next = frame.program.next(result)
      while (
        next.done !== true &&
        next.value.operation === 'boundary' &&
        !this.#mayInterrupt(cpu)
      ) {
        next = frame.program.next(0)
      }
      ended = next.done === true
      if (next.done !== true) frame.access = next.value
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error)
      this.failure ??= { kind: 'error', message: `CPU ${cpu} threw: ${what}` }
    }
    this.#running = outer
    if (ended) this.#end(cpu, frame)
  }

  #end(cpu: number, frame: Frame): void {
    const runner = this.#cpus[cpu]!
    frame.status = 'ended'
    if (runner.outer === undefined) return
    const result = runner.return()
    if (result !== undefined) this.#resume(cpu, runner.frame, result)
  }

  #check(kind: 'invariant' | 'books', look: (() => string | undefined) | undefined): void {
    const message = look?.()
    if (message !== undefined) this.failure ??= { kind, message }
  }
}

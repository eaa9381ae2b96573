/**
 * One execution of a scenario under a schedule that somebody else chooses: which CPU makes the next
 * access, whose timed wait ends, who dies. Everything else follows from these choices.
 */

import { Bus, WAIT_RESULT, type Access } from './access.ts'
import type { Failure, Scenario, Setup } from './scenario.ts'

/** What can happen next: CPU `cpu` makes its access, or its wait times out, or it dies. */
export interface Choice {
  readonly kind: 'step' | 'timeout' | 'death'
  readonly cpu: number
}

/** What has happened, for the table. */
export interface Event extends Choice {
  readonly access: Pick<Access, 'operation' | 'at' | 'value' | 'expected'>
  readonly result: number
}

/** What a CPU is up to. */
type Status = 'ready' | 'waiting' | 'paused' | 'ended' | 'dead'

const STEPS_MAX = 10_000

/** One CPU of the execution. */
interface Runner {
  readonly bus: Bus
  readonly program: Generator<Access, void, number>
  status: Status
  /** A hash of everything the program has seen: what it does next follows from that. */
  seen: number
  /** Changes of memory by others since its last pause. A pause sleeps only if there was none. */
  news: number
}

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
  readonly #cpus: Runner[]
  readonly #stepsMax: number
  /** A hash of memory: exclusive-or of one for each word, so that a write costs two. */
  #memoryHash = 0

  constructor(scenario: Scenario, record = false) {
    const memory = new Int32Array(scenario.words ?? 0)
    this.#scenario = scenario
    this.#stepsMax = scenario.stepsMax ?? STEPS_MAX
    this.events = record ? [] : undefined
    this.#setup = scenario.setup(memory)
    this.memory = this.#setup.memory ?? memory
    this.#cpus = this.#setup.cpus.map((program) => {
      const bus = new Bus()
      return { bus, program: program(bus), status: 'ready', seen: 1, news: 0 }
    })
    this.#cpus.forEach((_, cpu) => this.#resume(cpu, 0))
  }

  /**
   * What can happen next; nothing if the run is over. Time passes only when nobody can go on, so a
   * wait times out only then. A death is possible wherever a step is.
   */
  choices(): Choice[] {
    if (this.failure !== undefined) return []
    const steps: Choice[] = []
    this.#cpus.forEach(({ status }, cpu) => {
      if (status === 'ready') steps.push({ kind: 'step', cpu })
    })
    if (steps.length === 0) return this.#stuck()
    if (this.steps >= this.#stepsMax) {
      this.failure = { kind: 'livelock', message: `no end after ${this.steps} accesses` }
      return []
    }
    for (const cpu of this.#scenario.mortal ?? []) {
      if (this.#isAlive(cpu)) steps.push({ kind: 'death', cpu })
    }
    return steps
  }

  #isAlive(cpu: number): boolean {
    const { status } = this.#cpus[cpu]!
    return status !== 'ended' && status !== 'dead'
  }

  #stuck(): Choice[] {
    const choices: Choice[] = []
    const asleep: number[] = []
    this.#cpus.forEach(({ status, bus }, cpu) => {
      if (status === 'waiting' && bus.value !== 0) choices.push({ kind: 'timeout', cpu })
      if (status === 'waiting' || status === 'paused') asleep.push(cpu)
    })
    if (choices.length > 0) return choices
    if (asleep.length > 0) this.failure = this.#blame(asleep)
    else this.#check('books', this.#setup.atEnd)
    return []
  }

  /** Everybody sleeps: whose word has moved since was not told. */
  #blame(asleep: readonly number[]): Failure {
    const lost = asleep.some((cpu) => {
      const { status, bus } = this.#cpus[cpu]!
      return status === 'waiting' && this.memory[bus.at] !== bus.expected
    })
    const who = asleep.map((cpu) => {
      const { status, bus } = this.#cpus[cpu]!
      if (status === 'paused') return `CPU ${cpu} spins`
      return `CPU ${cpu} waits while ${this.#name(bus.at)} is ${bus.expected}, and it is ${this.memory[bus.at]}`
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
    let low = mix(this.#memoryHash, mark)
    let high = mix(this.#memoryHash, mark ^ 0x5bd1e995)
    for (const { seen, status, news } of this.#cpus) {
      low = mix(low, news === 0 ? seen : ~seen)
      high = mix(high ^ STATUS_HASH[status], seen ^ 0x2545f491)
    }
    return (low >>> 0) * 0x200000 + (high & 0x1fffff)
  }

  /** Lets it happen. */
  apply(choice: Choice): void {
    const runner = this.#cpus[choice.cpu]!
    const { bus } = runner
    const { operation, at, value, expected } = bus
    let result = 0
    if (choice.kind === 'death') runner.status = 'dead'
    else if (choice.kind === 'timeout') result = WAIT_RESULT.timedOut
    else result = this.#perform(choice.cpu, runner)
    this.events?.push({ ...choice, access: { operation, at, value, expected }, result })
    if (choice.kind === 'timeout') runner.status = 'ready'
    if (runner.status === 'ready') this.#resume(choice.cpu, result)
    this.steps++
    this.#check('invariant', this.#setup.invariant)
  }

  /** Makes the access of a CPU; gives its result. A CPU that begins to sleep is not ready after it. */
  #perform(cpu: number, runner: Runner): number {
    const { memory } = this
    const { operation, at, value, expected } = runner.bus
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
        runner.status = 'waiting'
        return WAIT_RESULT.ok
      case 'notify':
        return this.#notify(at, value)
      case 'pause':
        if (runner.news === 0) runner.status = 'paused'
        runner.news = 0
        return 0
    }
  }

  #write(writer: number, at: number, value: number): void {
    const { memory } = this
    const old = memory[at]!
    memory[at] = value
    if (memory[at] === old) return
    this.#memoryHash ^= mix(at + 1, old) ^ mix(at + 1, memory[at])
    for (const [cpu, runner] of this.#cpus.entries()) {
      if (cpu === writer) continue
      if (runner.status === 'paused') this.#wake(cpu)
      else runner.news++
    }
  }

  #notify(at: number, count: number): number {
    let woken = 0
    for (const [cpu, { status, bus }] of this.#cpus.entries()) {
      if (status !== 'waiting' || bus.at !== at || woken >= count) continue
      this.#wake(cpu)
      woken++
    }
    return woken
  }

  #wake(cpu: number): void {
    this.#cpus[cpu]!.status = 'ready'
    this.#resume(cpu, WAIT_RESULT.ok)
  }

  /** Runs a program to its next access. */
  #resume(cpu: number, result: number): void {
    const runner = this.#cpus[cpu]!
    runner.seen = mix(runner.seen, result)
    try {
      if (runner.program.next(result).done === true) runner.status = 'ended'
    } catch (error) {
      runner.status = 'ended'
      const what = error instanceof Error ? error.message : String(error)
      this.failure ??= { kind: 'error', message: `CPU ${cpu} threw: ${what}` }
    }
  }

  #check(kind: 'invariant' | 'books', look: (() => string | undefined) | undefined): void {
    const message = look?.()
    if (message !== undefined) this.failure ??= { kind, message }
  }
}

const STATUS_HASH: Readonly<Record<Status, number>> = {
  ready: 1,
  waiting: 2,
  paused: 3,
  ended: 4,
  dead: 5,
}

/** Mixes a number into a 32-bit hash (the finalizer of MurmurHash3). */
function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ Math.imul(value, 0xcc9e2d51), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/**
 * One execution of a scenario under a schedule that somebody else chooses: which CPU makes the next
 * access, whose timed wait ends, who dies. Everything else follows from these choices.
 */

import { Bus, WAIT, WAIT_RESULT, type Access } from './access.ts'
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
/** Reads between two accesses after which a program counts as one that never comes back. */
const SIGHTINGS_MAX = 100_000

/** One CPU of the execution. */
interface Runner {
  /** What it wants to do next. */
  access: Access
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
  readonly #cpus: Runner[] = []
  readonly #stepsMax: number
  /** A hash of memory: exclusive-or of one for each word, so that a write costs two. */
  #memoryHash = 0
  /** Whose program runs now, -1 between two steps. */
  #running = -1
  /** What it has read since its last access. */
  #sightings = 0

  constructor(scenario: Scenario, record = false) {
    const memory = new Int32Array(scenario.words ?? 0)
    this.#scenario = scenario
    this.#stepsMax = scenario.stepsMax ?? STEPS_MAX
    this.events = record ? [] : undefined
    this.#setup = scenario.setup(memory, {
      saw: (value) => this.#saw(value),
      wrote: (at, old) => this.#changed(this.#running, at, old),
    })
    this.memory = this.#setup.memory ?? memory
    const runners = this.#setup.cpus.map((program): Runner => {
      const bus = new Bus()
      return { access: bus, program: program(bus), status: 'ready', seen: 1, news: 0 }
    })
    this.#cpus.push(...runners)
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
    this.#cpus.forEach(({ status, access }, cpu) => {
      const wait = status === 'waiting' ? access.value : undefined
      if (wait === WAIT.timed && this.#scenario.timeouts !== false) {
        choices.push({ kind: 'timeout', cpu })
      }
      if (status === 'paused' || (wait !== undefined && wait !== WAIT.idle)) asleep.push(cpu)
    })
    if (choices.length > 0) return choices
    if (asleep.length > 0) this.failure = this.#blame(asleep)
    else this.#check('books', this.#setup.atEnd)
    return []
  }

  /** Everybody sleeps: whose word has moved since was not told. */
  #blame(asleep: readonly number[]): Failure {
    const lost = asleep.some((cpu) => {
      const { status, access } = this.#cpus[cpu]!
      return status === 'waiting' && this.memory[access.at] !== access.expected
    })
    const who = asleep.map((cpu) => {
      const { status, access } = this.#cpus[cpu]!
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
    let low = mix(this.#memoryHash, mark)
    let high = mix(this.#memoryHash, mark ^ 0x5bd1e995)
    for (const { seen, status, news } of this.#cpus) {
      low = mix(low, news === 0 ? seen : ~seen)
      high = mix(high ^ STATUS_HASH[status], seen ^ 0x2545f491)
    }
    return (low >>> 0) * 0x200000 + (high & 0x1fffff)
  }

  /** The CPU that runs now has seen this without an access: a plain read. */
  #saw(value: number): void {
    const runner = this.#cpus[this.#running]
    if (runner === undefined) return
    runner.seen = mix(runner.seen, value)
    if (++this.#sightings > SIGHTINGS_MAX) throw new Error('it reads for ever, and yields nothing')
  }

  /** Lets it happen. */
  apply(choice: Choice): void {
    const runner = this.#cpus[choice.cpu]!
    const { operation, at, value, expected } = runner.access
    let result = 0
    if (choice.kind === 'death') this.#die(choice.cpu)
    else if (choice.kind === 'timeout') result = WAIT_RESULT.timedOut
    else result = this.#perform(choice.cpu, runner)
    this.events?.push({ ...choice, access: { operation, at, value, expected }, result })
    if (choice.kind === 'timeout') runner.status = 'ready'
    if (runner.status === 'ready') this.#resume(choice.cpu, result)
    this.steps++
    this.#check('invariant', this.#setup.invariant)
  }

  #die(cpu: number): void {
    this.#cpus[cpu]!.status = 'dead'
    this.#setup.onDeath?.(cpu)
  }

  /** Makes the access of a CPU; gives its result. A CPU that begins to sleep is not ready after it. */
  #perform(cpu: number, runner: Runner): number {
    const { memory } = this
    const { operation, at, value, expected } = runner.access
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
    if (memory[at] !== old) this.#changed(writer, at, old)
  }

  #changed(writer: number, at: number, old: number): void {
    this.#memoryHash ^= mix(at + 1, old) ^ mix(at + 1, this.memory[at]!)
    for (const [cpu, runner] of this.#cpus.entries()) {
      if (cpu === writer) continue
      if (runner.status === 'paused') this.#wake(cpu)
      else runner.news++
    }
  }

  #notify(at: number, count: number): number {
    let woken = 0
    for (const [cpu, { status, access }] of this.#cpus.entries()) {
      if (status !== 'waiting' || access.at !== at || woken >= count) continue
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
    const outer = this.#running
    this.#running = cpu
    this.#sightings = 0
    runner.seen = mix(runner.seen, result)
    try {
      const { done, value } = runner.program.next(result)
      if (done === true) runner.status = 'ended'
      else runner.access = value
    } catch (error) {
      runner.status = 'ended'
      const what = error instanceof Error ? error.message : String(error)
      this.failure ??= { kind: 'error', message: `CPU ${cpu} threw: ${what}` }
    }
    this.#running = outer
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

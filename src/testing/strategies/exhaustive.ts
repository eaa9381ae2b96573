/**
 * Every schedule, once for each state: depth first, with at most so many preemptions and deaths. A
 * state that was seen with no fewer of both left is not entered again: memory and what every CPU has
 * read determine what can follow. So schedules that differ only in the order of independent accesses
 * meet in one state and are explored once from there.
 */

import type { Choice, Execution } from '../execution.ts'
import { isPreemption, type Strategy } from '../strategy.ts'

/** The bounds. Iterative context bounding: Musuvathi and Qadeer, PLDI 2007. */
export interface ExhaustiveOptions {
  /** How often a CPU that could go on may be interrupted. Default: Infinity. */
  readonly preemptions?: number
  /** How many CPUs may die. Default: 1. */
  readonly deaths?: number
  /** When to give up, in states. Default: 5 million. */
  readonly statesMax?: number
}

/** A place in the schedule where there is more than one way on. */
interface Fork {
  readonly ways: readonly number[]
  next: number
}

const STATES_MAX = 5_000_000

/** Depth-first search. */
export class Exhaustive implements Strategy {
  readonly name = 'exhaustive'
  readonly #preemptionsMax: number
  readonly #deathsMax: number
  readonly #statesMax: number
  /** The forks of the present run, from the start. */
  readonly #forks: Fork[] = []
  /** For each state what was left when it was entered last: see `#left`. */
  readonly #seen = new Map<number, number>()
  #depth = 0
  #preemptions = 0
  #deaths = 0
  #started = false
  #gaveUp = false

  constructor(options: ExhaustiveOptions = {}) {
    this.#preemptionsMax = options.preemptions ?? Infinity
    this.#deathsMax = options.deaths ?? 1
    this.#statesMax = options.statesMax ?? STATES_MAX
  }

  get exhausted(): boolean {
    return !this.#gaveUp
  }

  nextRun(): boolean {
    if (this.#started) {
      // Back to the last fork that has a way left.
      for (let fork = this.#forks.at(-1); fork !== undefined; fork = this.#forks.at(-1)) {
        if (++fork.next < fork.ways.length) break
        this.#forks.pop()
      }
      if (this.#forks.length === 0) return false
    }
    if (this.#seen.size >= this.#statesMax) this.#gaveUp = true
    this.#started = true
    this.#depth = 0
    this.#preemptions = 0
    this.#deaths = 0
    return !this.#gaveUp
  }

  choose(execution: Execution, choices: readonly Choice[], last: number): number {
    let way = 0
    if (choices.length > 1) {
      const fork = this.#forks[this.#depth] ?? this.#newFork(execution, choices, last)
      if (fork === undefined) return -1
      this.#depth++
      way = fork.ways[fork.next]!
    }
    const choice = choices[way]!
    if (isPreemption(choice, choices, last)) this.#preemptions++
    if (choice.kind === 'death') this.#deaths++
    return way
  }

  #newFork(execution: Execution, choices: readonly Choice[], last: number): Fork | undefined {
    const left = this.#left()
    // What a state costs depends on who runs: to let another go on is a preemption or is none.
    const key = execution.key(this.#preemptionsMax === Infinity ? -1 : last)
    if ((this.#seen.get(key) ?? -1) >= left) return undefined
    this.#seen.set(key, left)
    const ways: number[] = []
    choices.forEach((choice, way) => {
      if (choice.kind === 'death' && this.#deaths >= this.#deathsMax) return
      if (isPreemption(choice, choices, last) && left <= 0) return
      ways.push(way)
    })
    // First whoever ran, last what is no step: in the first run nothing out of the ordinary happens.
    const rank = (way: number): number => {
      const { kind, cpu } = choices[way]!
      return kind !== 'step' ? 2 : cpu === last ? 0 : 1
    }
    ways.sort((a, b) => rank(a) - rank(b))
    const fork = { ways, next: 0 }
    this.#forks.push(fork)
    return fork
  }

  /** How many preemptions are left. Who has died is part of the state. */
  #left(): number {
    return this.#preemptionsMax - this.#preemptions
  }

  describe(): string {
    const preemptions =
      this.#preemptionsMax === Infinity ? 'any' : `at most ${this.#preemptionsMax}`
    return `${preemptions} preemptions, at most ${this.#deathsMax} deaths, ${this.#seen.size} states`
  }
}

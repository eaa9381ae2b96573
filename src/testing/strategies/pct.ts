/**
 * Probabilistic concurrency testing: each CPU has a random priority, the highest goes on, and at
 * `depth - 1` random moments whoever runs falls to the bottom. A fault that needs `depth` orderings is
 * found in one run with a chance of at least 1 / (cpus * steps ^ (depth - 1)). Burckhardt, Kothari,
 * Musuvathi, Nagarakatte, ASPLOS 2010.
 */

import type { Choice, Execution } from '../execution.ts'
import { countSteps, type Strategy } from '../strategy.ts'
import { seededRandom } from './random.ts'

/** How to draw. */
export interface PctOptions {
  readonly seed: number
  readonly runs: number
  /** How many orderings the fault needs. Default: 3. */
  readonly depth?: number
}

/** Schedules by priority. */
export class Pct implements Strategy {
  readonly name = 'pct'
  readonly exhausted = false
  readonly #seed: number
  readonly #runs: number
  readonly #depth: number
  /** The longest run so far: where the moments are drawn from. */
  #longest = 20
  #run = 0
  #random = seededRandom(0, 0)
  readonly #priorities: number[] = []
  #moments: number[] = []

  constructor(options: PctOptions) {
    this.#seed = options.seed
    this.#runs = options.runs
    this.#depth = options.depth ?? 3
  }

  nextRun(): boolean {
    this.#random = seededRandom(this.#seed, this.#run)
    this.#priorities.length = 0
    this.#moments = Array.from({ length: this.#depth - 1 }, () =>
      Math.floor(this.#random() * this.#longest),
    )
    return this.#run++ < this.#runs
  }

  choose(execution: Execution, choices: readonly Choice[]): number {
    this.#longest = Math.max(this.#longest, execution.steps)
    const best = this.#best(choices)
    const lowered = this.#moments.indexOf(execution.steps)
    if (lowered < 0) return best
    const { cpu } = choices[best]!
    // Below every priority that was drawn, and in order of falling.
    this.#priorities[cpu] = -1 - lowered
    // Or something else happens at this moment, if anything can.
    const steps = countSteps(choices)
    const others = choices.length - steps
    if (others === 0 || steps === 0 || this.#random() < 0.5) return this.#best(choices)
    return steps + Math.floor(this.#random() * others)
  }

  /** The highest of those who can go on; if nobody can, of those whose time may be over. */
  #best(choices: readonly Choice[]): number {
    let best = 0
    const count = countSteps(choices) || choices.length
    for (let way = 0; way < count; way++) {
      const { cpu } = choices[way]!
      this.#priorities[cpu] ??= this.#random()
      if (this.#priorities[cpu] > this.#priorities[choices[best]!.cpu]!) best = way
    }
    return best
  }

  describe(): string {
    return `seed ${this.#seed}, depth ${this.#depth}`
  }
}

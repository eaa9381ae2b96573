/** Schedules by chance, from a seed: for spaces that are too large to see whole. */

import type { Choice, Execution } from '../execution.ts'
import { countSteps, type Strategy } from '../strategy.ts'

/** Pseudo-random numbers from 0 to less than 1, the same everywhere (mulberry32). */
export function mulberry32(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

/** Numbers for run `run` of a seed. Runs of one seed are far from those of the next. */
export function seededRandom(seed: number, run: number): () => number {
  return mulberry32(Math.imul(seed, 0x9e3779b1) + run)
}

/** Each step with the same chance, and seldom something else. */
export class Random implements Strategy {
  readonly name = 'random'
  readonly exhausted = false
  readonly #seed: number
  readonly #runs: number
  #run = 0
  #random = seededRandom(0, 0)

  constructor(options: { readonly seed: number; readonly runs: number }) {
    this.#seed = options.seed
    this.#runs = options.runs
  }

  nextRun(): boolean {
    // Each run has a seed of its own: it can be had again without those before it.
    this.#random = seededRandom(this.#seed, this.#run)
    return this.#run++ < this.#runs
  }

  choose(_execution: Execution, choices: readonly Choice[]): number {
    const steps = countSteps(choices)
    // One run in two has an interrupt, a death or an early timeout somewhere in fifty steps.
    const happens = steps === 0 || (choices.length > steps && this.#random() < 0.01)
    const [from, count] = happens ? [steps, choices.length - steps] : [0, steps]
    return from + Math.floor(this.#random() * count)
  }

  describe(): string {
    return `seed ${this.#seed}`
  }
}

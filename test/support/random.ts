/** Pseudo-random numbers that a seed repeats. */

import { mulberry32 } from '../../src/testing/strategies/random.ts'

/** What one draws with such numbers. */
export class Dice {
  readonly #draw: () => number

  constructor(seed: number) {
    this.#draw = mulberry32(seed)
  }

  /** An integer from 0 to less than `end`. */
  below(end: number): number {
    return Math.floor(this.#draw() * end)
  }

  /** An integer from `least` to `most`. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1)
  }

  /** True with a chance from 0 to 1. */
  chance(chance: number): boolean {
    return this.#draw() < chance
  }

  /** One of them. */
  pick<T>(things: readonly T[]): T {
    return things[this.below(things.length)]!
  }

  /** One of them, by weight. */
  weighted<T extends { readonly weight: number }>(things: readonly T[]): T {
    let rest = this.#draw() * things.reduce((sum, { weight }) => sum + weight, 0)
    return things.find(({ weight }) => (rest -= weight) < 0) ?? things.at(-1)!
  }

  /** Some of the numbers below `end`, each with an even chance. */
  some(end: number): number[] {
    return Array.from({ length: end }, (_, n) => n).filter(() => this.chance(0.5))
  }

  /** A new seed. */
  seed(): number {
    return this.below(2 ** 31)
  }
}

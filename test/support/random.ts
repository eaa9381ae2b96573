/** Pseudo-random numbers that a seed repeats. */

/** mulberry32: numbers from 0 to less than 1. */
export function random(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

/** What one draws with such numbers. */
export class Dice {
  readonly #draw: () => number

  constructor(seed: number) {
    this.#draw = random(seed)
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

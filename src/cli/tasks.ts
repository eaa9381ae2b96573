/** The bundled tasks module: ordinary work, shared with every CPU as a user's own module would. */

import { sharedFunction, thisMachine } from '../index.ts'

/** A range of numbers, divided among CPUs. */
export interface Range {
  readonly below: number
  /** How many CPUs share the range; each takes the part of its own number. */
  readonly shares: number
}

/** The numbers below `below` that are prime, and at least `from`. */
export function primesBetween(from: number, below: number): number {
  let count = 0
  for (let candidate = Math.max(2, from); candidate < below; candidate++) {
    if (isPrime(candidate)) count++
  }
  return count
}

function isPrime(candidate: number): boolean {
  for (let divisor = 2; divisor * divisor <= candidate; divisor++) {
    if (candidate % divisor === 0) return false
  }
  return true
}

/** Counts the primes in the calling CPU's share of a range. */
export const countPrimes = sharedFunction('countPrimes', ({ below, shares }: Range): number => {
  const share = thisMachine().cpu.id
  const edge = (index: number): number => Math.floor((below * index) / shares)
  return primesBetween(edge(share), edge(share + 1))
})

/** Counts the words of a text. */
export const countWords = sharedFunction(
  'countWords',
  (text: string): number => text.split(/\s+/).filter((word) => word !== '').length,
)

/** A configuration that every thread keeps a copy of. */
export interface Config {
  readonly version: number
  readonly logLevel: string
}

let config: Config = { version: 1, logLevel: 'info' }

/** Replaces this thread's configuration; gives the version that it had before. */
export const reload = sharedFunction('reload', (next: Config): number => {
  const { version } = config
  config = next
  return version
})

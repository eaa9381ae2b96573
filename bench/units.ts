/** The small change of everything else: single operations, so that a path can be added up. */

import { plan, type Group } from './support/group.ts'
import { compare, type Contender } from './support/measure.ts'
import { Scratch, WORD } from './support/scratch.ts'

/** Operations per sample. */
const TURNS = 10_000

export const group: Group = {
  about: 'Single operations on one thread, with the loop around them. What is counted in a path.',
  measure: (pace) => compare(operations(), plan(pace, 60, 5, 200)),
}

/** Each in a loop of its own: a shared loop would call them, and measure the call. */
function operations(): Contender[] {
  const { words } = new Scratch()
  const at = WORD.bell
  return [
    repeat('an empty turn of the loop', () => {
      let sum = 0
      for (let i = 0; i < TURNS; i++) sum ^= i
      return sum
    }),
    repeat('a plain read of a shared word', () => {
      let sum = 0
      for (let i = 0; i < TURNS; i++) sum = (sum + words[at]!) ^ i
      return sum
    }),
    repeat('Atomics.load', () => {
      let sum = 0
      for (let i = 0; i < TURNS; i++) sum = (sum + Atomics.load(words, at)) ^ i
      return sum
    }),
    repeat('Atomics.store', () => {
      for (let i = 0; i < TURNS; i++) Atomics.store(words, at, i)
      return words[at]!
    }),
    repeat('Atomics.or', () => {
      let sum = 0
      for (let i = 0; i < TURNS; i++) sum ^= Atomics.or(words, at, i)
      return sum
    }),
    repeat('Atomics.exchange', () => {
      let sum = 0
      for (let i = 0; i < TURNS; i++) sum ^= Atomics.exchange(words, at, i)
      return sum
    }),
    repeat('Atomics.compareExchange', () => {
      let sum = 0
      for (let i = 0; i < TURNS; i++) sum ^= Atomics.compareExchange(words, at, i, i + 1)
      return sum
    }),
    repeat('Atomics.notify, nobody waits', () => {
      let sum = 0
      for (let i = 0; i < TURNS; i++) sum ^= Atomics.notify(words, at)
      return sum
    }),
    repeat('performance.now()', () => {
      let sum = 0
      for (let i = 0; i < TURNS; i++) sum += performance.now()
      return sum
    }),
  ]
}

/** What the loops computed: kept, so that no compiler finds them useless. */
let kept = 0

function repeat(name: string, loop: () => number): Contender {
  return {
    name,
    take: (count) => {
      const times: number[] = []
      for (let sample = 0; sample < count; sample++) {
        const start = performance.now()
        kept += loop()
        times.push(((performance.now() - start) * 1e6) / TURNS)
      }
      if (Number.isNaN(kept)) throw new Error('a loop computed nothing')
      return times
    },
  }
}

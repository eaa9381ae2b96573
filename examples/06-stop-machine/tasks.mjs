// Readers that always look at two numbers, which must be equal: two halves of one thing.

import { sharedFunction, thisMachine } from 'interprocessor'

const LOOKS_PER_TURN = 1000
let differences = 0
let watching = false

/** Looks until it is told to stop. It takes interrupts at each poll: there it can be stopped. */
export const watch = sharedFunction('watch', (pair) => {
  const { cpu } = thisMachine()
  const look = () => {
    for (let i = 0; i < LOOKS_PER_TURN; i++) {
      if (Atomics.load(pair, 0) !== Atomics.load(pair, 1)) differences++
      cpu.poll()
    }
    if (watching) setImmediate(look)
  }
  watching = true
  setImmediate(look)
})

/** How often the two were different since the last time. */
export const takeDifferences = sharedFunction('takeDifferences', () => {
  const seen = differences
  differences = 0
  return seen
})

export const stopWatching = sharedFunction('stopWatching', () => {
  watching = false
})

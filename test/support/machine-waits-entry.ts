/** Counts the asynchronous waits of each thread that imports it. It must come before any is armed. */

import { sharedFunction } from '../../src/index.ts'
import './machine-tasks.ts'

let pending = 0
let most = 0
const { waitAsync } = Atomics

Atomics.waitAsync = ((...args: Parameters<typeof waitAsync>) => {
  const result = waitAsync(...args)
  if (result.async) {
    pending++
    most = Math.max(most, pending)
    void result.value.then(() => pending--)
  }
  return result
}) as typeof waitAsync

/** How many are pending now, and how many were at most. */
export const countWaits = sharedFunction('machine.countWaits', () => ({ pending, most }))

/** Forgets the most there were, on this thread. */
export function forgetMost(): void {
  most = pending
}

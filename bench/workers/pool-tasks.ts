/** What the pools of a benchmark run. A pool that wants a file with exports is given this one. */

import { isMainThread } from 'node:worker_threads'
import { pinThread } from '../support/pin.ts'
import { Scratch, spinFor, WORD } from '../support/scratch.ts'

// Pools of any library: their threads on one processor, and whoever asks on another.
if (!isMainThread) pinThread(1)

/** What a task that keeps its thread busy is told. */
export interface Busy {
  readonly buffer: SharedArrayBuffer
  readonly ms: number
}

export const increment = (value: number): number => value + 1
export const echo = (value: unknown): unknown => value

/** Says that it runs, then computes. */
export function compute({ buffer, ms }: Busy): void {
  arrive(buffer)
  for (const until = performance.now() + ms; performance.now() < until;) spinFor(20)
}

/** Says that it runs, and does so for ever. */
export function runAway({ buffer }: Busy): never {
  arrive(buffer)
  for (;;);
}

/** Counts a task that has begun: the measuring thread waits for it. */
export function arrive(buffer: SharedArrayBuffer): void {
  const { words } = new Scratch(buffer)
  Atomics.add(words, WORD.arrived, 1)
  Atomics.notify(words, WORD.arrived)
}

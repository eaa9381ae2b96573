/** What the tests of the pool run on its CPUs. */

import { sharedFunction, thisMachine } from '../../src/index.ts'
import { add, load, notifyAll, or, store, wait } from '../../src/hardware/memory.ts'

/** Shared words by which a test and its tasks arrange who comes first. */
export type Words = Int32Array<SharedArrayBuffer>

/** Makes them. */
export function makeWords(count = 16): Words {
  return new Int32Array(new SharedArrayBuffer(count * Int32Array.BYTES_PER_ELEMENT))
}

/** Gives what it is given. */
export const echo = sharedFunction('pool.echo', (value: unknown) => value)

/** Gives the CPU that runs it. */
export const where = sharedFunction('pool.where', () => thisMachine().cpu.id)

/** Throws. */
export const fails = sharedFunction('pool.fails', (message: string): void => {
  throw Object.assign(new RangeError(message), { detail: 7 })
})

/** Gives what cannot be cloned. */
export const uncloneable = sharedFunction('pool.uncloneable', () => () => 1)

/** Waits under the event loop. */
export const sleeps = sharedFunction('pool.sleeps', async (ms: number) => {
  await new Promise((resolve) => setTimeout(resolve, ms))
  return thisMachine().cpu.id
})

/** Says in word 0 that it runs, and polls until word 1 lets it go. */
export const polls = sharedFunction('pool.polls', (words: Words) => {
  const { cpu } = thisMachine()
  add(words, 0, 1)
  notifyAll(words, 0)
  while (load(words, 1) === 0) cpu.poll()
  return cpu.id
})

/** The same without a safepoint. */
export const blocks = sharedFunction('pool.blocks', (words: Words) => {
  add(words, 0, 1)
  notifyAll(words, 0)
  wait(words, 1, 0, Infinity)
  return thisMachine().cpu.id
})

/** Appends a number to a list whose length is in word 2, and lets `polls` go if it is the last. */
export const notes = sharedFunction(
  'pool.notes',
  ({ words, mark, last }: { words: Words; mark: number; last?: boolean }) => {
    store(words, 4 + add(words, 2, 1), mark)
    if (last === true) or(words, 1, 1)
    return mark
  },
)

/** Ends its thread. */
export const dies = sharedFunction('pool.dies', (): void => process.exit(3))

/** Resolves when word 0 has come to `count`: so many tasks run. */
export async function begun(words: Words, count = 1): Promise<void> {
  for (let seen = load(words, 0); seen < count; seen = load(words, 0)) {
    const waiting = Atomics.waitAsync(words, 0, seen)
    // Without a limit of its own: the test has one.
    const keeper = setTimeout(() => undefined, 60_000)
    if (waiting.async) await waiting.value
    clearTimeout(keeper)
  }
}

/** Lets `polls` and `blocks` go. */
export function release(words: Words): void {
  store(words, 1, 1)
  notifyAll(words, 1)
}

/** What the tests of the pool run on its CPUs. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createPool, sharedFunction, thisMachine, thisTask, type Pool } from '../../src/index.ts'
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

/** Runs for ever; word 0 says that it runs, word 3 that its `finally` has run. */
export const runsAway = sharedFunction('pool.runsAway', (words: Words): void => {
  try {
    store(words, 0, 1)
    notifyAll(words, 0)
    for (let i = 0; ; i++) if (i === -1) return
  } finally {
    store(words, 3, 1)
  }
})

/** The same with safepoints. */
export const pollsForEver = sharedFunction('pool.pollsForEver', (words: Words): void => {
  const { cpu } = thisMachine()
  try {
    store(words, 0, 1)
    notifyAll(words, 0)
    for (;;) cpu.poll()
  } finally {
    store(words, 3, 1)
  }
})

/** Looks at its signal, and ends when that says so. */
export const heeds = sharedFunction('pool.heeds', (words: Words): string => {
  const { signal } = thisTask()
  store(words, 0, 1)
  notifyAll(words, 0)
  while (!signal.aborted);
  store(words, 3, 1)
  return 'ended by itself'
})

/** Asynchronous, and ends when its signal fires. */
export const awaitsSignal = sharedFunction('pool.awaitsSignal', async (words: Words) => {
  const { signal } = thisTask()
  store(words, 0, 1)
  notifyAll(words, 0)
  const keeper = setInterval(() => undefined, 1000)
  await new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(undefined))
  })
  clearInterval(keeper)
  store(words, 3, 1)
  signal.throwIfAborted()
})

/** Asynchronous, and never ends. */
export const neverEnds = sharedFunction('pool.neverEnds', async (words: Words) => {
  store(words, 0, 1)
  notifyAll(words, 0)
  await new Promise(() => undefined)
})

/** Asynchronous: says in word 0 that it runs, and ends when word 1 lets it go. */
export const lasts = sharedFunction('pool.lasts', async (words: Words) => {
  store(words, 0, 1)
  notifyAll(words, 0)
  while (load(words, 1) === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  return thisMachine().cpu.id
})

/** Keeps its CPU busy for so many milliseconds. */
export const burns = sharedFunction('pool.burns', (ms: number): void => {
  for (const until = performance.now() + ms; performance.now() < until;);
})

/** Yields so many times, noting each; ends with how many. */
export const yields = sharedFunction(
  'pool.yields',
  function* ({
    words,
    mark,
    count,
  }: {
    words: Words
    mark: number
    count: number
  }): Generator<undefined, number> {
    try {
      for (let i = 0; i < count; i++) {
        store(words, 4 + add(words, 2, 1), mark)
        add(words, 0, 1)
        notifyAll(words, 0)
        yield
      }
      return count
    } finally {
      add(words, 3, 1)
    }
  },
)

/** Reports how far it is. */
export const reports = sharedFunction('pool.reports', (count: number): number => {
  for (let i = 1; i <= count; i++) thisTask().report({ done: i })
  return count
})

/** Declared safe in the middle of others. */
export const safe = sharedFunction('pool.safe', (words: Words) => store(words, 1, 1), {
  interruptSafe: true,
})

/** Runs until word 1 is set, without a safepoint. */
export const spins = sharedFunction('pool.spins', (words: Words) => {
  add(words, 0, 1)
  notifyAll(words, 0)
  while (load(words, 1) === 0);
  return thisMachine().cpu.id
})

let warmth = 0
/** What every CPU sets up. */
export const warms = sharedFunction('pool.warms', () => void warmth++)
/** And takes down. */
export const cools = sharedFunction('pool.cools', () => void warmth--)
/** How warm the CPU is that runs it. */
export const warm = sharedFunction('pool.warm', () => warmth)

/** Exported as any function: for `pool.module`. */
export function adds(a: number, b: number): number {
  return a + b
}

/** The same, asynchronous. */
export async function addsLater(a: number, b: number): Promise<number> {
  await Promise.resolve()
  return a + b
}

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

let pool: Pool | undefined
/** Submits so many tasks of its own; gives what they gave. */
export const submits = sharedFunction('pool.submits', async (count: number) => {
  pool ??= createPool(thisMachine())
  return Promise.all(Array.from({ length: count }, (_, i) => pool!.run(echo, i)))
})

/** What this thread's heap holds after a collection, in bytes. */
export const heapUsed = sharedFunction('pool.heapUsed', collectedHeap)

/** The same, of whoever calls it. */
export function collectedHeap(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  return process.memoryUsage().heapUsed
}

/** What every thread of a test of the development mode imports: handlers that break a rule each. */

import { sharedFunction, thisMachine, type IrqHandler } from '../../src/index.ts'
import './forced-tasks.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask } from './machine-tasks.ts'

/** The lock of the wrong handlers: a word of the board. 0: free. */
export const LOCK = WORD.free
const BUDGET_MS = 5

const lockWord = (): Int32Array => board().words

/** Where each way to break a rule stands under its name. */
const sins = {
  async: () => Promise.resolve(1),
  blocks: () => {
    Atomics.wait(lockWord(), WORD.free + 1, 0, 1)
  },
  'spins by exchange': () => {
    while (Atomics.exchange(lockWord(), LOCK, 1) !== 0);
  },
  'spins by compareExchange': () => {
    while (Atomics.compareExchange(lockWord(), LOCK, 0, 1) !== 0);
  },
  'spins by load': () => {
    while (Atomics.load(lockWord(), LOCK) !== 0);
  },
  'waits for the lock': () => {
    while (Atomics.compareExchange(lockWord(), LOCK, 0, 1) !== 0) {
      Atomics.wait(lockWord(), LOCK, 1)
    }
  },
  slow: () => {
    for (const end = performance.now() + 2 * BUDGET_MS; performance.now() < end;);
  },
  timer: () => void setTimeout(() => undefined, 1),
  // And what is no sin.
  tries: () => Atomics.compareExchange(lockWord(), LOCK, 0, 1),
  'takes a free lock': () => {
    while (Atomics.compareExchange(lockWord(), LOCK + 2, 0, 1) !== 0);
    Atomics.store(lockWord(), LOCK + 2, 0)
  },
  'waits until another lets go': () => {
    board().add(WORD.entered)
    while (Atomics.compareExchange(lockWord(), LOCK, 0, 1) !== 0);
    Atomics.store(lockWord(), LOCK, 0)
  },
  nothing: () => undefined,
} as const

/** A name of what a handler can do. */
export type Sin = keyof typeof sins

for (const [name, run] of Object.entries<() => unknown>(sins)) {
  sharedFunction(`sin.${name}`, run, { interruptSafe: true })
}

/** Puts one behind a vector, and one behind the NMI. */
export const requestSin = sharedFunction(
  'checks.requestSin',
  ({ vector, sin }: { vector: number; sin: Sin }) => {
    const machine = thisMachine()
    const handler = sins[sin] as IrqHandler & (() => void)
    machine.requestIrq(vector, sin, handler, { interruptSafe: true })
    machine.unregisterNmiHandler('sin')
    machine.registerNmiHandler('sin', handler)
  },
)

/** Takes the lock, and stays in a loop with it until told. */
export const holdLock = defineTask('checks.holdLock', function holdLock() {
  while (Atomics.compareExchange(lockWord(), LOCK, 0, 1) !== 0);
  board().add(WORD.entered)
  while (board().get(WORD.release) === 0);
  Atomics.store(lockWord(), LOCK, 0)
})

/** In a loop without a lock. */
export const justLoop = defineTask('checks.justLoop', () => {
  board().add(WORD.entered)
  while (board().get(WORD.release) === 0);
})

/** Takes the lock in this thread and lets go of it as soon as somebody wants it. */
export const holdLockBriefly = defineTask('checks.holdLockBriefly', () => {
  while (Atomics.compareExchange(lockWord(), LOCK, 0, 1) !== 0);
  board().add(WORD.done)
  board().block(WORD.entered)
  Atomics.store(lockWord(), LOCK, 0)
})

/** Collects what this thread is told; gives it when asked again. */
const told: object[] = []
export const listen = sharedFunction('checks.listen', () => {
  thisMachine().on('violation', (violation) => void told.push(violation))
})
export const heard = sharedFunction('checks.heard', () => told.splice(0))

/** Whether anything of this thread is replaced. */
export const replaced = sharedFunction('checks.replaced', () =>
  [...Object.getOwnPropertyNames(Atomics)]
    .filter((name) => {
      const operation: unknown = Reflect.get(Atomics, name)
      return typeof operation === 'function' && !/native code/.test(String(operation))
    })
    .concat(/native code|validateFunction/.test(String(setTimeout)) ? [] : ['setTimeout']),
)

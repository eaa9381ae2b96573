/** Threads that end badly, and what they hold when they do. */

import { sharedFunction, thisMachine } from '../../src/index.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask, echo } from './machine-tasks.ts'

/** The code that `process.exit` gets. */
export const EXIT_CODE = 7

/** How a thread ends by itself. */
export type Ending = 'exit' | 'throw' | 'out of memory'

/** Ends the calling thread, or sees to it that it ends. */
function end(how: Ending): void {
  if (how === 'exit') process.exit(EXIT_CODE)
  if (how === 'throw') {
    setImmediate(() => {
      throw new RangeError('nobody catches this')
    })
    return
  }
  const eaten: unknown[] = []
  for (;;) eaten.push(Array.from({ length: 10_000 }, (_, i) => ({ i })))
}

/** Ends one thread in the middle of a handler; on all others gives the CPU's number. */
export const endInHandler = sharedFunction(
  'machine.endInHandler',
  ({ cpu, how }: { cpu: number; how: Ending }) => {
    const { id } = thisMachine().cpu
    if (id === cpu) end(how)
    return id
  },
)

/** Ends a thread that does nothing else. */
export const endIdle = sharedFunction('machine.endIdle', (how: Ending) => {
  setImmediate(() => end(how))
})

/** Interrupts off until the board says `release`. */
export const deaf = defineTask('deaf', () => {
  const { cpu } = thisMachine()
  cpu.localIrqDisable()
  board().add(WORD.entered)
  board().block(WORD.release)
  cpu.localIrqEnable()
})

/** A long synchronous section with interrupts on, and no safepoint in it. */
export const busy = defineTask('busy', () => {
  board().add(WORD.entered)
  board().block(WORD.release)
})

/** Raises a softirq, which runs when this very interrupt ends. */
export const softirqOnce = sharedFunction('machine.softirqOnce', () => {
  const machine = thisMachine()
  machine.openSoftirq(11, () => undefined)
  machine.raiseSoftirq(11)
})

/** Makes a call and says on the board that it is out; waits for the answer. */
export const callOther = defineTask(
  'callOther',
  async ({
    target,
    name,
    info,
    blocking,
    timeoutMs = 60_000,
  }: {
    target: number
    name: string
    info?: unknown
    blocking?: boolean
    timeoutMs?: number
  }) => {
    const machine = thisMachine()
    const options = { timeoutMs }
    if (blocking === true) return machine.smpCallFunctionSingleSync(target, name, info, options)
    const call = machine.smpCallFunctionSingle(target, name, info, options)
    board().add(WORD.sent)
    return await call
  },
)

/** Blocks in a call to another CPU; once it is settled, lets whoever is held go. Gives the code. */
export const callThenRelease = defineTask(
  'callThenRelease',
  ({ target, name }: { target: number; name: string }) => {
    try {
      return thisMachine().smpCallFunctionSingleSync(target, name)
    } catch (error) {
      return (error as { code: unknown }).code
    } finally {
      board().set(WORD.release, 1)
    }
  },
)

/** Stays in the handler until the thread is ended: the board lets nobody go here. */
export const deafHold = sharedFunction('machine.deafHold', () => {
  board().add(WORD.entered)
  board().block(WORD.free)
})

/** Holds, and then takes no interrupt of any class until the board says so. */
export const holdThenMask = sharedFunction('machine.holdThenMask', () => {
  const { apic } = thisMachine().cpu
  board().add(WORD.entered)
  board().block(WORD.release)
  apic.taskPriority = 15
  // The event loop turns: whoever asked for this function has its answer, or would have.
  const timer = setInterval(() => {
    board().set(WORD.done, 1)
    if (board().get(WORD.free) === 0) return
    clearInterval(timer)
    apic.taskPriority = 0
    thisMachine().cpu.poll()
  }, 1)
})

/** Calls a CPU many times at once: whatever slots this CPU has, it uses all of them. */
export const callManyTimes = defineTask(
  'callManyTimes',
  async ({ target, times }: { target: number; times: number }) => {
    const machine = thisMachine()
    const calls = Array.from({ length: times }, (_, n) =>
      machine.smpCallFunctionSingle(target, echo, n),
    )
    return (await Promise.all(calls)).every((answer, n) => answer === n)
  },
)

/** The same with CPU 0. */
export const callMain = defineTask('callMain', (times: number) =>
  callManyTimes.run({ target: 0, times }),
)

/** The address space of the tests, and an address in it. */
export const SPACE = 'machine.space'
export const ADDRESS = 0x1000

/** Reads a translation, so that flushes must ask this CPU. */
export const useSpace = sharedFunction('machine.useSpace', () => {
  const space = thisMachine().addressSpace(SPACE)
  return space.translate(ADDRESS, () => board().get(WORD.counted))
})

/** Whether this CPU has a copy of the translation. */
export const holdsTranslation = sharedFunction('machine.holdsTranslation', () =>
  thisMachine().addressSpace(SPACE).holds(ADDRESS),
)

/** Flushes the translation everywhere. */
export const flushSpace = defineTask('flushSpace', async () => {
  const space = thisMachine().addressSpace(SPACE)
  board().add(WORD.sent)
  await space.flushTlbPage(ADDRESS)
})

/** Stops the machine; the thread of one CPU ends in the middle of it. */
export const endWhileStopped = defineTask('endWhileStopped', async (cpu: number) => {
  const machine = thisMachine()
  const cpus = [cpu]
  await machine.stopMachine('machine.endInHandler', { cpu, how: 'exit' }, { cpus })
})

/**
 * What every thread of a test of forced entry imports: states in which a thread does not look up, each
 * of which ends when an NMI has come.
 */

import { readFileSync } from 'node:fs'
import { sharedFunction, thisMachine } from '../../src/index.ts'
import { compute, numbers } from './endless.ts'
import { deadline, ENGINE_STATES, isOver, releaseWasm } from './forced-states.ts'
import { WORD } from './machine-board.ts'
import { board, defineTask } from './machine-tasks.ts'

/** How many NMIs the handler of each CPU has seen: this word and those after it. */
export const NMIS = WORD.free

/** Says on the board that an NMI has come, and releases whoever waits for that. */
export const watchNmis = sharedFunction('forced.watchNmis', () => {
  const machine = thisMachine()
  machine.unregisterNmiHandler('forced test')
  machine.registerNmiHandler('forced test', () => {
    board().add(NMIS + machine.cpu.id)
    board().set(WORD.release, 1)
    releaseWasm()
  })
})

/** Ways not to look up. Each begins by saying so, and lasts until an NMI has come. */
export const STATES = {
  ...ENGINE_STATES,
  'in a loop': () => {
    const check = deadline()
    board().add(WORD.entered)
    while (!isOver()) check()
  },
  'in an optimised loop': () => {
    const check = deadline()
    for (let i = 0; i < 100; i++) compute(10_000)
    board().add(WORD.entered)
    for (; !isOver(); check()) compute(20_000_000)
  },
  'at the end of its stack, again and again': () => {
    const check = deadline()
    const dive = (): number => 1 + dive()
    board().add(WORD.entered)
    for (; !isOver(); check()) {
      try {
        dive()
      } catch {
        // There was no room for one call more.
      }
    }
  },
  'in a generator': () => {
    const check = deadline()
    board().add(WORD.entered)
    for (const i of numbers()) {
      if (i % 1000 === 0) check()
      if (isOver()) return
    }
  },
  'in Atomics.wait': () => {
    board().add(WORD.entered)
    board().block(WORD.release)
  },
  'in its microtasks': async () => {
    const check = deadline()
    board().add(WORD.entered)
    for (; !isOver(); await Promise.resolve()) check()
  },
  'in process.nextTick': () =>
    new Promise<void>((resolve) => {
      board().add(WORD.entered)
      const tick = (): void => {
        if (isOver()) resolve()
        else process.nextTick(tick)
      }
      tick()
    }),
  'in a loop, interrupts off': () => {
    const { cpu } = thisMachine()
    const check = deadline()
    cpu.localIrqDisable()
    board().add(WORD.entered)
    try {
      while (!isOver()) check()
    } finally {
      cpu.localIrqEnable()
    }
  },
  'in its event loop, which is busy': () =>
    new Promise<void>((resolve) => {
      board().add(WORD.entered)
      const turn = (): void => {
        if (isOver()) resolve()
        else setImmediate(turn)
      }
      turn()
    }),
  idle: () =>
    new Promise<void>((resolve) => {
      board().add(WORD.entered)
      const look = (): void => {
        if (isOver()) resolve()
        else setTimeout(look, 20)
      }
      look()
    }),
} satisfies Record<string, () => unknown>

/** A state by name. */
export type StateName = keyof typeof STATES

/** Brings a CPU into a state; ends when an NMI has come. */
export const stay = defineTask('forced.stay', (state: StateName) => STATES[state]())

/** Sends an NMI once so many threads are in their states. */
export const sendWhenEntered = defineTask(
  'forced.sendWhenEntered',
  ({ target, entered }: { target: number; entered: number }) => {
    board().block(WORD.entered, entered)
    thisMachine().sendNmi([target])
  },
)

/** A handler that is in the way: it lasts until an NMI has come. */
export const holdHandler = sharedFunction('forced.holdHandler', () => {
  const check = deadline()
  board().add(WORD.entered)
  while (!isOver()) check()
})

/** Sends ten NMIs to this CPU from its first NMI handler. */
export const tenFromInside = sharedFunction('forced.tenFromInside', () => {
  const machine = thisMachine()
  let runs = 0
  machine.registerNmiHandler('ten', () => {
    if (runs++ === 0) for (let i = 0; i < 10; i++) machine.sendNmi([machine.cpu.id])
    board().add(WORD.done)
  })
})

/** From now on an NMI does something here that does not return. */
export const hang = sharedFunction('forced.hang', (how: 'loop' | 'exit') => {
  thisMachine().registerNmiHandler('hang', () => {
    board().add(WORD.done)
    if (how === 'exit') process.exit(3)
    for (;;);
  })
})

/** Loops for ever, from the next turn on. */
export const startLoop = sharedFunction('forced.startLoop', () => {
  setImmediate(() => {
    board().add(WORD.entered)
    for (;;);
  })
})

/**
 * Ends its thread from the next turn on, and stays in two handlers of that: in one before the CPU has left
 * its machine, until an NMI has come, and in one after that, until told to go on.
 */
export const MAY_END = WORD.free + 23
export const waitInExit = sharedFunction('forced.waitInExit', () => {
  setImmediate(() => {
    process.prependOnceListener('exit', () => {
      const check = deadline()
      board().add(WORD.entered)
      while (!isOver()) check()
    })
    process.once('exit', () => {
      board().add(WORD.done)
      board().block(MAY_END)
    })
    process.exit()
  })
})

/** Stays where a debugger has stopped it, for as long as that wants. */
export const stopInDebugger = defineTask('forced.stopInDebugger', function stopInDebugger() {
  // oxlint-disable-next-line no-debugger -- it is this that is tested
  debugger
  board().add(WORD.done)
})

/** Sends an NMI from the next turn on. */
export const sendSoon = sharedFunction('forced.sendSoon', (target: number) => {
  setImmediate(() => thisMachine().sendNmi([target]))
})

/**
 * Out of such a loop V8 leaves the look for interrupts, in Node 24 and later. A negative count is one of
 * minutes.
 */
function looseLoop(rounds: number): number {
  let sum = 0
  for (let rest = rounds; rest !== 0; rest = (rest - 1) | 0) {
    // oxlint-disable-next-line unicorn/no-new-array -- it is this that V8 stumbles over
    const list = new Array(40)
    sum = (sum + list.length) | 0
  }
  return sum
}

/** Runs a loop that never looks, for ever, from the next turn on. */
export const skipLooks = sharedFunction('forced.skipLooks', () => {
  setImmediate(() => {
    for (let i = 0; i < 200; i++) looseLoop(10_000)
    board().add(WORD.entered)
    looseLoop(-1)
  })
})

/** What the CPU that runs it says of forced entry. */
export const capabilities = sharedFunction('forced.capabilities', () =>
  JSON.stringify(thisMachine().capabilities),
)

/** What forced entry has put into the global object of the thread that runs this. */
export const bindings = sharedFunction('forced.bindings', () =>
  Object.getOwnPropertyNames(globalThis).filter((name) => name.startsWith('interprocessor')),
)

/** Releases whoever is in a state, from wherever it is run; gives what it was given. */
export const release = sharedFunction(
  'forced.release',
  (value: unknown) => {
    board().set(WORD.release, 1)
    return value
  },
  { interruptSafe: true },
)

/** The same, not declared safe. */
export const releaseUnsafely = sharedFunction('forced.releaseUnsafely', () => {
  board().set(WORD.release, 1)
})

/** Counts and gives back, interrupt-safe. */
export const countSafely = sharedFunction(
  'forced.countSafely',
  (value: unknown) => {
    board().add(WORD.counted)
    return value
  },
  { interruptSafe: true },
)

/** Handlers of two vectors that count on the board, one of them declared safe; and a scheduler. */
export const VECTORS = { safe: 0x61, unsafe: 0x41 } as const
export const COUNTS = { safe: WORD.free + 20, unsafe: WORD.free + 21, schedule: WORD.free + 22 }
export const requestVectors = sharedFunction(
  'forced.requestVectors',
  ({ safeSchedule }: { safeSchedule: boolean }) => {
    const machine = thisMachine()
    const handler = (word: number) => (): void => board().add(word)
    machine.requestIrq(VECTORS.safe, 'safe', handler(COUNTS.safe), { interruptSafe: true })
    machine.requestIrq(VECTORS.unsafe, 'unsafe', handler(COUNTS.unsafe))
    machine.onSchedule(handler(COUNTS.schedule), { interruptSafe: safeSchedule })
  },
)

/** Stays in a loop until a word of the board says so; then takes what is pending. */
export const loopUntil = defineTask('forced.loopUntil', (word: number) => {
  const check = deadline()
  board().add(WORD.entered)
  while (board().get(word) === 0) check()
  thisMachine().cpu.poll()
})

/** Caches a translation, then stays in a loop until the cache has lost it. */
export const loopUntilFlushed = defineTask('forced.loopUntilFlushed', () => {
  const check = deadline()
  const space = thisMachine().addressSpace('forced')
  space.translate(7, () => 'old')
  board().add(WORD.entered)
  while (space.holds(7)) check()
})

/** Does everything that the library has for itself, again and again, until told to stop. */
export const callWhileInterrupted = defineTask(
  'forced.callWhileInterrupted',
  async ({ target, word }: { target: number; word: number }) => {
    const machine = thisMachine()
    const space = machine.addressSpace('forced')
    let rounds = 0
    board().add(WORD.entered)
    for (; board().get(WORD.release) === 0; rounds++) {
      const value = { rounds, text: 'x'.repeat(rounds % 900), list: [rounds, [rounds]] }
      const got = machine.smpCallFunctionSingleSync(target, 'machine.echo', value) as typeof value
      if (got.rounds !== rounds || got.text.length !== rounds % 900)
        throw new Error('a wrong answer')
      const date = await machine.smpCallFunctionSingle(target, 'machine.echo', new Date(rounds))
      if ((date as Date).getTime() !== rounds) throw new Error('a wrong answer by port')
      const flags = machine.cpu.localIrqSave()
      machine.sendIpiSelf(VECTORS.unsafe)
      machine.cpu.localIrqRestore(flags)
      machine.sendIpiMask([target], VECTORS.unsafe)
      space.translate(rounds % 20, () => rounds)
      if (rounds % 16 === 0) await space.flushTlbMm()
    }
    board().set(word, rounds)
    return rounds
  },
)

/** Sends a value that takes its time to be read: it waits in the middle of it. */
export const sendSlowValue = defineTask('forced.sendSlowValue', (target: number) => {
  const check = deadline()
  const value = {
    first: 'first',
    get slow() {
      board().add(WORD.entered)
      while (!isOver()) check()
      return 'slow'
    },
    last: ['last'],
  }
  return thisMachine().smpCallFunctionSingle(target, 'machine.echo', value)
})

/** What a backtrace is to find. */
function innermostLoop(): void {
  const check = deadline()
  while (board().get(WORD.release) === 0) check()
}

function outerLoop(): void {
  board().add(WORD.entered)
  innermostLoop()
}

export const namedLoop = defineTask('forced.namedLoop', () => outerLoop())

export const namedLoopOff = defineTask('forced.namedLoopOff', () => {
  const { cpu } = thisMachine()
  cpu.localIrqDisable()
  try {
    outerLoop()
  } finally {
    cpu.localIrqEnable()
  }
})

export const namedWait = defineTask('forced.namedWait', () => {
  board().add(WORD.entered)
  board().block(WORD.release)
})

/** Halts until told to stop: an NMI ends a halt. */
export const haltAWhile = defineTask('forced.haltAWhile', function haltAWhile() {
  board().add(WORD.entered)
  while (board().get(WORD.release) === 0) thisMachine().cpu.halt(50)
})

/** Waits in a call that blocks, until told to stop. */
export const blockInCall = defineTask('forced.blockInCall', function blockInCall(target: number) {
  board().add(WORD.entered)
  thisMachine().smpCallFunctionSingleSync(target, 'machine.hold', {})
})

/** A handler in a loop. */
export const waitInHandler = sharedFunction('forced.waitInHandler', () => outerLoop())

/** Asks for a backtrace of all; gives it printed. */
export const askForBacktrace = defineTask('forced.askForBacktrace', async (entered: number) => {
  try {
    board().block(WORD.entered, entered)
    return String(await thisMachine().backtrace())
  } finally {
    board().set(WORD.done, 1)
  }
})

let code = 'none'

/** Asks for a backtrace in a handler; `lastCode` tells what came of it. */
export const backtraceInHandler = sharedFunction('forced.backtraceInHandler', () => {
  thisMachine()
    .backtrace()
    .catch((error: unknown) => {
      ;({ code } = error as { code: string })
    })
})

export const lastCode = defineTask('forced.lastCode', () => code)

/** Runs out of stack again and again, and stays near its end, from the next turn on, until told to stop. */
export const diveUntilTold = sharedFunction('forced.diveUntilTold', () => {
  setImmediate(() => {
    let above = 0
    const dive = (): number => {
      try {
        return 1 + dive()
      } catch (error) {
        // There was no room for one call more; in the frames next to it there is little.
        if (above++ < 60) compute(20_000)
        throw error
      }
    }
    board().add(WORD.entered)
    for (; board().get(WORD.done) === 0; above = 0) {
      try {
        dive()
      } catch {
        // Again.
      }
    }
  })
})

/** Whether interrupts are off in a handler: they are, if nothing has left them as they must not be. */
export const irqsDisabledNow = sharedFunction(
  'forced.irqsDisabledNow',
  () => thisMachine().cpu.irqsDisabled,
)

/** Reads a FIFO until its writer closes it: a native call, which nothing interrupts. Gives its length. */
export const readFifo = defineTask('forced.readFifo', (path: string) => {
  board().add(WORD.entered)
  return readFileSync(path).length
})

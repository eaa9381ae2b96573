/**
 * What every CPU of the kernel tests imports: functions that meet in shared words. A race is arranged
 * by waiting on these words, never by sleeping.
 */

import { sharedFunction, thisMachine } from '../../src/index.ts'

/** Places in the shared words. Those that end in a blank have one word per CPU behind them. */
export const WORD = {
  /** CPUs that have come to where they should wait, and those that went on. */
  arrived: 0,
  left: 1,
  /** Whoever waits here goes on while this is not less than what it waits for. */
  gate: 2,
  stop: 3,
  in: 4,
  out: 5,
  /** Set once nothing may run any more; who runs all the same counts in `late`. */
  closed: 6,
  late: 7,
  halts: 8,
  wakes: 9,
  received: 10,
  scheduled: 11,
  total: 12,
  /** One word per CPU. */
  counts: 32,
  /** One word per argument that was handed to another CPU. */
  owned: 64,
} as const

const WORD_COUNT = 4096
/** After this long a wait has failed. */
const DEADLINE_MS = 20_000

let words = new Int32Array(new SharedArrayBuffer(WORD_COUNT * 4))

/** The shared words of the calling thread's machine. */
export function sharedWords(): Int32Array {
  return words
}

/** Waits until a word has reached `least`; throws after the deadline. Blocks the thread. */
export function waitFor(word: number, least: number): void {
  const deadline = Date.now() + DEADLINE_MS
  for (let value = Atomics.load(words, word); value < least; value = Atomics.load(words, word)) {
    if (Date.now() > deadline) throw new Error(`word ${word} is ${value}, waited for ${least}`)
    Atomics.wait(words, word, value, 1000)
  }
}

/** Adds to a word and wakes who waits for it; gives the new value. */
export function advance(word: number, by = 1): number {
  const value = Atomics.add(words, word, by) + by
  Atomics.notify(words, word)
  return value
}

const self = (): number => thisMachine().cpu.id

/** A hotplug state: every CPU, now and later, has the same words. */
export const useWords = sharedFunction('kernel.useWords', (buffer: SharedArrayBuffer) => {
  words = new Int32Array(buffer)
})

export const nothing = sharedFunction('kernel.nothing', () => undefined)

/** Who runs this, and in what context. */
export const identify = sharedFunction('kernel.identify', () => {
  const { cpu } = thisMachine()
  return { cpu: cpu.id, irqsDisabled: cpu.irqsDisabled, inInterrupt: cpu.inInterrupt }
})

export const count = sharedFunction('kernel.count', () => advance(WORD.counts + self()))

/** Comes back once `others` CPUs have come. */
export const meet = sharedFunction('kernel.meet', (others: number) => {
  advance(WORD.arrived)
  waitFor(WORD.arrived, others)
  return advance(WORD.left)
})

/** Stays in the handler until the gate is at `turn`. */
export const stayUntil = sharedFunction('kernel.stayUntil', (turn: number) => {
  advance(WORD.arrived)
  waitFor(WORD.gate, turn)
  advance(WORD.left)
})

/** Increments this CPU's counter and passes on to the next CPU, `limit` times in all. */
export const passOn = sharedFunction('kernel.passOn', (limit: number) => {
  const machine = thisMachine()
  advance(WORD.counts + machine.cpu.id)
  if (advance(WORD.total) >= limit) return
  const cpus = [...machine.onlineMask]
  const next = cpus[(cpus.indexOf(machine.cpu.id) + 1) % cpus.length]!
  // From a task: a handler may not call.
  queueMicrotask(() => {
    void machine.smpCallFunctionSingle(next, passOn, limit, { wait: false })
  })
})

/** The argument is seen, the result is set: both in plain memory. */
export const answerPlainly = sharedFunction('kernel.answerPlainly', () => {
  const seen = words[WORD.in]!
  words[WORD.out] = seen * 2
  return seen
})

/** Takes over an argument, and gives it back as memory: nobody else may have. */
export const freeArgument = sharedFunction('kernel.freeArgument', (index: number) => {
  if (Atomics.load(words, WORD.closed) !== 0) advance(WORD.late)
  if (Atomics.exchange(words, WORD.owned + index, 0) !== 1) advance(WORD.late)
  advance(WORD.counts + self())
})

/** Puts a handler behind `vector` that counts for this CPU. */
export const countVector = sharedFunction('kernel.countVector', (vector: number) => {
  thisMachine().requestIrq(vector, 'counted', () => void advance(WORD.counts + self()))
})

/** Sends `vector` to a set of CPUs from here. */
export const sendFrom = sharedFunction(
  'kernel.sendFrom',
  ({ mask, vector }: { mask: readonly number[]; vector: number }) =>
    thisMachine().sendIpiMask(mask, vector),
)

/**
 * Idles in HLT until `stop`: STI and HLT as one pair, so that an interrupt that comes between them is
 * not lost; then CLI.
 */
export const haltUntilStopped = sharedFunction('kernel.haltUntilStopped', (vector: number) => {
  const machine = thisMachine()
  const { cpu } = machine
  machine.requestIrq(vector, 'received', () => void advance(WORD.received))
  setImmediate(() => {
    cpu.localIrqDisable()
    advance(WORD.arrived)
    while (Atomics.load(words, WORD.stop) === 0) {
      advance(WORD.halts)
      cpu.core.sti()
      cpu.halt()
      cpu.localIrqDisable()
      advance(WORD.wakes)
    }
    machine.freeIrq(vector)
    cpu.localIrqEnable()
    advance(WORD.left)
  })
})

/** Counts what the scheduler of this CPU is asked. */
export const countSchedules = sharedFunction('kernel.countSchedules', () => {
  thisMachine().onSchedule(() => void advance(WORD.scheduled))
})

/** Flushes a space of its own again and again, from a task. */
export const flushAgain = sharedFunction(
  'kernel.flushAgain',
  ({ space, times }: { space: string; times: number }) => {
    const machine = thisMachine()
    setImmediate(() => {
      advance(WORD.arrived)
      waitFor(WORD.gate, 1)
      for (let i = 0; i < times; i++) machine.addressSpace(space).flushTlbMmSync()
      advance(WORD.left)
    })
  },
)

/** Holds a translation of each of the spaces. */
export const holdTranslations = sharedFunction(
  'kernel.holdTranslations',
  ({ space, addresses }: { space: string; addresses: readonly number[] }) => {
    const machine = thisMachine()
    for (const address of addresses) {
      machine.addressSpace(space).translate(address, () => `of CPU ${machine.cpu.id}`)
    }
  },
)

/** Which translations this CPU still holds. */
export const heldTranslations = sharedFunction(
  'kernel.heldTranslations',
  ({ space, addresses }: { space: string; addresses: readonly number[] }) =>
    addresses.filter((address) => thisMachine().addressSpace(space).holds(address)),
)

/** Calls a CPU again and again, blocking, from a task. */
export const callAgain = sharedFunction(
  'kernel.callAgain',
  ({ target, times }: { target: number; times: number }) => {
    const machine = thisMachine()
    setImmediate(() => {
      advance(WORD.arrived)
      waitFor(WORD.gate, 1)
      for (let i = 0; i < times; i++) machine.smpCallFunctionSingleSync(target, count)
      advance(WORD.left)
    })
  },
)

/** Blocks on the CPU of that number until its thread is ended; on others it does nothing. */
export const blockOn = sharedFunction('kernel.blockOn', (cpu: number) => {
  if (self() === cpu) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000)
})

/** Fails in the way it is told. */
export const throwKind = sharedFunction('kernel.throwKind', (kind: string): unknown => {
  const { id } = thisMachine().cpu
  switch (kind) {
    case 'range':
      throw Object.assign(new RangeError(`thrown by CPU ${id}`), { code: 'E_TEST' })
    case 'promise':
      return Promise.reject(new Error('nobody hears this'))
    case 'uncloneable':
      return () => undefined
    case 'undefined':
      // oxlint-disable-next-line no-throw-literal only-throw-error
      throw undefined
    default:
      if (kind === `on ${id}`) throw new Error(`thrown by CPU ${id}`)
      return 'fine'
  }
})

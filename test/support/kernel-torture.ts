/**
 * The torture of the call functions: every CPU calls every other in every way at random, and every
 * single call is accounted for. After the kernel's kernel/scftorture.c.
 *
 * Each call has a number and three words: the CPUs that ran it, those that must have, those that may.
 */

import './kernel-tasks.ts'
import { isIpiError, SmpCallError, sharedFunction, thisMachine } from '../../src/index.ts'

export const CALLS_MAX = 4096

/** Where the words stand. */
export const TORTURE = {
  /** How many calls were made. */
  calls: 0,
  /** What went wrong: any is a failure of the test. */
  errors: 1,
  /** CPUs that are through. */
  through: 2,
  /** Set at the end: nothing may run any more. */
  closed: 3,
  ran: 16,
  must: 16 + CALLS_MAX,
  may: 16 + 2 * CALLS_MAX,
  size: 16 + 3 * CALLS_MAX,
} as const

let words = new Int32Array(new SharedArrayBuffer(TORTURE.size * 4))

export function tortureWords(): Int32Array {
  return words
}

/** A hotplug state: late joiners take part. */
export const useTorture = sharedFunction('kernel.useTorture', (buffer: SharedArrayBuffer) => {
  words = new Int32Array(buffer)
})

interface Order {
  readonly index: number
  /** The CPU it is for, or -1 if it is for several. */
  readonly target: number
  /** How long it stays, in microseconds. */
  readonly stayUs: number
}

function fail(what: string): void {
  Atomics.add(words, TORTURE.errors, 1)
  console.error(`torture: ${what}`)
}

/** What the calls run: on the right CPU, in the right context, once. */
const obey = sharedFunction('kernel.obey', ({ index, target, stayUs }: Order) => {
  const { cpu } = thisMachine()
  if (target >= 0 && target !== cpu.id) fail(`call ${index} for ${target} runs on ${cpu.id}`)
  if (!cpu.irqsDisabled) fail(`call ${index} runs with interrupts on`)
  if (Atomics.load(words, TORTURE.closed) !== 0) fail(`call ${index} runs after the end`)
  const bit = 1 << cpu.id
  const old = Atomics.or(words, TORTURE.ran + index, bit)
  if ((old & bit) !== 0) fail(`call ${index} runs twice on ${cpu.id}`)
  const end = performance.now() + stayUs / 1000
  while (performance.now() < end);
  return index
})

/** xorshift32: small, and the same everywhere. */
function generator(seed: number): (below: number) => number {
  let state = seed | 0 || 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

const bitsOf = (cpus: Iterable<number>): number => {
  let bits = 0
  for (const cpu of cpus) bits |= 1 << cpu
  return bits
}

/** Notes what became of a call that came back: it was run by those that answered. */
function succeeded(index: number, cpus: Iterable<number>): void {
  const bits = bitsOf(cpus)
  words[TORTURE.must + index] = bits
  words[TORTURE.may + index] = bits
}

/** Of a call that failed: not by those that were offline; perhaps by those that died meanwhile. */
function failed(index: number, error: unknown, targets: readonly number[]): void {
  const errors =
    error instanceof SmpCallError
      ? error.errors
      : new Map(targets.map((target) => [target, error] as const))
  const answered = error instanceof SmpCallError ? bitsOf(error.results.keys()) : 0
  let may = answered
  for (const [cpu, each] of errors) {
    const code = isIpiError(each) ? each.code : String(each)
    if (code === 'IPI_CPU_DIED' || code === 'IPI_MACHINE_CLOSED') may |= 1 << cpu
    else if (code !== 'IPI_CPU_OFFLINE') fail(`call ${index} to ${cpu}: ${String(each)}`)
  }
  words[TORTURE.must + index] = answered
  words[TORTURE.may + index] = may
}

/** The ways to call: each gives the CPUs that it calls, and calls them. */
const WAYS: readonly ((chance: Chance) => {
  readonly targets: readonly number[]
  readonly call: (order: Omit<Order, 'target'>, wait: boolean) => Promise<Iterable<number>>
})[] = [
  ({ target }) => ({
    targets: [target],
    call: async (order, wait) => {
      await thisMachine().smpCallFunctionSingle(target, obey, { ...order, target }, { wait })
      return [target]
    },
  }),
  ({ target }) => ({
    targets: [target],
    call: (order, wait) => {
      thisMachine().smpCallFunctionSingleSync(target, obey, { ...order, target }, { wait })
      return Promise.resolve([target])
    },
  }),
  ({ everybody }) => ({
    targets: everybody,
    call: async (order, wait) =>
      (await thisMachine().smpCallFunction(obey, { ...order, target: -1 }, { wait })).keys(),
  }),
  ({ everybody }) => ({
    targets: everybody,
    call: (order, wait) => {
      const answers = thisMachine().smpCallFunctionSync(obey, { ...order, target: -1 }, { wait })
      return Promise.resolve(answers.keys())
    },
  }),
  ({ mask }) => ({
    targets: mask,
    call: async (order, wait) =>
      (
        await thisMachine().smpCallFunctionMany(mask, obey, { ...order, target: -1 }, { wait })
      ).keys(),
  }),
  ({ everybody }) => ({
    targets: everybody,
    call: async (order, wait) =>
      (await thisMachine().onEachCpu(obey, { ...order, target: -1 }, { wait })).keys(),
  }),
  ({ target }) => ({
    targets: [],
    call: () => {
      thisMachine().smpSendReschedule(target)
      return Promise.resolve([])
    },
  }),
]

/** What chance has chosen for one call. */
interface Chance {
  readonly target: number
  readonly mask: readonly number[]
  readonly everybody: readonly number[]
}

/** One random call; resolves once it is accounted for. */
async function callSomebody(random: (below: number) => number, stayUs: number): Promise<void> {
  const everybody = [...thisMachine().possibleMask]
  const mask = everybody.filter(() => random(2) === 0)
  const target = random(everybody.length)
  const { targets, call } = WAYS[random(WAYS.length)]!({ target, mask, everybody })
  const wait = random(3) > 0
  const index = Atomics.add(words, TORTURE.calls, 1)
  // Whoever calls may be taken down before the answer: then all that is known is whom it called.
  words[TORTURE.may + index] = bitsOf(targets)
  try {
    succeeded(index, await call({ index, stayUs }, wait))
  } catch (error) {
    failed(index, error, targets)
  }
}

/** How a CPU is to torture the others. */
export interface TortureOrders {
  readonly seed: number
  readonly calls: number
  /** The longest that a called function stays, in microseconds. */
  readonly stayUsMax: number
}

/** Tortures from this CPU; resolves when it is through. */
export async function torture({ seed, calls, stayUsMax }: TortureOrders): Promise<void> {
  const random = generator(seed + 7919 * thisMachine().cpu.id)
  for (let left = calls; left > 0;) {
    // Several under way at once.
    const burst = Math.min(left, 1 + random(4))
    left -= burst
    const all = Array.from({ length: burst }, () =>
      callSomebody(random, random(10) === 0 ? random(stayUsMax + 1) : 0),
    )
    await Promise.all(all)
  }
  Atomics.add(words, TORTURE.through, 1)
}

/** Starts the torture from another CPU. */
export const startTorture = sharedFunction('kernel.startTorture', (orders: TortureOrders) => {
  setImmediate(() => {
    torture(orders).catch((error: unknown) => fail(String(error)))
  })
})

/**
 * What instrumented code calls (scripts/instrument.mjs): the bus as the explorer has it. An access is
 * yielded where that is possible, and made at once where it is not.
 */

import { WAIT } from '../../src/testing/access.ts'
import { WAIT_RESULT, type Access, type Operation, type Watch } from '../../src/testing.ts'
import { $Gen } from './explorer-promises.ts'

export { $async, $await, $Gen, $Promise } from './explorer-promises.ts'

type Words = Int32Array<SharedArrayBuffer>

/** The explorer, told of accesses that are made at once, and of plain reads. */
let watch: Watch | undefined

/** Who is told from now on: nobody, while a machine is made. */
export function useWatch(next: Watch | undefined): void {
  watch = next
}

/** What instrumented code needs of its machine. */
export interface Clock {
  /** Whether time passes: then waits and loops with a deadline may find that it is over. */
  readonly moves: boolean
  readonly now: () => number
  readonly advance: (to: number) => void
  /** Whether a thread that sleeps on this word may do so for ever. */
  readonly mayRest: (at: number) => boolean
}

let clock: Clock = { moves: false, now: () => 0, advance: () => undefined, mayRest: () => false }

/** Whose time it is from now on. */
export function useClock(next: Clock): void {
  clock = next
}

/** How far a clock moves while somebody spins, in milliseconds. */
const TICK_MS = 1

/** `wait`: asleep until somebody notifies, or until its time is over. */
export function* $wait(
  words: Words,
  index: number,
  expected: number,
  ms: number,
): Generator<Access, number, number> {
  const until = clock.now() + ms
  const timed = clock.moves && ms < Infinity
  const access = $op('wait', words, index, expected, timed ? 1 : Infinity)
  const rests = !timed && clock.mayRest(access.at)
  const result = yield rests ? { ...access, value: WAIT.idle } : access
  if (result === WAIT_RESULT.timedOut) clock.advance(until)
  return result
}

/** `pause`: a turn of a loop that looks at memory or at the clock. */
export function* $pause(): Generator<Access, void, number> {
  const value = clock.moves ? WAIT.timed : WAIT.forEver
  const result = yield { operation: 'pause', at: 0, value, expected: 0 }
  if (result === WAIT_RESULT.timedOut) clock.advance(clock.now() + TICK_MS)
}

/** Names of hardware/memory.ts, as operations. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  load: 'load',
  store: 'store',
  add: 'add',
  or: 'or',
  and: 'and',
  exchange: 'exchange',
  compareExchange: 'compareExchange',
  notifyAll: 'notify',
  wait: 'wait',
  pause: 'pause',
}

/** An access that knows its memory: it may be made before there is an explorer. */
interface MemoryAccess extends Access {
  readonly words: Words
}

/** An access as the explorer wants it. */
export function $op(name: string, words: Words, index: number, a = 0, b = 0): MemoryAccess {
  const operation = OPERATIONS[name]
  if (operation === undefined) throw new Error(`the bus has no ${name}`)
  const at = (words?.byteOffset ?? 0) / 4 + (index ?? 0)
  switch (operation) {
    case 'compareExchange':
      return { words, operation, at, value: b, expected: a }
    case 'wait':
      return { words, operation, at, value: b < Infinity ? WAIT.timed : WAIT.forEver, expected: a }
    case 'notify':
      return { words, operation, at, value: 0x7fffffff, expected: 0 }
    default:
      return { words, operation, at, value: a, expected: 0 }
  }
}

/** Before the first instruction of a method, or of a turn of a loop, that may be interrupted there. */
export const $boundary: Access = { operation: 'boundary', at: 0, value: 0, expected: 0 }

/** A wait that is armed on a word, and whom to call when it ends. */
export interface Armed {
  readonly expected: number
  readonly onRing: () => unknown
}

/** By the word. */
export const armed = new Map<number, Armed>()

/**
 * `waitAsync`: armed if the word is as expected. Whoever runs the event loop sleeps on the word, and
 * finds it changed if it was notified in between.
 */
export function* $arm(
  words: Words,
  index: number,
  expected: number,
): Generator<Access, { then: (onRing: () => unknown) => void } | undefined, number> {
  const at = words.byteOffset / 4 + index
  const found = yield $op('load', words, index)
  if (found !== expected) return undefined
  // oxlint-disable-next-line unicorn/no-thenable -- it stands for the promise of Atomics.waitAsync
  return { then: (onRing) => void armed.set(at, { expected, onRing }) }
}

/** An access that is made at once. */
export function $now(name: string, words: Words, index: number, a = 0, b = 0): number {
  if (name === 'notifyAll' || name === 'pause') return 0
  const make = OPERATIONS_AT_ONCE[name]
  if (make === undefined) throw new Error(`${name} cannot be made at once`)
  const old = Atomics.load(words, index)
  const result = make(words, index, a, b)
  watch?.saw(result)
  if (Atomics.load(words, index) !== old) watch?.wrote(words.byteOffset / 4 + index, old)
  return result
}

const OPERATIONS_AT_ONCE: Readonly<
  Record<string, (words: Words, index: number, a: number, b: number) => number>
> = {
  load: (words, index) => Atomics.load(words, index),
  store: (words, index, a) => Atomics.store(words, index, a),
  add: (words, index, a) => Atomics.add(words, index, a),
  or: (words, index, a) => Atomics.or(words, index, a),
  and: (words, index, a) => Atomics.and(words, index, a),
  exchange: (words, index, a) => Atomics.exchange(words, index, a),
  compareExchange: (words, index, a, b) => Atomics.compareExchange(words, index, a, b),
}

/** A plain read: no choice, but part of what was seen. */
export function $peek(words: Int32Array, index: number): number {
  const value = words[index]!
  watch?.saw(value)
  return value
}

/** Runs a generator to its end at once. */
export function $run(given: unknown): unknown {
  if (!(given instanceof $Gen)) return given
  let result = given.next(0)
  while (result.done !== true) result = given.next(perform(result.value))
  return result.value
}

function perform(access: Access): number {
  if (access === $boundary) return 0
  const { operation, at, value, expected, words } = access as MemoryAccess
  const index = at - words.byteOffset / 4
  switch (operation) {
    case 'notify':
      return $now('notifyAll', words, index)
    case 'wait':
    case 'pause':
      throw new Error(`${operation} cannot be made at once`)
    case 'compareExchange':
      return $now(operation, words, index, expected, value)
    default:
      return $now(operation, words, index, value)
  }
}

type Each<T, R> = (item: T, index: number) => R | Generator<Access, R, number>

function* call<T, R>(each: Each<T, R>, item: T, index: number): Generator<Access, R, number> {
  const result: unknown = each(item, index)
  return (result instanceof $Gen ? yield* result : result) as R
}

/** Methods of arrays with callbacks that may touch memory. */
export const $array = {
  *map<T, R>(list: Iterable<T>, each: Each<T, R>): Generator<Access, R[], number> {
    const results: R[] = []
    for (const item of list) results.push(yield* call(each, item, results.length))
    return results
  },
  *from<T, R>(list: ArrayLike<T> | Iterable<T>, each: Each<T, R>): Generator<Access, R[], number> {
    return yield* $array.map(Array.from(list), each)
  },
  *filter<T>(list: Iterable<T>, each: Each<T, unknown>): Generator<Access, T[], number> {
    const results: T[] = []
    let index = 0
    for (const item of list) if (yield* call(each, item, index++)) results.push(item)
    return results
  },
  *flatMap<T, R>(list: Iterable<T>, each: Each<T, R>): Generator<Access, unknown[], number> {
    return (yield* $array.map(list, each)).flat()
  },
  *forEach<T>(list: Iterable<T>, each: Each<T, unknown>): Generator<Access, void, number> {
    yield* $array.map(list, each)
  },
  *every<T>(list: Iterable<T>, each: Each<T, unknown>): Generator<Access, boolean, number> {
    let index = 0
    for (const item of list) if (!(yield* call(each, item, index++))) return false
    return true
  },
  *some<T>(list: Iterable<T>, each: Each<T, unknown>): Generator<Access, boolean, number> {
    let index = 0
    for (const item of list) if (yield* call(each, item, index++)) return true
    return false
  },
  *find<T>(list: Iterable<T>, each: Each<T, unknown>): Generator<Access, T | undefined, number> {
    let index = 0
    for (const item of list) if (yield* call(each, item, index++)) return item
    return undefined
  },
  *findIndex<T>(list: Iterable<T>, each: Each<T, unknown>): Generator<Access, number, number> {
    let index = 0
    for (const item of list) {
      if (yield* call(each, item, index)) return index
      index++
    }
    return -1
  },
}

/**
 * The memory bus: the only file that names `Atomics`. Everything else reaches shared words through
 * these names, so that the interleaving explorer can stand in for this one file.
 *
 * Every operation here is sequentially consistent (ECMAScript, chapter "Memory Model"); plain reads
 * and writes of shared words are ordered only by them. Calling through these constants costs what
 * calling `Atomics` directly costs.
 */

/** The shared words of a machine: a signed view, because `Atomics.wait` takes no unsigned one. */
export type SharedWords = Int32Array<SharedArrayBuffer>

/** Reads a word. */
export const load: (words: SharedWords, index: number) => number = Atomics.load
/** Writes a word. */
export const store: (words: SharedWords, index: number, value: number) => number = Atomics.store
/** Adds to a word; gives the old value. */
export const add: (words: SharedWords, index: number, value: number) => number = Atomics.add
/** Sets bits of a word; gives the old value. */
export const or: (words: SharedWords, index: number, bits: number) => number = Atomics.or
/** Keeps only the given bits of a word; gives the old value. */
export const and: (words: SharedWords, index: number, bits: number) => number = Atomics.and
/** Replaces a word; gives the old value. */
export const exchange: (words: SharedWords, index: number, value: number) => number =
  Atomics.exchange
/** Replaces a word if it holds `expected`; gives the old value. */
export const compareExchange: (
  words: SharedWords,
  index: number,
  expected: number,
  replacement: number,
) => number = Atomics.compareExchange

/** Tells the processor that this thread spins. Nothing where the engine has no such hint. */
export const pause: () => void =
  (Atomics as { readonly pause?: () => void }).pause ?? ((): void => undefined)

/** Wakes every waiter on a word; gives how many there were. */
export const notifyAll = (words: SharedWords, index: number): number => Atomics.notify(words, index)

/**
 * The operations under the names by which programs call them: the development mode of handlers stands
 * in for some (kernel/handler-checks.ts). The constants above stay what they are.
 */
export const atomics: object = Atomics

/** How a blocking wait ended. */
export type WaitResult = 'ok' | 'not-equal' | 'timed-out'

/** Blocks this thread while the word holds `expected`, for at most `timeoutMs`. */
export const wait: (
  words: SharedWords,
  index: number,
  expected: number,
  timeoutMs: number,
) => WaitResult = Atomics.wait

/**
 * Arms an asynchronous wait: a promise that settles once the word is notified, or undefined if the
 * word no longer holds `expected`. It cannot be disarmed and does not keep a process alive.
 */
export const waitAsync = (
  words: SharedWords,
  index: number,
  expected: number,
): Promise<unknown> | undefined => {
  const armed = Atomics.waitAsync(words, index, expected)
  return armed.async ? armed.value : undefined
}

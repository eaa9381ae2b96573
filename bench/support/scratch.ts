/** Shared memory for the bare contenders and for time stamps: apart from the machine's own. */

/** Words of the scratch memory. Each has 128 bytes to itself: processors fetch lines in pairs. */
export const WORD = {
  /** Ping-pong: what the first thread writes, and what the second answers. */
  ping: 0,
  pong: 32,
  /** The bell of a bare `Atomics.waitAsync`, and the generation of a bare `Atomics.wait`. */
  bell: 64,
  generation: 96,
  /** How often something arrived: the receiver counts, the sender waits for it. */
  arrived: 128,
  /** Answers counted, when several must answer. */
  answers: 160,
  /** A measurement that ran on other threads is over. */
  done: 192,
} as const

const WORDS = 224
/** Times that one measurement on another thread can record. */
const TIMES_MAX = 1 << 16

/** The views of a scratch memory: the sender's and every receiver's look the same. */
export class Scratch {
  readonly buffer: SharedArrayBuffer
  readonly words: Int32Array<SharedArrayBuffer>
  /** Times in nanoseconds. The first is also where a receiver puts its time of arrival. */
  readonly times: Float64Array<SharedArrayBuffer>

  constructor(buffer = new SharedArrayBuffer(WORDS * 4 + TIMES_MAX * 8)) {
    this.buffer = buffer
    this.words = new Int32Array(buffer, 0, WORDS)
    this.times = new Float64Array(buffer, WORDS * 4, TIMES_MAX)
  }

  /** Receiver: it came, now. */
  stamp(): void {
    this.times[0] = clockNs()
    Atomics.add(this.words, WORD.arrived, 1)
  }
}

/** Nanoseconds on a clock that all threads of a process share; `performance.now()` is not one. */
export function clockNs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1e9 + nanoseconds
}

/** Looks at a condition in a loop before the benchmark is called broken: about ten seconds. */
const SPINS_MAX = 5e8

/** Spins until a word holds `value`; `what` says in an error what it was good for. */
export function spinUntil(words: Int32Array, index: number, value: number, what: string): void {
  let spins = 0
  while (Atomics.load(words, index) !== value) if (++spins > SPINS_MAX) noAnswer(what)
}

/** Ends a loop that waits for a thread which does not answer. */
export function noAnswer(what: string): never {
  throw new Error(`${what}: no answer for seconds; the other thread hangs or has ended`)
}

/** Keeps this thread busy. */
export function spinFor(microseconds: number): void {
  const until = performance.now() + microseconds / 1000
  while (performance.now() < until);
}

/**
 * The ledger of a chaos run: shared words in which every thread writes down what it asked, what it
 * ran and what is under way, without the library that is being tested. What is wrong is written here
 * too, as text, so that whoever finds it need not live to tell.
 */

/** CPUs, and things that one CPU does at once: work, and on CPU 0 what the agent does. */
export const CPUS_MAX = 8
export const WORK_LANES = 3
export const AGENT_LANE = 3
export const BRING_UP_LANE = 4
export const LANES = 5
/** Calls between two looks at the books. */
export const TICKETS_MAX = 1 << 17
/** Vectors, pages and address spaces of a machine under chaos. */
export const VECTORS = 2
export const PAGES = 16

/** What a lane does. The first means: nothing. */
export const OPERATIONS = [
  'idle',
  'call',
  'blocking call',
  'burst',
  'interrupt',
  'reschedule',
  'flush',
  'translate',
  'stopMachine',
  'softirq',
  'interrupts off',
  'safepoints',
  'halt',
  'garbage',
  'bringing up',
  'taking down',
  'ending a thread',
  'quiescing',
] as const
export type Operation = (typeof OPERATIONS)[number]

/** What became of each call, for each CPU that it asked. */
export const OUTCOMES = [
  'answered',
  'started',
  'threw',
  'died',
  'offline',
  'noCpu',
  'timedOut',
  'aborted',
  'unknown',
  'closed',
] as const
export type Outcome = (typeof OUTCOMES)[number]

/** What was done to the machines. */
export const DEEDS = [
  'machines',
  'quiesces',
  'terminated',
  'exited',
  'exited in handler',
  'threw out',
  'came up',
  'did not come up',
  'left',
  'did not leave',
  'stalls in task',
  'stalls in handler',
  'stalls with interrupts off',
  'stalls of CPU 0',
  'floods',
  'stops',
  'reported as stuck',
  'found locked up',
] as const
export type Deed = (typeof DEEDS)[number]

let size = 0
const area = (words: number): number => (size += words) - words

/** Where things stand, in words. What stands before `epochEnd` is cleared between epochs. */
const AT = {
  tickets: area(1),
  asked: area(TICKETS_MAX),
  ran: area(TICKETS_MAX),
  mustNot: area(TICKETS_MAX),
  owes: area(TICKETS_MAX),
  silent: area(TICKETS_MAX),
  attempts: area(VECTORS * CPUS_MAX),
  completed: area(VECTORS * CPUS_MAX),
  delivered: area(VECTORS * CPUS_MAX),
  runs: area(VECTORS * CPUS_MAX),
  epochEnd: area(1),
  phase: area(1),
  epoch: area(1),
  flood: area(1),
  floodTarget: area(1),
  order: area(CPUS_MAX),
  orderMs: area(CPUS_MAX),
  veto: area(2),
  lives: area(CPUS_MAX),
  livesBefore: area(CPUS_MAX),
  threads: area(CPUS_MAX),
  leaving: area(CPUS_MAX),
  working: area(CPUS_MAX),
  beat: area(CPUS_MAX * 16),
  operation: area(CPUS_MAX * LANES),
  since: area(CPUS_MAX * LANES),
  concerns: area(CPUS_MAX * LANES),
  table: area(PAGES),
  floor: area(PAGES),
  accusations: area(1),
  closed: area(1),
  longestUs: area(OPERATIONS.length),
  operations: area(OPERATIONS.length),
  outcomes: area(OUTCOMES.length),
  deeds: area(DEEDS.length),
} as const

const ACCUSATIONS_MAX = 32
const ACCUSATION_BYTES = 2048
/** How long a thread that was buried may still be there. */
const GHOST_MS = 5000
const TEXT_AT = size * 4

/** Milliseconds on a clock that all threads share; only differences mean anything. */
export function clockMs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return (seconds * 1000 + nanoseconds / 1e6) | 0
}

/** Words that all threads of a chaos run see. */
export class Ledger {
  readonly words: Int32Array<SharedArrayBuffer>
  readonly #text: Uint8Array<SharedArrayBuffer>
  /** Whether the CPU of this thread is gone without having been asked to leave. */
  isBuried: () => boolean = () => false

  constructor(buffer = new SharedArrayBuffer(TEXT_AT + ACCUSATIONS_MAX * ACCUSATION_BYTES)) {
    this.words = new Int32Array(buffer, 0, size)
    this.#text = new Uint8Array(buffer, TEXT_AT)
  }

  get(at: number): number {
    return Atomics.load(this.words, at)
  }

  set(at: number, value: number): void {
    Atomics.store(this.words, at, value)
  }

  add(at: number, value = 1): number {
    return Atomics.add(this.words, at, value)
  }

  /** Sets a word to 0 if it is `value`; gives whether it was. */
  take(at: number, value: number): boolean {
    return value !== 0 && Atomics.compareExchange(this.words, at, value, 0) === value
  }

  /** Raises a word to `value`, if it is lower. */
  raise(at: number, value: number): void {
    for (let old = this.get(at); old < value;) {
      const found = Atomics.compareExchange(this.words, at, old, value)
      if (found === old) return
      old = found
    }
  }

  /** Between epochs, when nothing is under way. */
  clearEpoch(): void {
    this.words.fill(0, 0, AT.epochEnd)
    this.words.copyWithin(AT.livesBefore, AT.lives, AT.lives + CPUS_MAX)
    this.add(AT.epoch)
  }

  /** The CPUs that have had one life since the epoch began, as bits. */
  get immortal(): number {
    let bits = 0
    for (let cpu = 0; cpu < CPUS_MAX; cpu++) {
      if (this.get(AT.lives + cpu) === this.get(AT.livesBefore + cpu)) bits |= 1 << cpu
    }
    return bits
  }

  /** Between machines: nobody is anywhere. */
  clearMachine(): void {
    this.clearEpoch()
    this.words.fill(0, AT.order, AT.accusations)
  }

  count(deed: Deed): void {
    this.add(AT.deeds + DEEDS.indexOf(deed))
  }

  settled(outcome: Outcome): void {
    this.add(AT.outcomes + OUTCOMES.indexOf(outcome))
  }

  /** A lane begins something; `concerns` is whom it is about, as a mask. */
  begin(cpu: number, lane: number, operation: Operation, concerns = 0): void {
    const place = cpu * LANES + lane
    this.set(AT.concerns + place, concerns)
    this.set(AT.since + place, clockMs())
    this.set(AT.operation + place, OPERATIONS.indexOf(operation))
  }

  /** It has ended. */
  end(cpu: number, lane: number): void {
    const place = cpu * LANES + lane
    const operation = this.get(AT.operation + place)
    this.set(AT.operation + place, 0)
    this.add(AT.operations + operation)
    this.words[AT.beat + cpu * 16]!++
  }

  /** How long a call waited, in milliseconds. */
  waited(operation: Operation, ms: number): void {
    this.raise(AT.longestUs + OPERATIONS.indexOf(operation), Math.round(ms * 1000))
  }

  /** Nothing that this CPU did is under way any more: its thread is gone, or new. */
  forget(cpu: number): void {
    for (let lane = 0; lane < LANES; lane++) this.set(AT.operation + cpu * LANES + lane, 0)
    this.set(AT.order + cpu, 0)
    this.set(AT.leaving + cpu, 0)
    this.set(AT.working + cpu, 0)
  }

  /** Writes down what is wrong. */
  accuse(text: string): void {
    if (this.get(AT.closed) !== 0) return
    // A thread that is being ended takes a few last steps, and is buried by then. What it sees of
    // its own burial is nobody's fault; but if it is alive all the same, it is one.
    if (this.isBuried()) Atomics.wait(this.words, AT.epochEnd, this.get(AT.epochEnd), GHOST_MS)
    const place = this.add(AT.accusations)
    if (place >= ACCUSATIONS_MAX) return
    const bytes = new TextEncoder().encode(text).subarray(0, ACCUSATION_BYTES)
    this.#text.set(bytes, place * ACCUSATION_BYTES)
  }

  /** From here on nothing is wrong: what comes now only follows from ending a machine at work. */
  close(): void {
    this.set(AT.closed, 1)
  }

  /** Everything that is wrong so far. */
  accusations(): string[] {
    const count = Math.min(this.get(AT.accusations), ACCUSATIONS_MAX)
    return Array.from({ length: count }, (_, place) => {
      const bytes = this.#text.slice(place * ACCUSATION_BYTES, (place + 1) * ACCUSATION_BYTES)
      return Buffer.from(bytes).toString('utf8').replace(/\0.*/s, '')
    })
  }
}

export { AT }

/** The thread's ledger: on all but the main thread it comes with a hotplug state. */
const thread = { ledger: new Ledger() }

export function ledger(): Ledger {
  return thread.ledger
}

export function useLedger(buffer: SharedArrayBuffer): Ledger {
  return (thread.ledger = new Ledger(buffer))
}

/** The CPUs of a mask of bits. */
export function cpusOf(bits: number): number[] {
  return Array.from({ length: CPUS_MAX }, (_, cpu) => cpu).filter((cpu) => (bits >>> cpu) & 1)
}

export function bitsOf(cpus: Iterable<number>): number {
  let bits = 0
  for (const cpu of cpus) bits |= 1 << cpu
  return bits
}

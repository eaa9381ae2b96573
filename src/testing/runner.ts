/** One CPU of an execution: what runs on it, what that wants to do next, what it has seen. */

import { Bus, type Access, type Program } from './access.ts'
import { mix } from './hash.ts'

/** What a frame is up to. */
export type Status = 'ready' | 'waiting' | 'paused' | 'ended' | 'dead'

/** A program in progress: the CPU's own, or an interrupt in the middle of it. */
export class Frame {
  readonly program: Generator<Access, void, number>
  /** What it wants to do next. */
  access: Access
  status: Status = 'ready'
  /** Changes of memory by others since its last pause. A pause sleeps only if there was none. */
  news = 0
  /** How its wait has ended while an interrupt kept it from going on; undefined: it has not. */
  result: number | undefined

  constructor(program: Program) {
    const bus = new Bus()
    this.access = bus
    this.program = program(bus)
  }
}

const INTERRUPTED = 0x49
const RETURNED = 0x52
const STATUS_HASH: Readonly<Record<Status, number>> = {
  ready: 1,
  waiting: 2,
  paused: 3,
  ended: 4,
  dead: 5,
}

/** One CPU. */
export class Runner {
  /** What runs: an interrupt, if there is one. */
  frame: Frame
  /** What the interrupt has interrupted. Interrupts do not nest. */
  outer: Frame | undefined
  /** A hash of everything that was read here: what comes next follows from that. */
  #seen = 1

  constructor(program: Program) {
    this.frame = new Frame(program)
  }

  /** Takes note of what was read. */
  saw(value: number): void {
    this.#seen = mix(this.#seen, value)
  }

  /** Begins an interrupt. */
  interrupt(program: Program): void {
    this.outer = this.frame
    this.frame = new Frame(program)
    this.saw(INTERRUPTED)
  }

  /**
   * Ends it. Gives with what the interrupted program goes on, or undefined: it still waits, or has
   * still to make its access. One that spins looks again: the interrupt may have done something.
   */
  return(): number | undefined {
    const outer = this.outer!
    this.outer = undefined
    this.frame = outer
    this.saw(RETURNED)
    if (outer.status === 'paused') {
      outer.status = 'ready'
      return 0
    }
    const { result } = outer
    outer.result = undefined
    return result
  }

  /** Whether anything can still happen here. */
  get isAlive(): boolean {
    return this.frame.status !== 'ended' && this.frame.status !== 'dead'
  }

  /** Both frames, or the one. */
  get frames(): readonly Frame[] {
    return this.outer === undefined ? [this.frame] : [this.frame, this.outer]
  }

  /** Two numbers that identify what this CPU is up to. */
  key(): readonly [number, number] {
    const { frame, outer } = this
    let low = frame.news === 0 ? this.#seen : ~this.#seen
    let high = this.#seen ^ 0x2545f491 ^ (STATUS_HASH[frame.status] << 8)
    if (outer !== undefined) {
      low = mix(low, outer.news === 0 ? 1 : 2)
      high = mix(high, STATUS_HASH[outer.status] + (outer.result ?? 7) * 8)
    }
    return [low, high]
  }
}

/** What is explored: a few programs on one memory, and what must hold of it. */

import type { Program } from './access.ts'

/** Told of what the program that runs now does without yielding it. */
export interface Watch {
  /** It has read this: a plain read. */
  readonly saw: (value: number) => void
  /** It has changed the word `at`, which was `old`. */
  readonly wrote: (at: number, old: number) => void
  /** Whose program runs now; -1 between two steps. */
  readonly running: () => number
  /** Something from outside wakes a CPU that waits, as an event does; gives `WAIT_RESULT.ok`. */
  readonly wake: (cpu: number) => void
}

/** The programs of one run and what watches them. Made anew for each schedule. */
export interface Setup {
  /** The memory, if it is not the one that `setup` was given: of code that makes its own. */
  readonly memory?: Int32Array
  /** One program per CPU. */
  readonly cpus: readonly Program[]
  /** Looked at after every access: a sentence that says what is broken, or nothing. */
  readonly invariant?: () => string | undefined
  /** What an interrupt does on a CPU: see `Scenario.interruptible`. */
  readonly interrupt?: (cpu: number) => Program
  /** Told that a CPU has died, when it has. */
  readonly onDeath?: (cpu: number) => void
  /** Looked at when every program has ended, or is dead. */
  readonly atEnd?: () => string | undefined
}

/** Something to explore. */
export interface Scenario {
  readonly name: string
  /** Words of shared memory; all are 0 before `setup` changes them. Default: 0. */
  readonly words?: number
  /**
   * Prepares the memory and gives the programs. Must do the same each time. What the programs share
   * must be in the memory: the explorer takes two moments for one if memory and everything that each
   * program has read are the same. Of what a program does without yielding, it tells `watch`.
   */
  readonly setup: (memory: Int32Array, watch: Watch) => Setup
  /** The name of a word, for the table of a failing schedule. */
  readonly nameOf?: (at: number) => string
  /** CPUs that may die, before any access of theirs. Default: none. */
  readonly mortal?: readonly number[]
  /**
   * CPUs that may be interrupted before any access of theirs, and while they sleep: what
   * `Setup.interrupt` gives runs in the middle of their program, and is not interrupted itself.
   * Default: none.
   */
  readonly interruptible?: readonly number[]
  /** How many interrupts may come, all together. Default: 1. */
  readonly interruptsMax?: number
  /**
   * Whether timed waits and pauses end by themselves when nobody else can go on. False: a wake-up that
   * would only be late counts as lost. Default: true.
   */
  readonly timeouts?: boolean
  /** How many of them may end earlier, while others can go on. Default: 0. */
  readonly earlyTimeouts?: number
  /** Accesses after which a run counts as a livelock. Default: 10,000. */
  readonly stepsMax?: number
}

/** Why a schedule is a failure. */
export type FailureKind = 'invariant' | 'deadlock' | 'lost wake-up' | 'livelock' | 'books' | 'error'

/** What went wrong in one schedule. */
export interface Failure {
  readonly kind: FailureKind
  readonly message: string
}

/**
 * The development mode of handlers (`checkHandlers`): finds out which of them break the rules, where
 * that can be seen. As the kernel's might_sleep and lockdep, `kernel/sched/core.c` and
 * `kernel/locking/lockdep.c`: they look at what happens, and say it at once.
 *
 * To see what a handler blocks on, and which lock it spins on, it stands in for the operations that
 * programs do on shared words. This file is loaded, and anything replaced, only where it is asked for.
 */

import { IpiError } from '../base/errors.ts'
import { atomics } from '../hardware/memory.ts'
import type { Cpu } from './cpu.ts'

/**
 * Which rule was broken: `async`: it returned a promise; `blocks`: it blocked in `Atomics.wait`; `lock`: it
 * waited for a lock that the code it interrupted holds; `slow`: it ran for longer than
 * `handlerBudgetMs`; `timer`: it started a timer in the middle of other JavaScript.
 */
export type HandlerRule = 'async' | 'blocks' | 'lock' | 'slow' | 'timer'

/** A handler that broke a rule: docs/interrupting.md and docs/interrupt-context.md have them. */
export interface HandlerViolation {
  readonly rule: HandlerRule
  readonly cpu: number
  /** The shared function, or the name that `requestIrq` or `registerNmiHandler` was given. */
  readonly name: string
  readonly vector: number
  /** Whether it ran in the middle of other JavaScript. */
  readonly forced: boolean
  /** What it did, and what to do instead, in one sentence. */
  readonly message: string
  /** Where; empty for what was seen only when it had returned. */
  readonly stack: string
}

/** A handler that runs. */
interface Running {
  readonly name: string
  readonly vector: number
  readonly start: number
  /** What handlers that came into it took. */
  nestedMs: number
}

/** What this thread wrote into a word to take it, as a lock is taken, and how deep in handlers. */
interface Taken {
  readonly depth: number
  readonly value: unknown
}

type Words = {
  readonly buffer: object
  readonly byteOffset: number
  readonly BYTES_PER_ELEMENT: number
}
type Operation = (words: Words, index: number, ...rest: unknown[]) => unknown

/** The frame by which a handler was called: its own are above. */
const HANDLER_END = /\b(?:runSharedFunction|doIrq|Nmi\.run)\b/
/** What stands between them and those of what was interrupted. */
const INTERRUPT = '    at <interrupt>'
/** Frames of what was interrupted, at most. */
const FRAMES_MAX = 16

/** V8's, and others' by now. */
declare function captureStackTrace(into: object, below: object): void

/** Looks in a row at one taken word that did not change: then it spins. */
const SPINS_MAX = 100_000
/** Operations that take a lock if they change the word to what they were given; the place of that. */
const TAKING = { compareExchange: 3, exchange: 2 } as const
/** Operations after which this thread holds it no more. */
const RELEASING = ['store', 'add', 'sub', 'and', 'or', 'xor'] as const
const TIMERS = ['setTimeout', 'setInterval'] as const

/** Watches the handlers of one CPU. Private to its thread. */
export class HandlerChecks {
  readonly #cpu: Cpu
  readonly #budgetMs: number
  readonly #report: (violation: HandlerViolation) => void
  readonly #running: Running[] = []
  readonly #taken = new WeakMap<object, Map<number, Taken>>()
  readonly #undo: (() => void)[] = []
  /** What the program called that this stands in for: frames above it are ours. */
  #called: object = HandlerChecks
  #spinsOn: Taken | undefined
  #spins = 0

  constructor(cpu: Cpu, budgetMs: number, report: (violation: HandlerViolation) => void) {
    this.#cpu = cpu
    this.#budgetMs = budgetMs
    this.#report = report
    for (const [name, place] of Object.entries(TAKING)) this.#watchTaking(name, place)
    for (const name of RELEASING) this.#watchReleasing(name)
    this.#replace(atomics, 'load', (run) => (words, index) => {
      const value = run(words, index)
      this.#lookAt(words, index, value)
      return value
    })
    this.#replace(atomics, 'wait', (run) => (words, index, value, ...rest) => {
      this.#beforeWait(words, index, value)
      return run(words, index, value, ...rest)
    })
    for (const name of TIMERS) this.#watchTimer(name)
  }

  /** Puts everything back. */
  stop(): void {
    for (const undo of this.#undo) undo()
  }

  /** A handler begins. */
  enter(name: string, vector: number): void {
    this.#spinsOn = undefined
    this.#running.push({ name, vector, start: this.#cpu.platform.now(), nestedMs: 0 })
  }

  /** It has ended, however. */
  leave(): void {
    const ended = this.#running.pop()!
    const tookMs = this.#cpu.platform.now() - ended.start
    const outer = this.#running.at(-1)
    if (outer !== undefined) outer.nestedMs += tookMs
    const ownMs = tookMs - ended.nestedMs
    if (ownMs <= this.#budgetMs || isOurs(ended)) return
    this.#tell(
      ended,
      'slow',
      `ran for ${ownMs.toFixed(1)} ms, and its budget is ${this.#budgetMs} ms (handlerBudgetMs): ` +
        'nothing else comes in meanwhile; begin the work with setImmediate, or in a softirq',
    )
  }

  /** It has returned a promise. */
  onPromise(): void {
    const message =
      'returned a promise: what it awaits comes after the interrupt; begin it with setImmediate'
    this.#tell(this.#running.at(-1)!, 'async', message)
  }

  #watchTaking(name: string, place: number): void {
    this.#replace(atomics, name, (run) => (...args) => {
      const found = run(...args)
      const [words, index] = args
      // compareExchange took it if it found what it expected; exchange if there was something else.
      const isTaken = place === 3 ? found === args[2] : found !== args[2]
      if (isTaken) this.#note(words, index, { depth: this.#running.length, value: args[place] })
      else this.#lookAt(words, index, found)
      return found
    })
  }

  #watchReleasing(name: string): void {
    this.#replace(atomics, name, (run) => (words, index, value) => {
      this.#taken.get(words.buffer)?.delete(addressOf(words, index))
      return run(words, index, value)
    })
  }

  #watchTimer(name: string): void {
    this.#replace(globalThis, name, (run) => (...args) => {
      const handler = this.#running.at(-1)
      if (handler !== undefined && this.#cpu.core.isForced) {
        const message =
          `called ${name} in the middle of other JavaScript, which may be in the middle of ${name} ` +
          'itself; use setImmediate or queueMicrotask'
        this.#tell(handler, 'timer', message, this.#here())
      }
      return run(...args)
    })
  }

  #note(words: Words, index: number, taken: Taken): void {
    let ofBuffer = this.#taken.get(words.buffer)
    if (ofBuffer === undefined) this.#taken.set(words.buffer, (ofBuffer = new Map<number, Taken>()))
    ofBuffer.set(addressOf(words, index), taken)
  }

  /** The lock that stands in a word, if code below the running handler holds it. */
  #heldBelow(words: Words, index: number, value: unknown): Taken | undefined {
    const taken = this.#taken.get(words.buffer)?.get(addressOf(words, index))
    return taken?.value === value && taken!.depth < this.#running.length ? taken : undefined
  }

  /** A handler has found `value` where it would rather find something else, perhaps. */
  #lookAt(words: Words, index: number, value: unknown): void {
    if (this.#running.length === 0) return
    const taken = this.#heldBelow(words, index, value)
    if (taken === undefined || taken !== this.#spinsOn) {
      this.#spinsOn = taken
      this.#spins = 0
    } else if (++this.#spins === SPINS_MAX) {
      this.#refuseLock(index, 'spins on')
    }
  }

  #beforeWait(words: Words, index: number, value: unknown): void {
    const handler = this.#running.at(-1)
    if (handler === undefined) return
    if (this.#heldBelow(words, index, value) !== undefined) this.#refuseLock(index, 'waits for')
    const message =
      'blocks in a wait on shared memory: nothing else comes in meanwhile, and if the other thread needs this one, ' +
      'neither goes on; return, and let it call back'
    this.#tell(handler, 'blocks', message, this.#here())
  }

  /** It would never end: what holds the lock goes on when this handler has returned. */
  #refuseLock(index: number, does: string): never {
    const handler = this.#running.at(-1)!
    const message =
      `${does} word ${index}, a lock that the code it interrupted holds, and which goes on only when it ` +
      'has returned; try, and give up, or turn interrupts off where the lock is held'
    const text = this.#tell(handler, 'lock', message, this.#here())
    throw new IpiError('IPI_WOULD_DEADLOCK', text, { cpu: this.#cpu.id, vector: handler.vector })
  }

  /** The frames of the handler, and those of what it came into. */
  #here(): string {
    const trace = { stack: '' }
    const capture = Reflect.get(Error, 'captureStackTrace') as typeof captureStackTrace | undefined
    capture?.(trace, this.#called)
    const frames = trace.stack.split('\n').slice(1)
    const end = frames.findIndex((frame) => HANDLER_END.test(frame))
    const below = this.#cpu.platform.forced?.captureStack(FRAMES_MAX) ?? ''
    return [...frames.slice(0, end < 0 ? frames.length : end), INTERRUPT, below]
      .join('\n')
      .trimEnd()
  }

  #tell(handler: Running, rule: HandlerRule, what: string, stack = ''): string {
    const { id, core } = this.#cpu
    const { name, vector } = handler
    const message = `the handler "${name}" (vector ${vector}) of CPU ${id} ${what}`
    this.#report({ rule, cpu: id, name, vector, forced: core.isForced, message, stack })
    return message
  }

  #replace(holder: object, name: string, around: (run: Operation) => Operation): void {
    const original = Reflect.get(holder, name) as Operation
    const operation = around((...args) => Reflect.apply(original, holder, args))
    const replacement: Operation = (...args) => {
      this.#called = replacement
      return operation(...args)
    }
    // Such as the form of setTimeout that promises, which stands under a symbol.
    Object.defineProperties(replacement, Object.getOwnPropertyDescriptors(original))
    Reflect.set(holder, name, replacement)
    this.#undo.push(() => {
      if (Reflect.get(holder, name) === replacement) Reflect.set(holder, name, original)
    })
  }
}

function addressOf(words: Words, index: number): number {
  return words.byteOffset + index * words.BYTES_PER_ELEMENT
}

/** Those of this library itself: to stand still for long may be what they are for. */
function isOurs({ name }: Running): boolean {
  return name.startsWith('interprocessor.')
}

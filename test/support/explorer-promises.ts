/**
 * Promises for instrumented code: their jobs are run by the event loop of an explored thread, and may
 * yield accesses, as everything else there. `await` takes one job, whatever it awaits.
 */

import type { Access } from '../../src/testing.ts'

/** Something to be run by an event loop: it may give a generator. */
export type Job = () => unknown

/** The class of all generators. */
export const $Gen = function (): void {} as unknown as {
  new (): Generator<Access, unknown, number>
}
Object.defineProperty($Gen, 'prototype', {
  value: Object.getPrototypeOf(function* () {}).prototype as object,
})

/** Where jobs go: the microtask queue of the thread that runs. The machine binds it. */
let enqueue: (job: Job) => void = (job) => void job()
/** Rejections that nobody has looked at. */
const unhandled = new Set<$Promise>()

/** Forgets everything, and sends jobs elsewhere. */
export function usePromises(queue: (job: Job) => void): void {
  enqueue = queue
  unhandled.clear()
}

/** Why a promise was rejected that nobody looks at, if there is one: it would end its thread. */
export function unhandledRejection(): unknown {
  for (const { reason } of unhandled) return reason
  return undefined
}

type Resolve = (value?: unknown) => void

/** A promise. */
export class $Promise {
  #state: 'pending' | 'fulfilled' | 'rejected' = 'pending'
  #value: unknown
  readonly #reactions: (() => void)[] = []

  constructor(executor: (resolve: Resolve, reject: (reason: unknown) => void) => void) {
    executor(
      (value) => this.#resolve(value),
      (reason) => this.#settle('rejected', reason),
    )
  }

  /** What it was rejected with. */
  get reason(): unknown {
    return this.#value
  }

  #resolve(value: unknown): void {
    if (value instanceof $Promise) {
      value.then(
        (its) => this.#settle('fulfilled', its),
        (reason) => this.#settle('rejected', reason),
      )
    } else {
      this.#settle('fulfilled', value)
    }
  }

  #settle(state: 'fulfilled' | 'rejected', value: unknown): void {
    if (this.#state !== 'pending') return
    this.#state = state
    this.#value = value
    if (state === 'rejected' && this.#reactions.length === 0) unhandled.add(this)
    for (const reaction of this.#reactions) reaction()
  }

  // oxlint-disable-next-line unicorn/no-thenable -- it is a promise
  then(onFulfilled?: Resolve | null, onRejected?: Resolve | null): $Promise {
    return new $Promise((resolve, reject) => {
      const react = (): void => {
        const fulfilled = this.#state === 'fulfilled'
        const handler = fulfilled ? onFulfilled : onRejected
        const value = this.#value
        enqueue(function* (): Generator<Access, void, number> {
          if (handler === undefined || handler === null) {
            if (fulfilled) resolve(value)
            else reject(value)
            return
          }
          try {
            const result: unknown = handler(value)
            resolve(result instanceof $Gen ? yield* result : result)
          } catch (error) {
            reject(error)
          }
        })
      }
      unhandled.delete(this)
      if (this.#state === 'pending') this.#reactions.push(react)
      else react()
    })
  }

  catch(onRejected: Resolve): $Promise {
    return this.then(undefined, onRejected)
  }

  finally(onEnd: () => unknown): $Promise {
    return this.then(
      (value) => (onEnd(), value),
      (reason) => {
        onEnd()
        throw reason
      },
    )
  }

  static resolve(value?: unknown): $Promise {
    return value instanceof $Promise ? value : new $Promise((resolve) => resolve(value))
  }

  static reject(reason: unknown): $Promise {
    return new $Promise((_resolve, reject) => reject(reason))
  }
}

/** What an async function yields where it awaits: not an access. */
class Await {
  readonly promise: $Promise

  constructor(value: unknown) {
    this.promise = $Promise.resolve(value)
  }
}

/** `await value`. */
export function* $await<T>(value: T): Generator<Access, Awaited<T>, number> {
  return (yield new Await(value) as unknown as Access) as Awaited<T>
}

type Body = Generator<Access, unknown, unknown>

/** An async function, from its first statement to its first await; gives its promise. */
export function* $async(body: () => unknown): Generator<Access, $Promise, number> {
  let resolve!: Resolve
  let reject!: Resolve
  const promise = new $Promise((...both) => ([resolve, reject] = both))
  const program = body() as Body
  yield* advance(program, () => program.next(), resolve, reject)
  return promise
}

function* advance(
  program: Body,
  start: () => IteratorResult<Access, unknown>,
  resolve: Resolve,
  reject: Resolve,
): Generator<Access, void, number> {
  try {
    let step = start()
    while (step.done !== true) {
      if (step.value instanceof Await) {
        const goOn = (next: (value: unknown) => IteratorResult<Access, unknown>): Resolve => {
          return (value) => advance(program, () => next(value), resolve, reject)
        }
        step.value.promise.then(
          goOn((value) => program.next(value)),
          goOn((reason) => program.throw(reason)),
        )
        return
      }
      step = program.next(yield step.value)
    }
    resolve(step.value)
  } catch (error) {
    reject(error)
  }
}

/**
 * Aborting what a worker runs, and keeping the worker: it runs below a `Runtime.evaluate` of the
 * thread's own inspector session, which is where V8 stops a termination that the inspector asked for.
 * The end of the thread itself goes through it. No `finally` runs below; what Node has of the task is
 * put right here. docs/interrupting.md has the measurements, and what goes wrong otherwise.
 */

import { AsyncResource, executionAsyncId } from 'node:async_hooks'
import { Session } from 'node:inspector'
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads'
import { wait } from '../hardware/memory.ts'
import type { AbortGuard, EntryPlace, GuardEnd } from '../hardware/platform.ts'
import { captureSites, GUARD } from './node-stack.ts'

/** Where the inspector finds what it is to run. */
const RUN = Symbol.for('interprocessor.guard')
/** The function of Node's that V8 calls for the text of a stack (`lib/internal/errors.js`). */
const STACK_WRITER = 'prepareStackTraceCallback'
/** Always the same text: V8 compiles it once. */
const EVALUATE = {
  expression: 'globalThis[Symbol.for("interprocessor.guard")]()',
  silent: true,
}

/** The guards of one worker: one session serves all. */
export class NodeGuard implements AbortGuard {
  readonly #session = new Session()
  readonly #library: string
  #loop: () => void = () => undefined
  #isComplete = false
  #error: { readonly thrown: unknown } | undefined

  /** `library`: the beginning of the names of this library's own files. */
  constructor(library: string) {
    this.#library = library
    this.#session.connect()
    const runLoop = (): void => this.#runLoop()
    // A method: it is known by its name in a stack, and bundlers keep those.
    const guard = {
      interprocessorGuard(this: void): void {
        runLoop()
      },
    }
    Object.defineProperty(globalThis, RUN, { value: guard.interprocessorGuard, configurable: true })
  }

  #runLoop(): void {
    this.#isComplete = false
    try {
      this.#loop()
    } catch (error) {
      this.#error = { thrown: error }
    }
    this.#isComplete = true
  }

  run(loop: () => void): GuardEnd {
    const outer = this.#loop
    this.#loop = loop
    this.#isComplete = false
    this.#error = undefined
    // What an AsyncLocalStorage was told below does not outlive it.
    const scope = new AsyncResource('interprocessor.guard')
    const end = scope.runInAsyncScope(() => this.#evaluate(scope.asyncId()))
    this.#loop = outer
    const error = this.#error as { readonly thrown: unknown } | undefined
    this.#error = undefined
    if (error !== undefined && end === 'returned') throw error.thrown
    return end
  }

  #evaluate(asyncId: number): GuardEnd {
    this.#session.post('Runtime.evaluate', EVALUATE)
    if (this.#isComplete) {
      // Of the guard around this one nothing is known yet.
      this.#isComplete = false
      return 'returned'
    }
    // Both may have been asked for, and one termination be left of two.
    if (isThreadEnding()) this.#endThread()
    return executionAsyncId() === asyncId || clearAsyncIds() ? 'aborted' : 'damaged'
  }

  /** Ends what the innermost guard runs, at the next call there. To be called last of all. */
  abort(): void {
    this.#session.post('Runtime.terminateExecution')
  }

  #endThread(): never {
    this.abort()
    const nobody = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
    for (;;) wait(nobody, 0, 0, Infinity)
  }

  /**
   * From the newest frame on: code of Node's own, which may be in the middle of anything; or of this
   * library, and somebody called it who is to be aborted; else the task's own. What it calls of Node that
   * calls it back, an emitter or a sort, bears that.
   */
  place(): EntryPlace {
    let first: EntryPlace | undefined
    let isOurs = false
    for (const { name, file } of captureSites()) {
      if (name.includes(GUARD)) return first ?? 'library'
      // What is built into the engine stops between calls only; and so does what it calls to write a stack,
      // which has not begun as long as it has called nothing.
      if (file === undefined || (first === undefined && name === STACK_WRITER)) continue
      const place = this.#placeOf(file)
      first ??= place
      if (place === 'library') isOurs = true
      else if (place === 'task' && isOurs) return 'library'
    }
    return 'library'
  }

  #placeOf(file: string): EntryPlace {
    if (file.startsWith('node:')) return 'environment'
    return file.startsWith(this.#library) ? 'library' : 'task'
  }
}

/**
 * Whether the end of this thread was asked for: then Node gives nothing for a message that is there
 * (`src/node_messaging.cc`, MessagePort::ReceiveMessage: can_call_into_js).
 */
function isThreadEnding(): boolean {
  try {
    const { port1, port2 } = new MessageChannel()
    port1.postMessage(true)
    const received = receiveMessageOnPort(port2)
    port1.close()
    return received?.message !== true
  } catch {
    return true
  }
}

/**
 * Async scopes that were aborted are on Node's stack of them still, and it would end the process over
 * that. It clears that stack when it has an uncaught error: so it gets one. Gives whether it could.
 */
function clearAsyncIds(): boolean {
  const ours = new Error('interprocessor: a task was aborted')
  const { _fatalException: handle } = process as unknown as {
    _fatalException?: (error: Error) => unknown
  }
  if (handle === undefined || process.hasUncaughtExceptionCaptureCallback()) return false
  try {
    process.setUncaughtExceptionCaptureCallback((error) => {
      if (error !== ours) throw error
    })
  } catch {
    // node:domain is loaded, and has it.
    return false
  }
  try {
    handle.call(process, ours)
  } finally {
    process.setUncaughtExceptionCaptureCallback(null)
  }
  return true
}

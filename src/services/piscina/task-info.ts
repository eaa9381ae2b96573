/** A task on its way: what is to be run, who waits for it, and how it may be aborted. */

import { AsyncResource } from 'node:async_hooks'
import type { EventEmitter } from 'node:events'
import { moveOf } from './movable.ts'
import { queueOptionsSymbol, type PiscinaTask } from './task-queues.ts'

/** A signal: an AbortSignal, or whatever else emits `abort`. */
export type AbortSignalAny =
  | (EventTarget & { readonly aborted?: boolean; readonly reason?: unknown })
  | (Pick<EventEmitter, 'once' | 'off'> & { readonly aborted?: boolean; readonly reason?: unknown })

/** Where a task runs. */
export interface TaskHolder {
  /** Ends a task whose caller has been told that it was aborted. */
  cancel(task: TaskInfo): void
}

/** What a task that was aborted rejects with. */
export class AbortError extends Error {
  override readonly name = 'AbortError'

  constructor(reason: unknown) {
    super('The task has been aborted', { cause: reason })
  }
}

/** What a task is made of. */
export interface TaskParts {
  readonly task: unknown
  readonly transferList: readonly unknown[]
  readonly filename: string
  readonly name: string
  readonly signal: AbortSignalAny | null
  readonly triggerAsyncId: number
}

let lastId = 0

/** One task. An AsyncResource, so that whoever waits for it keeps his async context. */
export class TaskInfo extends AsyncResource implements PiscinaTask {
  readonly taskId = lastId++
  readonly task: unknown
  readonly transferList: readonly unknown[]
  readonly filename: string
  readonly name: string
  readonly signal: AbortSignalAny | null
  readonly created = performance.now()
  readonly [queueOptionsSymbol]: object | null
  /** When a thread got it, on the same clock; 0 as long as it waits. */
  started = 0
  /** The thread that has it. */
  holder: TaskHolder | undefined
  isDone = false
  readonly #settle: (isFailed: boolean, outcome: unknown) => void
  #forgetSignal: (() => void) | undefined

  /** `settle` is called once, with an error or a result. */
  constructor(parts: TaskParts, settle: (isFailed: boolean, outcome: unknown) => void) {
    super('Piscina.Task', { requireManualDestroy: true, triggerAsyncId: parts.triggerAsyncId })
    const moved = moveOf(parts.task)
    this.task = moved === undefined ? parts.task : moved.value
    this.transferList =
      moved === undefined ? parts.transferList : [...parts.transferList, ...moved.transfer]
    this.filename = parts.filename
    this.name = parts.name
    this.signal = parts.signal
    this[queueOptionsSymbol] = queueOptionsOf(this.task)
    this.#settle = settle
  }

  get isAbortable(): boolean {
    return this.signal !== null
  }

  /** Calls `listener` when the signal says so, unless the task is done by then. */
  onAbort(listener: () => void): void {
    const { signal } = this
    if (signal === null) return
    if ('addEventListener' in signal) {
      signal.addEventListener('abort', listener, { once: true })
      this.#forgetSignal = () => signal.removeEventListener('abort', listener)
    } else {
      signal.once('abort', listener)
      this.#forgetSignal = () => void signal.off('abort', listener)
    }
  }

  /** Ends it with a result, unless it has ended. */
  done(result: unknown): void {
    this.#end(false, result)
  }

  /** Ends it with an error, unless it has ended. */
  fail(error: unknown): void {
    this.#end(true, error)
  }

  #end(isFailed: boolean, outcome: unknown): void {
    if (this.isDone) return
    this.isDone = true
    this.runInAsyncScope(this.#settle, undefined, isFailed, outcome)
    this.emitDestroy()
    this.#forgetSignal?.()
  }
}

function queueOptionsOf(task: unknown): object | null {
  if (typeof task !== 'object' || task === null) return null
  return (task as { [queueOptionsSymbol]?: object | null })[queueOptionsSymbol] ?? null
}

/** Node's side of the platform port: worker threads, message ports, timers, diagnostics channels. */

import { channel, type Channel } from 'node:diagnostics_channel'
import { availableParallelism } from 'node:os'
import { pathToFileURL } from 'node:url'
import { isAbsolute } from 'node:path'
import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  Worker,
  type TransferListItem,
} from 'node:worker_threads'
import { IpiError } from '../base/errors.ts'
import { wait } from '../hardware/memory.ts'
import type { Platform, Port, Thread, ThreadRequest, Timer } from '../hardware/platform.ts'
import { now } from './node-clock.ts'
import { NodeForcedEntry } from './node-forced.ts'
import { NodeThread } from './node-thread.ts'

// As they are now: a program's tests may put others in their place.
const { setImmediate, setTimeout, clearTimeout, setInterval } = globalThis

const STDERR = 2
/** The longest timer that Node takes; longer ones it fires at once. */
const TIMER_MS_MAX = 0x7fffffff

/** A message port that is only ever asked, never listened to. */
class NodePort implements Port {
  readonly transferable: MessagePort

  constructor(port: MessagePort) {
    this.transferable = port
    port.unref()
  }

  send(value: unknown, transfer: readonly unknown[] = []): void {
    this.transferable.postMessage(value, transfer as TransferListItem[])
  }

  receive(): { readonly value: unknown } | undefined {
    const received = receiveMessageOnPort(this.transferable)
    if (received === undefined) return undefined
    if (received.message === undefined) awaitTermination()
    return { value: received.message }
  }

  close(): void {
    this.transferable.close()
  }
}

/**
 * Every message of this library is an object. Node gives `undefined` for one where the end of this
 * thread has been asked for and its JavaScript has not been stopped yet (`src/node_messaging.cc`,
 * MessagePort::ReceiveMessage: can_call_into_js). What comes next would act on a message that is lost:
 * so nothing comes next.
 */
function awaitTermination(): never {
  const word = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
  for (;;) wait(word, 0, 0, Infinity)
}

/** The platform of the calling Node thread. `threadScript` is what threads of its own start with. */
export function nodePlatform(threadScript: URL): Platform {
  let keeper: NodeJS.Timeout | undefined
  const forced = new NodeForcedEntry(new URL('.', threadScript).href)
  const addThread = (worker: Worker): Thread => {
    forced.addWorker(worker)
    return new NodeThread(worker)
  }
  return {
    forced,
    now,
    mayBlock: true,
    processors: availableParallelism(),
    startTimer,
    defer: (callback) => void setImmediate(callback),
    sleptMs: () => performance.eventLoopUtilization().idle,
    keepAlive: (alive) => {
      keeper ??= setInterval(() => undefined, TIMER_MS_MAX)
      if (alive) keeper.ref()
      else keeper.unref()
    },
    createChannel: () => {
      const { port1, port2 } = new MessageChannel()
      return [new NodePort(port1), new NodePort(port2)]
    },
    adoptPort: (transferred) => new NodePort(transferred as MessagePort),
    startThread: (request) => addThread(startWorker(threadScript, request)),
    adoptThread: (worker) => addThread(checkWorker(worker)),
    importModule: async (url) => (await import(moduleUrl(url))) as Record<string, unknown>,
    createAbortController: () => new AbortController(),
    isCloneable,
    warn: (message) => process.emitWarning(message, { type: 'InterprocessorWarning' }),
    warnNow: (message) => {
      // What console or process.emitWarning of a worker prints goes through the main thread.
      process.getBuiltinModule('node:fs').writeSync(STDERR, `(node:${process.pid}) ${message}\n`)
    },
    onThreadExit: (callback) => {
      process.once('exit', callback)
      return () => void process.off('exit', callback)
    },
    isObserved: (event) => observersOf(event).hasSubscribers,
    publish: (event, details) => {
      const observers = observersOf(event)
      if (observers.hasSubscribers) observers.publish(details)
    },
  }
}

function observersOf(event: string): Channel {
  return channel(`interprocessor:${event}`)
}

function startTimer(delayMs: number, callback: () => void): Timer {
  const timer = setTimeout(callback, Math.min(delayMs, TIMER_MS_MAX))
  timer.unref()
  return { cancel: () => clearTimeout(timer) }
}

function startWorker(script: URL, { name, entry, workerOptions }: ThreadRequest): Worker {
  const worker = new Worker(script, {
    name,
    ...workerOptions,
    workerData: { entry: entry === undefined ? undefined : moduleUrl(entry) },
  })
  // A program whose own work is done ends, and its threads with it.
  worker.unref()
  return worker
}

/** A module by URL or absolute path, as `import()` wants it. */
function moduleUrl(entry: string): string {
  return isAbsolute(entry) ? pathToFileURL(entry).href : entry
}

function checkWorker(worker: unknown): Worker {
  // A thread that has ended has no number any more.
  if (worker instanceof Worker && worker.threadId >= 0) return worker
  throw new IpiError(
    'IPI_INVALID_ARGUMENT',
    `bringUp needs a Worker of node:worker_threads that has not ended, got ${String(worker)}`,
  )
}

function isCloneable(value: unknown): boolean {
  try {
    structuredClone(value)
    return true
  } catch {
    return false
  }
}

/**
 * The platform port: everything the lower rooms need from the world around them. `platform/node.ts`
 * is the Node side; whoever brings another environment implements this and nothing else.
 */

/** One end of a channel between two threads, read only when somebody looks. */
export interface Port {
  /** Sends a structured clone; throws the environment's DataCloneError for what cannot be cloned. */
  send(value: unknown, transfer?: readonly unknown[]): void
  /** Takes the oldest message that has arrived, or undefined. Never waits. */
  receive(): { readonly value: unknown } | undefined
  /** Closes both ends. */
  close(): void
  /** What to put into the transfer list when this end is sent to another thread. */
  readonly transferable: unknown
}

/** A thread that was started to become a CPU. */
export interface Thread {
  /** What samples know it by. */
  readonly threadId: number
  /** Sends a message to the thread, before or after it attached. */
  post(value: unknown, transfer: readonly unknown[]): void
  /** Ends the thread, however busy it is; resolves once it is gone. */
  terminate(): Promise<void>
  /** Whether the thread was seen alive, asked without an event loop turn. */
  isAlive(): boolean
  /** Calls back once, when the thread is gone, with the error that ended it if there was one. */
  onExit(callback: (error: unknown) => void): void
}

/** A pending timer. */
export interface Timer {
  /** Makes the timer never fire. */
  cancel(): void
}

/**
 * What becomes of what a forced entry has interrupted: it goes on; it is aborted; or it was to be aborted,
 * and goes on, because it is in the middle of something that must not be torn now.
 */
export type EntryEnd = 'goesOn' | 'abort' | 'spared'

/**
 * Forced entry: running something in a thread in the middle of other JavaScript. All of it goes
 * through the thread that made the machine, which alone holds its `Thread`s.
 */
export interface ForcedEntryPort {
  /** Why this environment has none, or undefined. */
  readonly missing: string | undefined
  /** Whether this thread can enter others, and be asked to. */
  readonly relays: boolean
  /**
   * From now on this thread can be entered: `enter` is called in the middle of whatever it runs, once
   * for each time that somebody has it entered, never within itself. It says what becomes of what was
   * interrupted; if a termination hits nothing but an entry, `enter` is called once more. Where this
   * thread relays, `relay` is called in the same way with what others `ask` for. Gives a function that
   * ends it, and with it all that was opened for it.
   */
  accept(enter: () => EntryEnd, relay: (cpu: number) => void): () => void
  /** What a thread needs to abort its own JavaScript; undefined where that cannot be. */
  loadGuard(): Promise<AbortGuard | undefined>
  /** Has a thread entered, busy or blocked; gives whether it can be reached. Any context. */
  enter(thread: Thread): boolean
  /** Asks the thread that made the machine to enter another CPU, or itself. Any context. */
  ask(cpu: number): void
  /**
   * The JavaScript that the interrupt interrupted in whose handler this is called: a line per frame,
   * newest first, at most `limit`. Empty if none was running.
   */
  captureStack(limit: number): string
  /**
   * Samples the stacks of this thread, which made the machine, and of all others of the machine, every
   * `intervalMs`, for `durationMs` or until it is stopped. Resolves when it has begun.
   */
  startSampling(intervalMs: number, durationMs: number): Promise<Sampling>
  /**
   * Has the engine look for interrupts in every loop, where it would leave that out of some. Costs
   * speed in all of the process; code that is optimised already stays as it is.
   */
  pollEveryLoop(): void
}

/**
 * How what a guard ran has ended: by itself; aborted, and all is as before; or aborted, and something
 * of the environment that belongs to what was aborted could not be put right.
 */
export type GuardEnd = 'returned' | 'aborted' | 'damaged'

/** In what a forced entry has landed: in the program's own code, in the environment's, or in ours. */
export type EntryPlace = 'task' | 'environment' | 'library'

/** Lets a thread abort the JavaScript that it runs, and go on. */
export interface AbortGuard {
  /**
   * Runs `loop`. An abort that comes meanwhile ends it there and then: no `finally` below runs. Guards
   * nest; an abort ends the innermost. Throws what `loop` throws.
   */
  run(loop: () => void): GuardEnd
  /** Called below a forced entry: what is interrupted, as far as the innermost guard. */
  place(): EntryPlace
}

/** What a thread ran at one moment. */
export interface StackSample {
  /** The thread that made the machine is 0. */
  readonly threadId: number
  /** Milliseconds on one clock for all. */
  readonly atMs: number
  /** As `captureStack` gives it. */
  readonly stack: string
}

/** A sampling under way. */
export interface Sampling {
  /** Ends it; gives what there is, by time. */
  stop(): readonly StackSample[]
}

/** What makes a signal of the environment's own: `AbortController`, as far as it is needed. */
export interface AbortController {
  readonly signal: {
    readonly aborted: boolean
    readonly reason: unknown
    throwIfAborted(): void
    addEventListener(type: 'abort', listener: () => void): void
    removeEventListener(type: 'abort', listener: () => void): void
  }
  abort(reason: unknown): void
}

/** What a platform provides to one thread. */
export interface Platform {
  /** Forced entry, where the environment has anything of the kind. */
  readonly forced?: ForcedEntryPort
  /** Milliseconds on a clock that never goes back. */
  now(): number
  /** Whether this thread may block in `Atomics.wait`; false on a browser's main thread. */
  readonly mayBlock: boolean
  /** How many threads truly run at once. */
  readonly processors: number
  /** Calls back once after `delayMs`; does not keep the process alive. */
  startTimer(delayMs: number, callback: () => void): Timer
  /** Calls back in the next turn of the event loop. Keeps the process alive until then. */
  defer(callback: () => void): void
  /** How long this thread's event loop has slept so far, in milliseconds; NaN where nobody knows. */
  sleptMs(): number
  /** Keeps the thread alive, or lets it end when nothing else does. */
  keepAlive(alive: boolean): void
  /** Makes a channel. */
  createChannel(): [Port, Port]
  /** Wraps one end of a channel that arrived from another thread. */
  adoptPort(transferred: unknown): Port
  /** Starts a thread that takes the ticket that is posted to it, imports `entry` and attaches. */
  startThread(request: ThreadRequest): Thread
  /** Adopts a thread that the application has made itself. */
  adoptThread(worker: unknown): Thread
  /** Imports a module by its URL; gives what it exports. */
  importModule(url: string): Promise<Readonly<Record<string, unknown>>>
  /** Makes a signal, and what fires it. */
  createAbortController(): AbortController
  /** Whether structured clone accepts a value. */
  isCloneable(value: unknown): boolean
  /** Says something that an operator should know. */
  warn(message: string): void
  /** Says it before this returns, for the thread may never come to its event loop again. */
  warnNow(message: string): void
  /** Calls back when this thread is about to end in good order; gives a function that undoes it. */
  onThreadExit(callback: () => void): () => void
  /** Whether observers outside the library wait for an event. */
  isObserved(event: string): boolean
  /** Publishes an event for observers outside the library (diagnostics channels on Node). */
  publish(event: string, details: object): void
}

/** A thread to start. */
export interface ThreadRequest {
  readonly name: string
  /** The module that the thread imports before it takes calls: a URL or a path. */
  readonly entry: string | undefined
  /** Options handed to the environment's worker constructor unchanged. */
  readonly workerOptions: object
}

/**
 * Forced entry on Node: a message of the inspector reaches a thread in the middle of its JavaScript.
 *
 *    main thread                              a worker
 *    Session, domain NodeWorker  ---------->  Runtime.evaluate(ENTER)      to a worker
 *         ^
 *         +---- Runtime.addBinding ---------  binding('3')                 from a worker
 *
 *    evaluate(OPEN)  <---------------------  connectToMainThread, closed at once
 *         |                                                                before there is a binding
 *         +-------------- ENTER ----------->  binding('3'), as above
 *
 * One session of the main thread serves all. It is opened when it is first needed. Debugger.enable
 * would make every await ten times slower and Runtime.enable every throw by a third: neither is used.
 * A session to the main thread that stays open would hold up the exit of a process with a debugger's
 * port: none stays. docs/interrupting.md has the measurements, and what goes wrong otherwise.
 */

import type * as Inspector from 'node:inspector'
import { isMainThread, type Worker } from 'node:worker_threads'
import type {
  AbortGuard,
  EntryEnd,
  ForcedEntryPort,
  Sampling,
  Thread,
} from '../hardware/platform.ts'
import { wait } from '../hardware/memory.ts'
import type { NodeGuard } from './node-guard.ts'
import type { NodeSampler, SamplerHost } from './node-sampler.ts'
import { captureStack, markEntry, SAMPLE_ID, sampleStacks } from './node-stack.ts'
import type { NodeThread } from './node-thread.ts'

/** Where each thread keeps what its inspector is to call. */
const ENTRY = Symbol.for('interprocessor.forced')
/** The function by which a worker calls the main thread, once there is a session to it. */
const BINDING = 'interprocessor.relay'

/** What stands under ENTRY. */
interface Entry {
  /** Gives whether this thread sees by itself to a termination that an abort has asked for. */
  readonly enter: () => boolean
  /** On the main thread: attaches to the workers, which gives them their bindings. */
  readonly open: () => void
  /** Says what stack stands below, for a sampler that has begun anew or not. */
  readonly sample: (isNew?: boolean) => string
}

const thread = globalThis as unknown as {
  [ENTRY]?: Entry | undefined
  [BINDING]?: (cpu: string) => void
}

const EXPRESSION = 'globalThis[Symbol.for("interprocessor.forced")]?.'
const EVALUATE_ID = 1
/** Always the same text: V8 compiles it once. */
const ENTER = message(EVALUATE_ID, 'Runtime.evaluate', {
  expression: `${EXPRESSION}enter()`,
  silent: true,
  disableBreaks: true,
})
const OPEN = `${EXPRESSION}open()`
const ADD_BINDING = message(2, 'Runtime.addBinding', { name: BINDING })
const TERMINATE_ID = 3
const TERMINATE = message(TERMINATE_ID, 'Runtime.terminateExecution', {})
const TERMINATE_ANSWER = `{"id":${TERMINATE_ID},`
/** What a worker is asked for samples with: node-sampler.ts. */
const SAMPLE_ANSWER = `{"id":${SAMPLE_ID},`
/** What a worker answers when it was terminated meanwhile, and when it threw. */
const TERMINATED = '"error":{'
const THREW = '"exceptionDetails"'
/** What it answers when it sees to a termination by itself. */
const ABORTS = '"value":true'
const ANSWER = `{"id":${EVALUATE_ID},`
const BINDING_CALLED = '{"method":"Runtime.bindingCalled"'

/** From this Node on V8 leaves the look for interrupts out of loops around one that it has unrolled. */
const UNROLLING_NODE = 24

/** What a ticker says to the main thread by the binding. */
const TICK = 'tick'

/** How often an entry that found no room on the stack is repeated at once, and how long after that. */
const REPEATS_AT_ONCE = 16
const REPEAT_MS = 10
/** At the process's exit: how long entries that run have to end, and how often a thread is ended. */
const DRAIN_MS = 100
const DRAIN_STEP_MS = 2
const TERMINATIONS_MAX = 10

function message(id: number, method: string, params: object): string {
  return JSON.stringify({ id, method, params })
}

/** A worker that this process's session is attached to. */
interface Attached {
  readonly worker: Worker
  readonly sessionId: string
  /** Entries that it was asked for and has not answered. */
  entering: number
  /** How often the last one threw. */
  repeats: number
  /** A termination has hit one of them, and nobody knows yet whom it was meant for. */
  isTerminated: boolean
}

/** Why forced entry is not to be had; undefined where it is. Costs nothing to ask. */
function whyMissing(): string | undefined {
  const { versions, features } = process
  if (versions['bun'] !== undefined) return 'Bun has no inspector that interrupts JavaScript'
  if (versions['deno'] !== undefined) return 'Deno has no inspector sessions between threads'
  if (!features.inspector) return 'this Node was built without the inspector'
  const { permission } = process as { permission?: { has(scope: string): boolean } }
  if (permission === undefined || permission.has('inspector')) return undefined
  return 'the permission model forbids the inspector; Node 24 and later take --allow-inspector'
}

/** Loaded when it is needed: most machines never need it. */
function inspector(): typeof Inspector {
  return process.getBuiltinModule('node:inspector')
}

/** Forced entry for one thread. The main thread's holds the session; the others ask it. */
export class NodeForcedEntry implements ForcedEntryPort {
  readonly missing: string | undefined = whyMissing()
  readonly relays: boolean = isMainThread
  readonly captureStack: (limit: number) => string = captureStack
  /** Workers of this machine; all others of the process are left alone. */
  readonly #workers = new Map<number, Worker>()
  readonly #attached = new Map<string, Attached>()
  readonly #byThread = new Map<number, Attached>()
  #session: Inspector.Session | undefined
  /** Whom this worker has asked the main thread to enter while there was no binding. */
  #asked: number[] = []
  #connecting = false
  #relay: (cpu: number) => unknown = () => undefined
  #ended = false
  #sampler: NodeSampler | undefined
  /** Where this library's own files are. */
  readonly #library: string
  #guard: NodeGuard | undefined

  constructor(library: string) {
    this.#library = library
  }

  /** A worker of the machine: it may be entered from now on. */
  addWorker(worker: Worker): void {
    const { threadId } = worker
    this.#workers.set(threadId, worker)
    worker.once('exit', () => {
      this.#workers.delete(threadId)
      const attached = this.#byThread.get(threadId)
      if (attached !== undefined) this.#forget(attached)
    })
  }

  pollEveryLoop(): void {
    const [major] = process.versions.node.split('.')
    if (Number(major) >= UNROLLING_NODE)
      process.getBuiltinModule('node:v8').setFlagsFromString('--no-turboshaft-loop-unrolling')
  }

  /**
   * Not for the main thread: what enters it is a listener of its session, and the frames of that would
   * take a termination for their own.
   */
  async loadGuard(): Promise<AbortGuard | undefined> {
    if (isMainThread || this.missing !== undefined) return undefined
    const { NodeGuard } = await import('./node-guard.ts')
    return (this.#guard ??= new NodeGuard(this.#library))
  }

  accept(enter: () => EntryEnd, relay: (cpu: number) => void): () => void {
    const entered = markEntry(enter)
    const entry: Entry = {
      sample: sampleStacks(),
      enter: () => {
        this.#askNow()
        const end = entered(0)
        // As the last thing: it takes place at the next call, which must not be one of ours.
        if (end === 'abort') this.#guard?.abort()
        return end !== 'goesOn'
      },
      open: () => this.#attach(),
    }
    // A binding of an earlier machine leads nowhere now.
    Reflect.deleteProperty(thread, BINDING)
    Object.defineProperty(thread, ENTRY, { value: entry, configurable: true, writable: true })
    this.#relay = markEntry(relay)
    return () => {
      if (thread[ENTRY] === entry) Reflect.deleteProperty(thread, ENTRY)
      Reflect.deleteProperty(thread, BINDING)
      this.#close()
    }
  }

  async startSampling(intervalMs: number, durationMs: number): Promise<Sampling> {
    const { NodeSampler } = await import('./node-sampler.ts')
    this.#sampler?.stop()
    const host: SamplerHost = {
      binding: BINDING,
      attachTo: (worker) => {
        if (this.#ended) return
        this.addWorker(worker)
        this.#attach()
      },
      attached: () => this.#attached.values(),
      ask: (attached, text) => {
        const each = this.#attached.get(attached.sessionId)
        if (each !== undefined) each.entering++
        this.#send(attached.sessionId, text)
      },
    }
    const sampler = new NodeSampler(host, intervalMs, durationMs)
    this.#sampler = sampler
    await sampler.online
    return sampler
  }

  ask(cpu: number): void {
    this.#asked.push(cpu)
    if (thread[BINDING] === undefined && !this.#connecting) {
      this.#connecting = true
      // The main thread has this session for no longer than it takes to attach its own.
      const session = new (inspector().Session)()
      session.connectToMainThread()
      session.post('Runtime.evaluate', { expression: OPEN, silent: true })
      session.disconnect()
      this.#connecting = false
    }
    this.#askNow()
  }

  /**
   * Not before the session to the main thread is closed: what the main thread is entered for may be
   * what it waits for before it ends the process. Without a binding, again when there is one.
   */
  #askNow(): void {
    const binding = thread[BINDING]
    if (binding === undefined || this.#connecting) return
    for (const cpu of this.#asked.splice(0)) binding(String(cpu))
  }

  enter(thread: Thread): boolean {
    const { worker } = thread as NodeThread
    if (this.#ended || !this.#workers.has(worker.threadId)) return false
    if (!this.#byThread.has(worker.threadId)) this.#attach()
    const attached = this.#byThread.get(worker.threadId)
    if (attached === undefined) return false
    this.#enter(attached)
    return true
  }

  #enter(attached: Attached): void {
    attached.entering++
    this.#send(attached.sessionId, ENTER)
  }

  #send(sessionId: string, text: string): void {
    this.#session?.post('NodeWorker.sendMessageToWorker', { sessionId, message: text })
  }

  /**
   * Attaches to every worker of the machine that there is no session to yet, and to those that start
   * later. Node attaches to all workers of the process; the others are let go at once. It is asked only
   * once, unless the application brings up a worker that was let go: to attach anew to a worker that
   * ends just then may end the process (SIGSEGV in plain Node 20 and 26).
   */
  #attach(): void {
    if (this.#session !== undefined) this.#session.post('NodeWorker.disable')
    const session = (this.#session ??= this.#open())
    session.post('NodeWorker.enable', { waitForDebuggerOnStart: false })
  }

  #open(): Inspector.Session {
    const session = new (inspector().Session)()
    session.connect()
    session.on('NodeWorker.attachedToWorker', ({ params }) =>
      this.#onAttached(params.sessionId, params.workerInfo.title),
    )
    session.on('NodeWorker.detachedFromWorker', ({ params }) => {
      const attached = this.#attached.get(params.sessionId)
      if (attached !== undefined) this.#forget(attached)
    })
    session.on('NodeWorker.receivedMessageFromWorker', ({ params }) =>
      this.#onMessage(params.sessionId, params.message),
    )
    process.on('exit', this.#onExit)
    return session
  }

  #onAttached(sessionId: string, title: string): void {
    // "[worker 3] name"; some versions leave out the brackets.
    const threadId = Number(/^\[?worker (\d+)/i.exec(title)?.[1])
    const worker = this.#workers.get(threadId)
    if (worker === undefined || this.#byThread.has(threadId)) {
      this.#session?.post('NodeWorker.detach', { sessionId })
      return
    }
    const attached: Attached = {
      worker,
      sessionId,
      entering: 0,
      repeats: 0,
      isTerminated: false,
    }
    this.#attached.set(sessionId, attached)
    this.#byThread.set(threadId, attached)
    this.#send(sessionId, ADD_BINDING)
    // It may have asked for something that it could not say.
    this.#enter(attached)
  }

  #forget(attached: Attached): void {
    attached.entering = 0
    this.#attached.delete(attached.sessionId)
    for (const [threadId, each] of this.#byThread) {
      if (each === attached) this.#byThread.delete(threadId)
    }
  }

  /** Runs in the middle of whatever the main thread does. */
  #onMessage(sessionId: string, text: string): void {
    if (text.startsWith(BINDING_CALLED)) {
      const { params } = JSON.parse(text) as { params: { name: string; payload: string } }
      if (params.name !== BINDING || this.#ended) return
      if (params.payload === TICK) this.#sampler?.onTick()
      else this.#relay(Number(params.payload))
      return
    }
    const attached = this.#attached.get(sessionId)
    if (attached === undefined) return
    // Whoever asked for the entry that was terminated asks no more; and the thread lives, if it answers.
    if (text.startsWith(TERMINATE_ANSWER)) this.#enter(attached)
    const isSample = text.startsWith(SAMPLE_ANSWER)
    if (!isSample && !text.startsWith(ANSWER)) return
    attached.entering--
    if (isSample) this.#sampler?.onAnswer(attached, text)
    if (text.includes(TERMINATED)) {
      // Only the entry has ended, and V8 takes the termination for handled. So it is asked for once more;
      // but an abort's by the thread itself, which knows where it stands now. One that ends answers no more.
      if (attached.isTerminated) this.#send(sessionId, TERMINATE)
      else this.#enter(attached)
      attached.isTerminated = !attached.isTerminated
    } else if (isSample) {
      // One that threw found no room on the stack, and is no sample.
    } else if (text.includes(THREW)) {
      this.#repeat(attached)
    } else {
      attached.repeats = 0
      if (attached.isTerminated && !text.includes(ABORTS)) this.#send(sessionId, TERMINATE)
      attached.isTerminated = false
    }
  }

  /** There was no room on the stack. The thread goes on meanwhile, and may come back from there. */
  #repeat(attached: Attached): void {
    if (this.#ended) return
    if (attached.repeats++ < REPEATS_AT_ONCE) {
      this.#enter(attached)
      return
    }
    setTimeout(() => {
      if (this.#attached.has(attached.sessionId)) this.#enter(attached)
    }, REPEAT_MS).unref()
  }

  #close(): void {
    this.#ended = true
    this.#sampler?.stop()
    this.#sampler = undefined
    process.off('exit', this.#onExit)
    this.#session?.disconnect()
    this.#session = undefined
    this.#attached.clear()
    this.#byThread.clear()
  }

  /**
   * The process ends its workers after this, and waits for them. A termination that met an entry would
   * end only that, and the process would wait for ever: so entries end first, or are ended.
   */
  readonly #onExit = (): void => {
    this.#ended = true
    const busy = (): Attached[] => [...this.#attached.values()].filter((each) => each.entering > 0)
    const nobody = new Int32Array(new SharedArrayBuffer(4))
    // The answers come in the middle of the wait.
    const deadline = performance.now() + DRAIN_MS
    while (busy().length > 0 && performance.now() < deadline) wait(nobody, 0, 0, DRAIN_STEP_MS)
    for (let i = 0; i < TERMINATIONS_MAX && busy().length > 0; i++) {
      for (const { worker } of busy()) void worker.terminate()
      wait(nobody, 0, 0, DRAIN_STEP_MS)
    }
  }
}

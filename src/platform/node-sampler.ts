/**
 * Samples of what threads run, by forced interrupts: a thread of its own ticks, and at each tick the
 * main thread looks at its own stack and has each other thread say its own.
 *
 *    ticker                     main thread                          each worker
 *    every intervalMs
 *    binding('tick')  ------->  in the middle of what it runs:
 *                               its own stack
 *                               Runtime.evaluate(SAMPLE)  ------->   in the middle of what it runs:
 *                                                         <-------   its stack, or the number of one
 *
 * The main thread's own timers would not do: it may be what is to be sampled. Loaded when it is needed.
 */

import { Worker } from 'node:worker_threads'
import type { StackSample } from '../hardware/platform.ts'
import { store } from '../hardware/memory.ts'
import { now } from './node-clock.ts'
import { SAMPLE_ID, stackBelow } from './node-stack.ts'

/** The words of a ticker: whether it is to stop, and whether its last tick was not answered yet. */
const STOP = 0
const PENDING = 1
const WORDS = 2

/**
 * Ends by itself: the main thread may not come to stopping it. Each word has one who sets it and one who
 * looks at it again and again, so plain access will do. The binding comes when the main thread has
 * attached to this one.
 */
const TICKER = `
const { workerData: { buffer, intervalMs, durationMs, binding } } = require('node:worker_threads')
const words = new Int32Array(buffer)
const end = performance.now() + durationMs
const timer = setInterval(() => {
  if (words[${STOP}] !== 0 || performance.now() > end) return clearInterval(timer)
  const tick = globalThis[binding]
  if (tick === undefined || words[${PENDING}] !== 0) return
  words[${PENDING}] = 1
  tick('tick')
}, intervalMs)`

/** A worker of the process that there is a session to. */
export interface Sampled {
  readonly worker: Worker
  readonly sessionId: string
}

/** What a sampler needs of the session of the main thread. */
export interface SamplerHost {
  /** By what name a worker calls the main thread. */
  readonly binding: string
  /** Attaches to a worker, and gives it the binding. */
  attachTo(worker: Worker): void
  attached(): Iterable<Sampled>
  /** Sends a message that is answered. */
  ask(sampled: Sampled, text: string): void
}

/** Always the same text: V8 compiles it once. */
const SAMPLE = JSON.stringify({
  id: SAMPLE_ID,
  method: 'Runtime.evaluate',
  params: {
    expression: 'globalThis[Symbol.for("interprocessor.forced")]?.sample()',
    silent: true,
    disableBreaks: true,
  },
})
const FIRST_SAMPLE = SAMPLE.replace('sample()', 'sample(true)')

/** One sampling under way. */
export class NodeSampler {
  readonly #host: SamplerHost
  readonly #samples: StackSample[] = []
  readonly #words = new Int32Array(new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT))
  readonly #ticker: Worker
  readonly #ownStack = stackBelow()
  /** Sessions that were asked, and those that have not answered the last time. */
  readonly #asked = new Set<string>()
  readonly #pending = new Set<string>()
  /** By thread: the stacks that it has told, by their numbers. */
  readonly #stacks = new Map<number, string[]>()
  readonly online: Promise<void>

  constructor(host: SamplerHost, intervalMs: number, durationMs: number) {
    this.#host = host
    const { buffer } = this.#words
    const { binding } = host
    this.#ticker = new Worker(TICKER, {
      eval: true,
      name: 'interprocessor profile',
      workerData: { buffer, intervalMs, durationMs, binding },
      execArgv: [],
      env: {},
    })
    this.online = new Promise((resolve, reject) => {
      this.#ticker.once('error', reject)
      this.#ticker.once('online', () => {
        this.#ticker.unref()
        host.attachTo(this.#ticker)
        resolve()
      })
    })
  }

  /** In the middle of whatever the main thread runs. */
  onTick(): void {
    this.#samples.push({ threadId: 0, atMs: now(), stack: this.#ownStack() })
    for (const sampled of this.#host.attached()) {
      const { sessionId, worker } = sampled
      if (worker === this.#ticker || this.#pending.has(sessionId)) continue
      this.#pending.add(sessionId)
      this.#host.ask(sampled, this.#asked.has(sessionId) ? SAMPLE : FIRST_SAMPLE)
      this.#asked.add(sessionId)
    }
    store(this.#words, PENDING, 0)
  }

  /** A worker has answered. One that found no room on its stack, or has ended meanwhile, says nothing. */
  onAnswer({ sessionId, worker: { threadId } }: Sampled, answer: string): void {
    // It may be the answer to an earlier sampler.
    if (!this.#pending.delete(sessionId)) return
    const { result } = JSON.parse(answer) as { result?: { result?: { value?: unknown } } }
    const text = result?.result?.value
    if (typeof text === 'string') this.#note(threadId, text)
  }

  /** A number, and behind it the stack, if it is the first with that number. */
  #note(threadId: number, text: string): void {
    let known = this.#stacks.get(threadId)
    if (known === undefined) this.#stacks.set(threadId, (known = []))
    const [number = ''] = text.split('\n', 1)
    if (number.length < text.length) known[Number(number)] = text.slice(number.length + 1)
    const stack = known[Number(number)] ?? ''
    this.#samples.push({ threadId, atMs: now(), stack })
  }

  /** Ends it; gives what there is, by time. */
  stop(): readonly StackSample[] {
    store(this.#words, STOP, 1)
    return this.#samples
  }
}

/** A worker thread of Node, as the lower rooms see it. */

import type { TransferListItem, Worker } from 'node:worker_threads'
import type { Thread } from '../hardware/platform.ts'

/** A worker thread. */
export class NodeThread implements Thread {
  readonly worker: Worker
  readonly threadId: number
  readonly #callbacks: ((error: unknown) => void)[] = []
  #error: unknown
  #exited = false

  constructor(worker: Worker) {
    this.worker = worker
    this.threadId = worker.threadId
    worker.on('error', (error) => (this.#error = error))
    worker.once('exit', () => {
      this.#exited = true
      for (const callback of this.#callbacks) callback(this.#error)
    })
  }

  post(value: unknown, transfer: readonly unknown[]): void {
    this.worker.postMessage(value, transfer as TransferListItem[])
  }

  async terminate(): Promise<void> {
    await this.worker.terminate()
  }

  /**
   * Node counts a thread's idle time from 0 until it is told to stop, and gives -1 from then on,
   * without the help of this thread's event loop (src/node_worker.cc, Worker::LoopIdleTime).
   */
  isAlive(): boolean {
    return !this.#exited && this.worker.performance.eventLoopUtilization().idle >= 0
  }

  onExit(callback: (error: unknown) => void): void {
    if (this.#exited) callback(this.#error)
    else this.#callbacks.push(callback)
  }
}

/** An entry module that takes until it is told: its thread is still coming up. */

import { threadId, workerData } from 'node:worker_threads'
import './forced-tasks.ts'

const { gate } = (workerData ?? {}) as { gate?: Int32Array<SharedArrayBuffer> }
if (gate !== undefined) {
  Atomics.store(gate, 1, threadId)
  Atomics.wait(gate, 0, 0)
}

/** Bare: a thread that says that it is there, and from the first message on does not look up any more. */

import { parentPort } from 'node:worker_threads'

parentPort!.on('message', (started: Int32Array) => {
  Atomics.store(started, 0, 1)
  for (;;);
})
parentPort!.postMessage('ready')

/** A worker that belongs to no machine: loops, and tells when asked what others have put into it. */

import { parentPort } from 'node:worker_threads'

parentPort?.on('message', () => {
  const names = Object.getOwnPropertyNames(globalThis)
  parentPort?.postMessage(names.filter((name) => name.startsWith('interprocessor')))
})

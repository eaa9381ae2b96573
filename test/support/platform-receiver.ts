/** Receives one message, and tells before and after. */

import { workerData, type MessagePort } from 'node:worker_threads'
import { nodePlatform } from '../../src/platform/node.ts'

const { port, words } = workerData as { port: MessagePort; words: Int32Array<SharedArrayBuffer> }
const received = nodePlatform(new URL('file:///none')).adoptPort(port)
tell(0)
received.receive()
tell(1)

function tell(word: number): void {
  Atomics.store(words, word, 1)
  Atomics.notify(words, word)
}

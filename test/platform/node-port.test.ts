/** A message that is lost with its thread is not acted upon. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MessageChannel, Worker } from 'node:worker_threads'

const entry = new URL('../support/platform-receiver.js', import.meta.url)
/** Long enough for the next line of a thread that goes on. */
const NEXT_LINE_MS = 200

test('a thread whose end has been asked for goes no further than the message that it lost', async () => {
  const words = new Int32Array(new SharedArrayBuffer(8))
  const { port1, port2 } = new MessageChannel()
  // What Node gives to such a thread in place of its message.
  port1.postMessage(undefined)
  const worker = new Worker(entry, { workerData: { port: port2, words }, transferList: [port2] })
  await Atomics.waitAsync(words, 0, 0).value
  assert.equal(Atomics.wait(words, 1, 0, NEXT_LINE_MS), 'timed-out', 'it went on')
  assert.equal(await worker.terminate(), 1)
  port1.close()
})

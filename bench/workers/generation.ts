/** Bare: a thread that sleeps on a generation word, and counts itself when the word has moved. */

import { parentPort, workerData } from 'node:worker_threads'
import { pinThread } from '../support/pin.ts'
import { Scratch, WORD } from '../support/scratch.ts'

const { buffer, threads, index } = workerData as {
  buffer: SharedArrayBuffer
  threads: number
  index: number
}
const { words } = new Scratch(buffer)
pinThread(index)

let seen = Atomics.load(words, WORD.generation)
parentPort!.postMessage('ready')
for (;;) {
  Atomics.wait(words, WORD.generation, seen)
  const generation = Atomics.load(words, WORD.generation)
  if (generation < 0) break
  if (generation === seen) continue
  seen = generation
  // The last one to answer wakes whoever asked.
  if (Atomics.add(words, WORD.answers, 1) + 1 === threads) Atomics.notify(words, WORD.answers)
}

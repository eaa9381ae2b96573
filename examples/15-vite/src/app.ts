// The application. It makes its workers itself, from the file that the bundler has made of worker.ts:
// so nobody but the bundler has to know where files are.

import { Worker } from 'node:worker_threads'
import { createMachine, createPool } from 'interprocessor'
import { count, whoAreYou, type Counted } from './tasks.ts'

const machine = createMachine({ maxCpus: 3 })
const workers = [1, 2].map(() => new Worker(new URL('./worker.js', import.meta.url)))
try {
  for (const worker of workers) await machine.bringUp(worker)
  console.log([...(await machine.onEachCpu(whoAreYou)).values()].join(', '))

  const pool = createPool(machine)
  const texts = ['to be', 'or not to be', 'that is the question']
  const counted: Counted[] = await Promise.all(texts.map((text) => pool.run(count, text)))
  for (const [i, { words, letters }] of counted.entries()) {
    console.log(`"${texts[i]}": ${words} words, ${letters} letters`)
  }
  await pool.close()
} finally {
  await machine.close()
  await Promise.all(workers.map((worker) => worker.terminate()))
}

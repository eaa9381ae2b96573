// Workers that the application makes itself become CPUs: for frameworks, bundlers, existing pools.

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { createMachine } from 'interprocessor'
import { whoAreYou } from './tasks.mjs'

// A machine with this thread as its only CPU so far.
const machine = createMachine({ maxCpus: 3 })
const workers = ['anna', 'otto'].map(
  (name) => new Worker(new URL('./worker.mjs', import.meta.url), { workerData: { name } }),
)
try {
  for (const worker of workers) console.log('brought up CPU', await machine.bringUp(worker))
  console.log([...(await machine.onEachCpu(whoAreYou)).values()].join(', '))

  // They are still workers: messages arrive as ever.
  for (const worker of workers) {
    worker.postMessage('mail')
    const [answer] = await once(worker, 'message')
    console.log(answer)
  }

  // One leaves the machine. Its thread goes on, because it is not the machine's.
  await machine.cpuDown(1)
  console.log('online:', String(machine.onlineMask))
  workers[0].postMessage('more mail')
  console.log((await once(workers[0], 'message'))[0])
} finally {
  await machine.close()
  for (const worker of workers) await worker.terminate()
}

// A worker of the application's own. It becomes a CPU, and its messages go on as before.

import { parentPort, workerData } from 'node:worker_threads'
import { attach } from 'interprocessor/worker'
import './tasks.mjs'

// Resolves when the other side's machine.bringUp(worker) has brought this CPU online.
const machine = await attach()

parentPort.on('message', (text) => {
  parentPort.postMessage(`${workerData.name}, as CPU ${machine.cpu.id}, got ${text}`)
})

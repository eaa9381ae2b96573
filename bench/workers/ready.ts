/** The least that a worker thread can be: says that it is there, and sleeps. */

import { parentPort } from 'node:worker_threads'

parentPort!.on('message', () => undefined)
parentPort!.postMessage('ready')

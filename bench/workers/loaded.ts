/** A bare Worker that imports the library and does nothing with it: what no CPU can go below. */

import { parentPort } from 'node:worker_threads'

await import(new URL('../../../dist/index.js', import.meta.url).href)
parentPort!.on('message', () => undefined)
parentPort!.postMessage('ready')

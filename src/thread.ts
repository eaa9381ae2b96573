/** What a thread of the machine's own runs: imports the entry module, then becomes a CPU. */

import { once } from 'node:events'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { attachOn } from './kernel/attach.ts'
import type { Ticket } from './kernel/protocol.ts'
import { nodePlatform } from './platform/node.ts'
import { THREAD_SCRIPT } from './worker.ts'

const { entry } = workerData as { entry: string | undefined }
const port = parentPort!

// It is there already, unless making the machine took longer than starting this thread. And it is
// taken before the entry module can listen.
const received = receiveMessageOnPort(port)
const ticket = (received?.message ?? (await once(port, 'message'))[0]) as Ticket

// Before power-on: a module that fails to load fails the bring-up, with its own error.
if (entry !== undefined) await import(entry)
await attachOn(nodePlatform(THREAD_SCRIPT), ticket, () => process.exit(0))

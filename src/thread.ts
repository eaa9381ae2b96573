/** What a thread of the machine's own runs: imports the entry module, then becomes a CPU. */

import { workerData } from 'node:worker_threads'
import { attachOn } from './kernel/boot.ts'
import type { Ticket } from './kernel/protocol.ts'
import { nodePlatform } from './platform/node.ts'

const { ticket, entry } = workerData as { ticket: Ticket; entry: string | undefined }

// Before power-on: a module that fails to load fails the bring-up, with its own error.
if (entry !== undefined) await import(entry)
await attachOn(nodePlatform(new URL(import.meta.url)), ticket, () => process.exit(0))

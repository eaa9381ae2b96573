/** What a thread of a Piscina runs: it shares what the pool calls, and becomes a CPU. */

import { workerData } from 'node:worker_threads'
import { shareHandlers } from './services/piscina/handler.ts'
import { threadRole } from './services/piscina/thread-role.ts'
import { attach } from './worker.ts'

threadRole.isWorkerThread = true
threadRole.workerData = workerData
shareHandlers()
await attach()

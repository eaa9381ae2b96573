/** A worker of the application's own that becomes a CPU: imports its tasks, then attaches. */

import { workerData } from 'node:worker_threads'
import { attach } from '../../src/index.ts'

const { tasks } = workerData as { tasks: string }
await import(tasks)
await attach()

/** What a CPU costs before it does anything: time to start, memory; against a bare Worker. */

import { fork } from 'node:child_process'
import { createMachine } from '../src/index.ts'
import { plan, type Group, type Pace } from './support/group.ts'
import { against, summarize, takeTurns, type Row, type Unit } from './support/measure.ts'
import type { Started } from './workers/start.ts'

/** What a thread is: bare, bare with the library imported, or a CPU. */
type Kind = 'bare' | 'loaded' | 'ours'

/** How many threads are started at once. */
const COUNTS = [1, 4] as const

export const group: Group = {
  about:
    'In fresh processes. Start: from the request until all have answered, divided by their number. ' +
    'Memory: growth of the resident set, the same way.',
  measure: async (pace) => {
    const rows: Row[] = []
    for (const count of COUNTS) rows.push(...(await starts(count, pace)))
    return [...rows, await sharedBytes()]
  },
}

async function starts(threads: number, pace: Pace): Promise<Row[]> {
  const started: Record<Kind, Started[]> = { bare: [], loaded: [], ours: [] }
  const contender = (kind: Kind) => ({
    name: kind,
    take: async (count: number) => {
      for (let i = 0; i < count; i++) started[kind].push(await start(kind, threads))
      return []
    },
  })
  const contenders = (['bare', 'loaded', 'ours'] as const).map(contender)
  await takeTurns(contenders, plan(pace, 18, 1, 0))
  const row = (kind: Kind, name: string, unit: Unit, of: (one: Started) => number): Row =>
    summarize(
      name,
      unit,
      started[kind].map((one) => [of(one) / threads]),
    )
  const many = threads === 1 ? 'one alone' : `${threads} at once`
  const startNs = (one: Started): number => one.startNs
  const residentBytes = (one: Started): number => one.residentBytes
  const bareStart = row('bare', `start of a bare Worker, ${many}`, 'ns', startNs)
  const bareBytes = row('bare', `memory of a bare Worker, ${many}`, 'bytes', residentBytes)
  const library = `a Worker that imports the library, ${many}`
  return [
    bareStart,
    against(row('loaded', `start of ${library}`, 'ns', startNs), bareStart),
    against(row('ours', `start of a CPU, ${many}`, 'ns', startNs), bareStart),
    bareBytes,
    against(row('loaded', `memory of ${library}`, 'bytes', residentBytes), bareBytes),
    against(row('ours', `memory of a CPU, ${many}`, 'bytes', residentBytes), bareBytes),
  ]
}

/** Starts threads in a new process; gives what they cost. */
function start(kind: Kind, threads: number): Promise<Started> {
  return new Promise((resolve, reject) => {
    const child = fork(new URL('./workers/start.js', import.meta.url), [kind, String(threads)])
    child.once('message', (message) => resolve(message as Started))
    child.once('exit', (code) => reject(new Error(`a start of ${kind} ended with ${code}`)))
  })
}

/** Memory that one more possible CPU adds to the machine's: the default 64 slots of 1 KiB and more. */
async function sharedBytes(): Promise<Row> {
  const [eight, nine] = [await memoryOf(8), await memoryOf(9)]
  return summarize('shared memory per possible CPU', 'bytes', [[nine - eight]])
}

async function memoryOf(maxCpus: number): Promise<number> {
  const machine = createMachine({ maxCpus })
  const { byteLength } = machine.memory
  await machine.close()
  return byteLength
}

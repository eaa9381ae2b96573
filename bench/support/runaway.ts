/** A thread that runs away, and what it takes until it answers again: aborted, or ended and replaced. */

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import * as cpu from '../workers/cpu.ts'
import type { Pace } from './group.ts'
import { plan } from './group.ts'
import type { Bench } from './machine.ts'
import { compare, type Contender, type Row } from './measure.ts'
import { clockNs, spinFor, spinUntil, WORD } from './scratch.ts'

/** Long enough for the loop to be what the compiler makes of it. */
const RUN_US = 500

/** What an abort costs, and what ending the thread costs that runs the same. */
export async function compareAborts({ machine, scratch }: Bench, pace: Pace): Promise<Row[]> {
  const { words } = scratch
  await machine.smpCallFunctionSingle(1, cpu.openExecutor)
  while (Atomics.load(words, WORD.done) === 0) await new Promise(setImmediate)
  let task = 0
  const abort = async (): Promise<number> => {
    const before = Atomics.load(words, WORD.arrived)
    await machine.smpCallFunctionSingle(1, cpu.runAway, ++task)
    spinUntil(words, WORD.arrived, before + 1, 'a task')
    spinFor(RUN_US)
    const start = clockNs()
    await machine.abortTask(1, task)
    await machine.smpCallFunctionSingle(1, cpu.nothing)
    return clockNs() - start
  }
  let worker = await startWorker()
  const replace = async (): Promise<number> => {
    const started = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
    worker.postMessage(started)
    spinUntil(started, 0, 1, 'a worker')
    spinFor(RUN_US)
    const start = clockNs()
    await worker.terminate()
    worker = await startWorker()
    return clockNs() - start
  }
  const rows = await compare(
    [
      take('terminate() a worker in a loop, until another is there', replace),
      take('abort a task in a loop, until its thread answers', abort),
    ],
    plan(pace, 24, 5, 10),
  )
  await worker.terminate()
  return [...rows, ...(await guards({ machine, scratch }, pace))]
}

/** What it costs an executor. */
async function guards({ machine, scratch }: Omit<Bench, 'ports'>, pace: Pace): Promise<Row[]> {
  const timed = (name: string, inGuard: boolean): Contender => ({
    name,
    take: async (count) => {
      await machine.smpCallFunctionSingle(1, cpu.timeGuards, { count, inGuard })
      return [...scratch.times.subarray(0, count)]
    },
  })
  return compare(
    [timed('a guard, with one task in it', true), timed('a task in a guard', false)],
    plan(pace, 30, 100, 1000),
  )
}

function take(name: string, once: () => Promise<number>): Contender {
  return {
    name,
    take: async (count) => {
      const samples: number[] = []
      while (samples.length < count) samples.push(await once())
      return samples
    },
  }
}

async function startWorker(): Promise<Worker> {
  const worker = new Worker(new URL('../workers/runaway.js', import.meta.url))
  await once(worker, 'message')
  return worker
}

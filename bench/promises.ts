/** Calls that return promises, one after the other and many at once, against postMessage with ids. */

import type { MessagePort } from 'node:worker_threads'
import { plan, type Group, type Pace } from './support/group.ts'
import { withMachine, type Bench } from './support/machine.ts'
import { compare, oneByOne, type Row } from './support/measure.ts'
import * as cpu from './workers/cpu.ts'

/** Calls under way at once, and calls per sample of throughput. */
const IN_FLIGHT = 1000
const CALLS = 10_000

export const group: Group = {
  about:
    'A number there and a number back, one thread asked. Round trips follow each other at once; ' +
    `throughput is with ${IN_FLIGHT} calls under way.`,
  measure: async (pace) => [
    ...(await withMachine({ cpus: 2 }, (bench) => roundTrips(bench, pace))),
    ...(await withMachine({ cpus: 2, slotCount: 1024 }, (bench) => throughput(bench, pace, 1024))),
    ...(await withMachine({ cpus: 2 }, (bench) => throughput(bench, pace, 64))),
  ],
}

function roundTrips({ machine, ports }: Bench, pace: Pace): Promise<Row[]> {
  const post = poster(ports[0]!)
  return compare(
    [
      { name: 'bare postMessage with an id', take: oneByOne(() => post(1)) },
      {
        name: 'await smpCallFunctionSingle(1, fn, number)',
        take: oneByOne(() => machine.smpCallFunctionSingle(1, cpu.increment, 1)),
      },
    ],
    plan(pace, 60, 100, 2000),
  )
}

function throughput({ machine, ports }: Bench, pace: Pace, slots: number): Promise<Row[]> {
  const post = poster(ports[0]!)
  return compare(
    [
      { name: `bare postMessage with ids, beside ${slots} slots`, take: flow(() => post(1)) },
      {
        name: `smpCallFunctionSingle, ${slots} slots`,
        take: flow(() => machine.smpCallFunctionSingle(1, cpu.increment, 1)),
      },
    ],
    plan(pace, 24, 1, 2),
    'calls/s',
  )
}

/** Keeps IN_FLIGHT calls under way; gives calls per second. */
function flow(call: () => Promise<unknown>) {
  return async (count: number): Promise<number[]> => {
    const rates: number[] = []
    for (let i = 0; i < count; i++) {
      let left = CALLS
      const lane = async (): Promise<void> => {
        while (left-- > 0) await call()
      }
      const start = performance.now()
      await Promise.all(Array.from({ length: IN_FLIGHT }, lane))
      rates.push(CALLS / ((performance.now() - start) / 1000))
    }
    return rates
  }
}

/** What people write by hand: a number for each message, and a map of who waits for which. */
function poster(port: MessagePort): (value: number) => Promise<number> {
  const waiting = new Map<number, (value: number) => void>()
  let lastId = 0
  port.on('message', ({ id, value }: { id: number; value: number }) => {
    waiting.get(id)?.(value)
    waiting.delete(id)
  })
  return (value) =>
    new Promise((resolve) => {
      const id = ++lastId
      waiting.set(id, resolve)
      port.postMessage({ id, value })
    })
}

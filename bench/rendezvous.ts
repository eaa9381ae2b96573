/** Everybody stands still: what a rendezvous costs beside a call to everybody. */

import { availableParallelism } from 'node:os'
import type { Machine } from '../src/index.ts'
import { plan, type Group } from './support/group.ts'
import { withMachine } from './support/machine.ts'
import { compare, oneByOne, type Row } from './support/measure.ts'
import { nothing } from './workers/cpu.ts'

const COUNTS = [1, 2, 4, 8] as const
/** How long the CPUs poll between two samples. */
const POLL_MS = 5
const BASE = 0x10000000
const SIZE = 0x100000

export const group: Group = {
  about:
    'All CPUs stand still with interrupts off and change together, against a blocking call to all of ' +
    'them. Where there are more CPUs than processors it is the scheduler that is measured.',
  measure: async (pace) => {
    const rows: Row[] = []
    for (const others of COUNTS) {
      const options = { cpus: others + 1, haltPollMs: POLL_MS }
      rows.push(...(await withMachine(options, ({ machine }) => measure(machine, others, pace))))
    }
    return rows
  },
}

function measure(machine: Machine, others: number, pace: Parameters<typeof plan>[0]) {
  const state = others < availableParallelism() ? 'polling' : 'more than processors'
  let isThere = false
  const ways = {
    'smpCallFunctionSync(nothing)': async () => machine.smpCallFunctionSync(nothing),
    'stopMachine(nothing)': () => machine.stopMachine(() => undefined),
    'mtrr.add, mtrr.del in turn': () => {
      isThere = !isThere
      if (isThere) return machine.mtrr.add(BASE, SIZE, 'write-combining')
      return machine.mtrr.del(-1, BASE, SIZE)
    },
    'mtrr.setType: two rendezvous': () =>
      machine.mtrr.setType('bench', { prefix: 'cfg:' }, 'write-back'),
  }
  const contenders = Object.entries(ways).map(([name, once]) => ({
    name: `${name}, ${others} ${state}`,
    take: oneByOne(once),
  }))
  return compare(contenders, plan(pace, 40, 10, 500))
}

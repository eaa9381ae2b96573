/** Interrupts and blocking calls to a CPU that polls, against a bare ping-pong of the same threads. */

import { CpuMask } from '../src/index.ts'
import { plan, type Group } from './support/group.ts'
import { withMachine, type Bench } from './support/machine.ts'
import { compare, type Contender } from './support/measure.ts'
import { ping, relaxUntil, timeTrips, TRIPS } from './support/ping-pong.ts'
import { WORD } from './support/scratch.ts'
import * as cpu from './workers/cpu.ts'

export const group: Group = {
  about:
    'One CPU polls in its idle loop and another asks it. Each sample is the mean of ' +
    `${TRIPS} round trips.`,
  measure: async (pace) => [
    ...(await withMachine({ cpus: 2, haltPollMs: Infinity }, (bench) =>
      compare(fromProgram(bench), plan(pace, 90, 100, 4000)),
    )),
    ...(await withMachine({ cpus: 3, haltPollMs: Infinity }, (bench) =>
      compare(betweenHandlers(bench), plan(pace, 60, 400, 4000)),
    )),
    ...(await withMachine({ cpus: 1 }, (bench) =>
      compare([selfInterrupt(bench)], plan(pace, 60, 400, 4000)),
    )),
  ],
}

/** The boot CPU asks CPU 1 and looks out for the answer itself. */
function fromProgram({ machine, scratch }: Bench): Contender[] {
  const { cpu: self } = machine
  const there = machine.allocVector()
  const back = machine.allocVector()
  const target = CpuMask.of(1)
  let answers = 0
  let asked = 0
  machine.requestIrq(back, 'bench.back', () => void answers++)
  machine.smpCallFunctionSingleSync(1, cpu.echoIrq, { there, back, to: 0 })
  const relax = (): void => self.cpuRelax()
  const isAnswered = (): boolean => answers === asked
  return [
    {
      name: 'bare ping-pong, Atomics.store and a spinning load',
      take: async (count) => {
        const trips = count * TRIPS
        await machine.smpCallFunctionSingle(1, cpu.answer, trips, { wait: false })
        return ping(scratch, count)
      },
    },
    {
      name: 'interrupt there and back, the sender in cpuRelax()',
      take: (count) =>
        timeTrips(count, () => {
          asked++
          machine.sendIpiMask(target, there)
          relaxUntil(isAnswered, relax)
        }),
    },
    {
      name: 'smpCallFunctionSync(fn)',
      take: (count) => timeTrips(count, () => machine.smpCallFunctionSync(cpu.nothing)),
    },
    {
      name: 'smpCallFunctionSingleSync(1, fn)',
      take: (count) => timeTrips(count, () => machine.smpCallFunctionSingleSync(1, cpu.nothing)),
    },
    {
      name: 'smpCallFunctionSingleSync(1, fn, number), a number back',
      take: (count) =>
        timeTrips(count, () => machine.smpCallFunctionSingleSync(1, cpu.increment, 1)),
    },
  ]
}

/** CPUs 1 and 2 play, each in the handler of its vector; the boot CPU sleeps until it is over. */
function betweenHandlers({ machine, scratch }: Bench): Contender[] {
  const there = machine.allocVector()
  const back = machine.allocVector()
  machine.smpCallFunctionSingleSync(1, cpu.rallyIrq, { there, back, to: 2 })
  machine.smpCallFunctionSingleSync(2, cpu.echoIrq, { there, back, to: 1 })
  const taken = (count: number): number[] => {
    Atomics.wait(scratch.words, WORD.done, 0)
    Atomics.store(scratch.words, WORD.done, 0)
    return [...scratch.times.subarray(0, count)]
  }
  return [
    {
      name: 'bare ping-pong, between two other threads',
      take: async (count) => {
        const trips = count * TRIPS
        await machine.smpCallFunctionSingle(2, cpu.answer, trips, { wait: false })
        await machine.smpCallFunctionSingle(1, cpu.pingFromHere, count, { wait: false })
        return taken(count)
      },
    },
    {
      name: 'interrupt there and back, both sent by handlers',
      take: async (count) => {
        await machine.smpCallFunctionSingle(1, cpu.rally, count, { wait: false })
        return taken(count)
      },
    },
  ]
}

/** A CPU interrupts itself: no other processor has a part in it. */
function selfInterrupt({ machine }: Bench): Contender {
  const vector = machine.allocVector()
  let taken = 0
  machine.requestIrq(vector, 'bench.self', () => void taken++)
  return {
    name: 'interrupt to itself, sendIpiSelf and its handler',
    take: (count) => {
      const before = taken
      const times = timeTrips(count, () => machine.sendIpiSelf(vector))
      if (taken - before !== count * TRIPS)
        throw new Error('a self-interrupt was not taken at once')
      return times
    },
  }
}

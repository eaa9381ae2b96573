/** One interrupt into an event loop, asleep or turning, against the bare ways to get in there. */

import { setTimeout as sleep } from 'node:timers/promises'
import { CpuMask } from '../src/index.ts'
import { plan, type Group, type Pace } from './support/group.ts'
import { withMachine, type Bench } from './support/machine.ts'
import { compare, type Contender, type Row } from './support/measure.ts'
import { clockNs, spinFor, spinUntil, WORD } from './support/scratch.ts'
import * as cpu from './workers/cpu.ts'

export const sleeping: Group = {
  about:
    'From the send to the first line of the receiver. Its event loop has nothing to do and sleeps.',
  measure: (pace) =>
    withMachine({ cpus: 2, haltPollMs: 0 }, (bench) => measure(bench, pace, false)),
}

export const turning: Group = {
  about: 'The same into an event loop that never sleeps, because it turns by setImmediate.',
  measure: (pace) => withMachine({ cpus: 2, haltPollMs: 0 }, (bench) => measure(bench, pace, true)),
}

async function measure(bench: Bench, pace: Pace, hot: boolean): Promise<Row[]> {
  const { machine } = bench
  const name = hot ? 'a turning loop' : 'a sleeping loop'
  const vector = machine.allocVector()
  const target = CpuMask.of(1)
  await machine.smpCallFunctionSingle(1, cpu.stampIrq, vector)
  await machine.smpCallFunctionSingle(1, cpu.stampBell)
  await machine.smpCallFunctionSingle(1, cpu.turnLoop, hot)

  const ring = oneWay(bench, hot, `bare Atomics.waitAsync and notify, into ${name}`, () => {
    Atomics.add(bench.scratch.words, WORD.bell, 1)
    Atomics.notify(bench.scratch.words, WORD.bell)
  })
  const post = oneWay(bench, hot, `bare postMessage on a MessagePort, into ${name}`, () => {
    bench.ports[0]!.postMessage({ stamp: true })
  })
  const interrupt = oneWay(bench, hot, `interrupt into ${name}`, () => {
    machine.sendIpiMask(target, vector)
  })
  // The first is what the others are compared with: see design.md, "How fast it must be".
  const contenders = hot ? [post, ring, interrupt] : [ring, post, interrupt]
  return compare(contenders, hot ? plan(pace, 120, 100, 5000) : plan(pace, 120, 10, 5000))
}

/** Times how long something that is sent takes to arrive. */
function oneWay(bench: Bench, hot: boolean, name: string, send: () => void): Contender {
  const { words, times } = bench.scratch
  const once = (): number => {
    const before = Atomics.load(words, WORD.arrived)
    const sent = clockNs()
    send()
    spinUntil(words, WORD.arrived, before + 1, name)
    return times[0]! - sent
  }
  const inTurn = (count: number): number[] =>
    Array.from({ length: count }, () => {
      // Not always at the same point of the other thread's turn.
      spinFor(20 + Math.random() * 20)
      return once()
    })
  const asleep = async (count: number): Promise<number[]> => {
    const samples: number[] = []
    for (let i = 0; i < count; i++) {
      await sleep(1)
      samples.push(once())
    }
    return samples
  }
  return { name, take: hot ? inTurn : asleep, heat: inTurn }
}

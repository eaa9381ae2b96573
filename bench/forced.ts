/** Forced entry, by an NMI with a handler, against the bare inspector message between the same threads. */

import { setTimeout as sleep } from 'node:timers/promises'
import { CpuMask } from '../src/index.ts'
import { plan, type Group, type Pace } from './support/group.ts'
import { BareInspector } from './support/inspector.ts'
import { compareAborts } from './support/runaway.ts'
import { withMachine, type Bench } from './support/machine.ts'
import { compare, summarize, against, type Contender, type Row } from './support/measure.ts'
import { clockNs, spinFor, spinUntil, WORD } from './support/scratch.ts'
import * as cpu from './workers/cpu.ts'

/** Time of the hot loop in one sample. */
const LOOPS = 200

export const group: Group = {
  about:
    'From the send to the first line of what it runs there, and until the sender has seen it; then what an open session ' +
    'costs a hot loop; then a thread that runs away, until it answers again.',
  measure: (pace) =>
    withMachine({ cpus: 2, haltPollMs: 0 }, async (bench) => {
      // First: nothing has opened a session yet.
      const before = await timeLoops(bench)
      const rows = [...(await asleep(bench, pace)), ...(await busy(bench, pace))]
      rows.push(...compareLoops(before, await timeLoops(bench)))
      return [...rows, ...(await compareAborts(bench, pace))]
    }),
}

/** Into a thread under its event loop, which sleeps. */
async function asleep(bench: Bench, pace: Pace): Promise<Row[]> {
  const pause = (): Promise<unknown> => sleep(1)
  return measure(bench, pace, 'a sleeping thread', pause)
}

/** Into a loop without a call. */
async function busy(bench: Bench, pace: Pace): Promise<Row[]> {
  const { machine, scratch } = bench
  Atomics.store(scratch.words, WORD.done, 0)
  const loop = machine.smpCallFunctionSingle(1, cpu.loopUntilDone, undefined, {
    timeoutMs: 120_000,
  })
  const pause = (): void => spinFor(50 + Math.random() * 50)
  const rows = await measure(bench, pace, 'a busy loop', pause)
  Atomics.store(scratch.words, WORD.done, 1)
  await loop
  Atomics.store(scratch.words, WORD.done, 0)
  return rows
}

async function measure(
  bench: Bench,
  pace: Pace,
  where: string,
  pause: () => unknown,
): Promise<Row[]> {
  const { machine, scratch } = bench
  const inspector = new BareInspector(1)
  const target = CpuMask.of(1)
  if (where === 'a sleeping thread') await machine.smpCallFunctionSingle(1, cpu.stampNmi)
  const { words, times } = scratch
  const once = (send: () => void): readonly [arrived: number, seen: number] => {
    const before = Atomics.load(words, WORD.arrived)
    const sent = clockNs()
    send()
    spinUntil(words, WORD.arrived, before + 1, `an entry into ${where}`)
    return [times[0]! - sent, clockNs() - sent]
  }
  const taker = (name: string, send: () => void, which: 0 | 1): Contender => ({
    name,
    take: async (count) => {
      const samples: number[] = []
      for (let i = 0; i < count; i++) {
        await pause()
        samples.push(once(send)[which])
      }
      return samples
    },
  })
  const message = (): void => inspector.evaluate()
  const nmi = (): void => machine.sendNmi(target)
  const how = plan(pace, 60, 20, 400)
  try {
    return [
      ...(await compare(
        [
          taker(`bare inspector message into ${where}`, message, 0),
          taker(`NMI into ${where}`, nmi, 0),
        ],
        how,
      )),
      ...(await compare(
        [
          taker(`bare inspector message into ${where}, until the sender sees it`, message, 1),
          taker(`NMI into ${where}, until the sender sees it`, nmi, 1),
        ],
        how,
      )),
    ]
  } finally {
    inspector.close()
  }
}

/** One hot loop after the other in the worker, each in nanoseconds. */
async function timeLoops({ machine, scratch }: Bench): Promise<number[]> {
  for (let warm = 0; warm < 2; warm++) await machine.smpCallFunctionSingle(1, cpu.hotLoops, LOOPS)
  return [...scratch.times.subarray(0, LOOPS)]
}

function compareLoops(before: number[], after: number[]): Row[] {
  const bare = summarize('a hot loop before there is a session', 'ns', [before])
  return [bare, against(summarize('a hot loop with a session open', 'ns', [after]), bare)]
}

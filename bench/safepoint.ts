/** What a safepoint costs an application when there is nothing to take. */

import { plan, type Group } from './support/group.ts'
import { withMachine } from './support/machine.ts'
import { against, summarize, takeTurns, type Contender, type Row } from './support/measure.ts'

/**
 * Turns of a loop, and calls of it per sample. Short, so that the compiler meets it at its call and
 * not in the middle of a turn: code that is entered in the middle keeps `x` as a tagged value, and
 * converts it in every turn.
 */
const TURNS = 1_000
const CALLS = 200

export const group: Group = {
  about: `A loop of arithmetic that the compiler cannot skip, with cpu.poll() in it and without.`,
  measure: (pace) =>
    withMachine({ cpus: 1 }, async ({ machine: { cpu } }): Promise<Row[]> => {
      let sum = 0
      /** A linear congruential generator: each turn needs the one before. */
      const without = (): void => {
        let x = sum | 0
        for (let i = 0; i < TURNS; i++) x = (Math.imul(x, 1664525) + 1013904223) | 0
        sum = x
      }
      const withPoll = (): void => {
        let x = sum | 0
        for (let i = 0; i < TURNS; i++) {
          x = (Math.imul(x, 1664525) + 1013904223) | 0
          cpu.poll()
        }
        sum = x
      }
      const loops: Contender[] = [
        { name: 'one turn of the loop', take: (count) => timeLoop(count, without) },
        { name: 'one turn with cpu.poll() in it', take: (count) => timeLoop(count, withPoll) },
      ]
      const how = plan(pace, 120, 10, 100)
      const [bare, polled] = await takeTurns(loops, how)
      const more = polled!.map((round, r) => round.map((time, i) => time - bare![r]![i]!))
      const base = summarize(loops[0]!.name, 'ns', bare!)
      return [
        base,
        against(summarize(loops[1]!.name, 'ns', polled!), base),
        summarize('cpu.poll() with nothing pending', 'ns', more),
      ]
    }),
}

function timeLoop(count: number, loop: () => void): number[] {
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    for (let call = 0; call < CALLS; call++) loop()
    times.push(((performance.now() - start) * 1e6) / (TURNS * CALLS))
  }
  return times
}

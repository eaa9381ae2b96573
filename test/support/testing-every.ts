/** What the clever search is held against: no thought, and everything that can be told apart at the end. */

import type {
  Access,
  Bus,
  Choice,
  Execution,
  Program,
  Scenario,
  Strategy,
} from '../../src/testing.ts'

/** A method of the bus, a word, a value. */
export type Operation = readonly [keyof Bus, number, number]

/** Every schedule, one by one, with no thought: what the clever one is held against. */
export class EverySchedule implements Strategy {
  readonly name = 'every schedule'
  readonly exhausted = true
  readonly #path: { way: number; readonly ways: number }[] = []
  #depth = -1

  nextRun(): boolean {
    if (this.#depth >= 0) {
      while (this.#path.length > 0 && ++this.#path.at(-1)!.way === this.#path.at(-1)!.ways) {
        this.#path.pop()
      }
      if (this.#path.length === 0) return false
    }
    this.#depth = 0
    return true
  }

  choose(_execution: Execution, choices: readonly Choice[]): number {
    const step = (this.#path[this.#depth] ??= { way: 0, ways: choices.length })
    this.#depth++
    return step.way
  }

  describe(): string {
    return 'none'
  }
}

/** A scenario whose ends are collected: memory, and what each CPU has read. */
export function collecting(
  programs: readonly (readonly Operation[])[],
  ends: Set<string>,
  more: Partial<Scenario> = {},
  interrupt: readonly Operation[] = [],
): Scenario {
  return {
    name: 'collected',
    words: 2,
    ...more,
    setup: (memory) => {
      const read: number[][] = programs.map(() => [])
      const doing = (operations: readonly Operation[], cpu: number): Program =>
        function* (bus) {
          for (const [operation, at, value] of operations) {
            const access = bus[operation] as (at: number, value: number, more: number) => Access
            read[cpu]!.push(yield access.call(bus, at, value, value + 1))
          }
        }
      return {
        cpus: programs.map(doing),
        interrupt: (cpu) => doing(interrupt, cpu),
        atEnd: () => {
          ends.add(JSON.stringify([[...memory], read]))
          return undefined
        },
      }
    },
  }
}

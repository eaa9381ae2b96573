/** What `npm run explore` runs. */

import { parseArgs } from 'node:util'
import { Exhaustive, explore, formatFailure, type Exploration } from '../../src/testing.ts'
import { loadRooms } from '../support/explorer-machine.ts'
import { findFault, scenariosOf } from '../support/explorer-mutants.ts'
import { MUTANTS } from './mutants.ts'
import { SCENARIOS } from './scenarios.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    mutants: { type: 'boolean' },
    forced: { type: 'boolean' },
    seconds: { type: 'string' },
  },
})
const budgetMs = values.seconds === undefined ? Infinity : Number(values.seconds) * 1000
const wanted = (name: string): boolean =>
  positionals.length === 0 || positionals.some((word) => name.includes(word))
process.exitCode = (await (values.mutants === true ? exploreMutants() : exploreAll())) ? 0 : 1

async function exploreAll(): Promise<boolean> {
  const forced = values.forced === true
  const rooms = await loadRooms(forced ? 'interrupted' : 'explored')
  let right = true
  for (const each of SCENARIOS) {
    const everybody = Array.from({ length: each.cpus }, (_, cpu) => cpu)
    const scenario = each.on(rooms)
    const told = forced ? { ...scenario, interruptible: everybody } : scenario
    if (!wanted(scenario.name)) continue
    // With time to spare, more preemptions than the tests allow.
    const bounds =
      values.seconds === undefined ? [forced ? 0 : each.preemptions] : [0, 1, 2, 3, Infinity]
    for (const preemptions of bounds) {
      const seen = explore(told, new Exhaustive({ preemptions }), {
        budgetMs,
        onProgress: tell,
      })
      console.log(line(seen))
      if (seen.failure !== undefined) {
        console.log(formatFailure(told, seen.failure))
        right = false
      }
      if (!seen.exhausted) break
    }
  }
  return right
}

async function exploreMutants(): Promise<boolean> {
  let right = true
  /** Scenarios that have found a fault: whoever finds none may be there for show. */
  const proven = new Set<string>()
  for (const mutant of MUTANTS) {
    if (!wanted(mutant.name)) continue
    for (const found of mutant.found) {
      const seen = await findFault(mutant, found, 60_000)
      right &&= seen !== undefined
      console.log(`${mutant.name}: ${how(seen)}`)
      for (const each of scenariosOf(found)) {
        if (proven.has(each.name)) continue
        if (await findFault(mutant, found, 20_000, [each])) proven.add(each.name)
      }
    }
  }
  if (positionals.length > 0) return right
  for (const { name } of SCENARIOS) {
    if (proven.has(name)) continue
    console.log(`${name}: finds no fault`)
    right = false
  }
  return right
}

function how(seen: Exploration | undefined): string {
  if (seen === undefined) return 'SURVIVES'
  return `${seen.failure!.kind} in ${seen.scenario}, ${seen.runs} schedules`
}

function line({
  scenario,
  bounds,
  runs,
  steps,
  elapsedMs,
  exhausted,
  failure,
}: Exploration): string {
  const end = failure?.kind ?? (exhausted ? 'all seen' : 'not all seen')
  return `${scenario}: ${end}; ${bounds}, ${runs} schedules, ${steps} accesses, ${Math.round(elapsedMs)} ms`
}

function tell({ runs, steps }: { readonly runs: number; readonly steps: number }): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${runs} schedules, ${steps} accesses `)
}

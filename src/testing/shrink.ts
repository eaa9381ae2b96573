/**
 * Shortens a failing schedule: fewer changes from one CPU to another, and then fewer accesses, as long
 * as it fails in the same way. Delta debugging: Zeller and Hildebrandt, IEEE TSE 28 (2), 2002.
 */

import type { Choice, Execution } from './execution.ts'
import type { Strategy } from './strategy.ts'

/** Attempts after which the schedule is short enough. */
const ATTEMPTS_MAX = 2000

/** Some choices in a row that are the same. */
interface Stretch {
  readonly choice: Choice
  readonly count: number
}

/**
 * Gives the shortest schedule that it finds. `run` runs one under a strategy, and gives what was chosen
 * if it fails as it should; undefined if not.
 */
export function shrink(
  schedule: readonly Choice[],
  run: (strategy: Strategy) => readonly Choice[] | undefined,
): readonly Choice[] {
  let best = schedule
  let attempts = 0
  for (let improved = true; improved;) {
    improved = false
    for (const candidate of candidates(stretches(best))) {
      if (++attempts > ATTEMPTS_MAX) return best
      const found = run(new Follow(candidate))
      if (found === undefined || !isShorter(found, best)) continue
      best = found
      improved = true
      break
    }
  }
  return best
}

function isShorter(a: readonly Choice[], b: readonly Choice[]): boolean {
  const changes = stretches(a).length - stretches(b).length
  return changes < 0 || (changes === 0 && a.length < b.length)
}

function stretches(schedule: readonly Choice[]): Stretch[] {
  const found: Stretch[] = []
  for (const choice of schedule) {
    const last = found.at(-1)
    if (last?.choice.kind === choice.kind && last.choice.cpu === choice.cpu) {
      found[found.length - 1] = { choice, count: last.count + 1 }
    } else {
      found.push({ choice, count: 1 })
    }
  }
  return found
}

/** Without a stretch; with a stretch put off to the next of the same kind; with a shorter stretch. */
function* candidates(parts: readonly Stretch[]): Generator<readonly Choice[]> {
  for (let i = 0; i < parts.length; i++) yield unroll(parts.toSpliced(i, 1))
  for (const [i, { choice, count }] of parts.entries()) {
    const next = parts.findIndex(
      (part, at) => at > i && part.choice.kind === choice.kind && part.choice.cpu === choice.cpu,
    )
    if (next < 0) continue
    const together = { choice, count: count + parts[next]!.count }
    yield unroll(parts.toSpliced(next, 1, together).toSpliced(i, 1))
  }
  for (const [i, { choice, count }] of parts.entries()) {
    if (count > 1) yield unroll(parts.toSpliced(i, 1, { choice, count: count >>> 1 }))
  }
}

function unroll(parts: readonly Stretch[]): readonly Choice[] {
  return parts.flatMap(({ choice, count }) => Array.from({ length: count }, () => choice))
}

/** Follows a schedule as far as it fits: what cannot be is left out, and at its end whoever runs goes on. */
class Follow implements Strategy {
  readonly name = 'follow'
  readonly exhausted = false
  readonly #schedule: readonly Choice[]
  #at = 0

  constructor(schedule: readonly Choice[]) {
    this.#schedule = schedule
  }

  nextRun(): boolean {
    return this.#at === 0
  }

  choose(_execution: Execution, choices: readonly Choice[], last: number): number {
    while (this.#at < this.#schedule.length) {
      const wanted = this.#schedule[this.#at++]!
      const way = choices.findIndex(({ kind, cpu }) => kind === wanted.kind && cpu === wanted.cpu)
      if (way >= 0) return way
    }
    const same = choices.findIndex(({ kind, cpu }) => kind === 'step' && cpu === last)
    return Math.max(0, same)
  }

  describe(): string {
    return `${this.#schedule.length} choices`
  }
}

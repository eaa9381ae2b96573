/** One schedule, as a failure has printed it. */

import { IpiError } from '../../base/errors.ts'
import type { Choice, Execution } from '../execution.ts'
import type { Strategy } from '../strategy.ts'

const LETTER: Readonly<Record<Choice['kind'], string>> = {
  step: '',
  timeout: 't',
  interrupt: 'i',
  death: 'd',
}
const KIND = new Map(Object.entries(LETTER).map(([kind, letter]) => [letter, kind]))

/**
 * A schedule as one line: `0*3 1 i0 t1 d0` is three steps of CPU 0, one of 1, an interrupt, a timeout,
 * a death.
 */
export function encodeSchedule(choices: readonly Choice[]): string {
  const parts: string[] = []
  let count = 0
  choices.forEach(({ kind, cpu }, i) => {
    count++
    const next = choices[i + 1]
    if (next?.kind === kind && next.cpu === cpu) return
    parts.push(`${LETTER[kind]}${cpu}${count > 1 ? `*${count}` : ''}`)
    count = 0
  })
  return parts.join(' ')
}

/** Reads what `encodeSchedule` wrote. Throws `IPI_INVALID_ARGUMENT`. */
export function decodeSchedule(line: string): Choice[] {
  return line
    .trim()
    .split(/\s+/)
    .flatMap((part) => {
      const match = /^([tid]?)(\d+)(?:\*(\d+))?$/.exec(part)
      if (match === null) {
        throw new IpiError(
          'IPI_INVALID_ARGUMENT',
          `"${part}" is no part of a schedule: 0*3 1 i0 t1 d0`,
        )
      }
      const choice = { kind: KIND.get(match[1]!) as Choice['kind'], cpu: Number(match[2]) }
      return Array.from({ length: Number(match[3] ?? 1) }, () => choice)
    })
}

/** Runs one schedule; where it has ended, whoever can goes on, the lowest first. */
export class Replay implements Strategy {
  readonly name = 'replay'
  readonly exhausted = false
  readonly #schedule: readonly Choice[]
  #ran = false
  #step = 0

  constructor(schedule: string | readonly Choice[]) {
    this.#schedule = typeof schedule === 'string' ? decodeSchedule(schedule) : schedule
  }

  nextRun(): boolean {
    const first = !this.#ran
    this.#ran = true
    this.#step = 0
    return first
  }

  choose(_execution: Execution, choices: readonly Choice[]): number {
    const wanted = this.#schedule[this.#step++]
    if (wanted === undefined) return 0
    const way = choices.findIndex(({ kind, cpu }) => kind === wanted.kind && cpu === wanted.cpu)
    if (way >= 0) return way
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `the schedule does not fit: at step ${this.#step} CPU ${wanted.cpu} cannot ${wanted.kind}; ` +
        'was it printed for another version of the code?',
    )
  }

  describe(): string {
    return `${this.#schedule.length} choices`
  }
}

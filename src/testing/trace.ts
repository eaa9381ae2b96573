/** A failing schedule as a table that a person can read: one column per CPU, one row per access. */

import { WAIT_RESULT } from './access.ts'
import type { FoundFailure } from './explore.ts'
import type { Event } from './execution.ts'
import type { Scenario } from './scenario.ts'

/** The table, what went wrong, and the line that runs it again. */
export function formatFailure(scenario: Scenario, failure: FoundFailure): string {
  const nameOf = scenario.nameOf ?? ((at: number): string => `[${at}]`)
  const cpus = 1 + Math.max(0, ...failure.events.map(({ cpu }) => cpu))
  const cells = failure.events.map((event) => tell(event, nameOf))
  const widths = Array.from({ length: cpus }, (_, cpu) =>
    Math.max(5, ...cells.filter((_cell, i) => failure.events[i]!.cpu === cpu).map((c) => c.length)),
  )
  const row = (number: string, columns: readonly string[]): string =>
    `${number.padStart(5)}  ${columns.map((text, cpu) => text.padEnd(widths[cpu]!)).join('  ')}`
  const head = row(
    'step',
    widths.map((_, cpu) => `CPU ${cpu}`),
  )
  const rows = cells.map((cell, i) => {
    const columns = widths.map((_, cpu) => (cpu === failure.events[i]!.cpu ? cell : ''))
    return row(String(i + 1), columns).trimEnd()
  })
  return [
    `${scenario.name}: ${failure.kind}: ${failure.message}`,
    head.trimEnd(),
    ...rows,
    `replay: ${failure.schedule}`,
  ].join('\n')
}

/** One access and its result, in a few words. */
function tell(event: Event, nameOf: (at: number) => string): string {
  // Indented: in an interrupt.
  return (event.inInterrupt ? '  ' : '') + tellPlain(event, nameOf)
}

function tellPlain({ kind, access, result }: Event, nameOf: (at: number) => string): string {
  const { operation, at, value, expected } = access
  if (kind === 'death') return 'dies'
  if (kind === 'interrupt') return 'is interrupted'
  if (kind === 'timeout' && operation === 'pause') return 'pause: time is over'
  const word = nameOf(at)
  if (kind === 'timeout') return `wait ${word}: time is over`
  switch (operation) {
    case 'load':
      return `${word} is ${result}`
    case 'store':
      return `${word} := ${value}`
    case 'add':
      return `${word} += ${value}, was ${result}`
    case 'or':
      return `${word} |= ${value}, was ${result}`
    case 'and':
      return `${word} &= ${value}, was ${result}`
    case 'exchange':
      return `${word} <-> ${value}, was ${result}`
    case 'compareExchange':
      return result === expected
        ? `${word} ${expected} -> ${value}`
        : `${word} ${expected} -> ${value} fails, is ${result}`
    case 'wait':
      return result === WAIT_RESULT.notEqual
        ? `wait ${word} = ${expected}: is not`
        : `wait ${word} = ${expected}`
    case 'notify':
      return `notify ${word}: ${result} woken`
    case 'pause':
      return 'pause'
    case 'boundary':
      return 'nothing shared'
  }
}

/** What a run prints, and what it keeps. */

import { execFileSync } from 'node:child_process'
import { availableParallelism, cpus, loadavg } from 'node:os'
import type { Verdict } from '../goals.ts'
import type { Row, Unit } from './measure.ts'

/** Where and when a run was made. */
export interface Header {
  readonly date: string
  readonly commit: string
  readonly processor: string
  readonly cores: number
  readonly node: string
  readonly command: string
  readonly load: readonly number[]
}

/** Describes this machine and this moment. */
export function describeRun(args: readonly string[]): Header {
  return {
    date: new Date().toISOString(),
    commit: commit(),
    processor: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    node: process.version,
    command: ['npm run bench', ...(args.length > 0 ? ['--', ...args] : [])].join(' '),
    load: loadavg().map((load) => Math.round(load * 100) / 100),
  }
}

function commit(): string {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', ['--no-optional-locks', ...args], {
        cwd: new URL('../../..', import.meta.url),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim()
    const changed = git('status', '--porcelain', '--', 'src') === '' ? '' : ' with changes'
    return git('rev-parse', '--short', 'HEAD') + changed
  } catch {
    return 'unknown'
  }
}

/** The header as text. */
export function headerText(header: Header): string {
  const { date, processor, cores, node, load, command } = header
  const seats = cores === 2 ? ' (two cores: one sender, one receiver)' : ''
  return [
    `${date}  commit ${header.commit}`,
    `${processor}, ${cores} cores${seats}, Node ${node}, load ${load.join(' ')}`,
    command,
  ].join('\n')
}

/** The rows of one group as text. */
export function rowsText(rows: readonly Row[]): string {
  const lines = rows.map((row) => {
    const ratio = row.ratio === undefined ? '' : formatRatio(row.ratio)
    const [low, high] = row.ratioQuartiles ?? []
    const spread =
      low === undefined || high === undefined ? '' : `${formatRatio(low)} to ${formatRatio(high)}`
    const tail = row.p99 === undefined ? '' : formatValue(row.p99, row.unit)
    return [`  ${row.name}`, formatValue(row.median, row.unit), tail, ratio, spread]
  })
  return table([['', 'median', 'p99', 'ratio', 'quartiles'], ...lines])
}

/** The goals as text. */
export function verdictsText(verdicts: readonly Verdict[]): string {
  const lines = verdicts.map(({ what, than, value, limit, least, measured, met }) => {
    const format = (number: number): string =>
      value === 'ratio'
        ? formatRatio(number)
        : formatValue(number, value === 'count' ? 'count' : 'ns')
    const sign = least ? '≥' : '≤'
    return [`  ${what}`, than, `${sign} ${format(limit)}`, format(measured), met ? 'met' : 'MISSED']
  })
  return table([['', 'against', 'goal', 'measured', ''], ...lines])
}

/** Columns: the first to the left, all others to the right. */
function table(lines: readonly (readonly string[])[]): string {
  const widths = lines[0]!.map((_, column) =>
    Math.max(...lines.map((line) => line[column]!.length)),
  )
  return lines
    .map((line) =>
      line
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[i]! + 2)))
        .join('')
        .trimEnd(),
    )
    .join('\n')
}

function formatRatio(ratio: number): string {
  return `${digits(ratio)}×`
}

/** A value with a unit that suits its size. */
export function formatValue(value: number, unit: Unit): string {
  switch (unit) {
    case 'calls/s':
      return `${Math.round(value).toLocaleString('en')}/s`
    case 'count':
      return value.toLocaleString('en')
    case '%':
      return `${digits(value)} %`
    case 'bytes':
      return Math.abs(value) < 1e6
        ? `${digits(value / 1024)} KiB`
        : `${digits(value / 2 ** 20)} MiB`
    case 'ns':
      if (Math.abs(value) < 1e3) return `${digits(value)} ns`
      return Math.abs(value) < 1e6 ? `${digits(value / 1e3)} µs` : `${digits(value / 1e6)} ms`
  }
}

/** Three digits that mean something. */
function digits(value: number): string {
  const size = Math.abs(value)
  return value.toFixed(size < 10 ? 2 : size < 100 ? 1 : 0)
}

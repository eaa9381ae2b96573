/** What `npm run chaos` runs. */

import { parseArgs } from 'node:util'
import { DEEDS, OPERATIONS, OUTCOMES, AT, type Ledger } from '../support/chaos-ledger.ts'
import { runChaos, type ChaosOptions, type ChaosReport } from '../support/chaos-run.ts'

/** How often a line tells where the run is, when nobody looks at a terminal. */
const QUIET_PROGRESS_MS = 30_000
const DEFAULT_SECONDS = 20

const usage = `npm run chaos -- [--seconds N | --minutes N] [--seed N] [--cpus 2..8]
                 [--driver queue|callData]`

const options = readOptions()
console.log(`chaos: seed ${options.seed}, ${options.seconds} s`)
const report = await runChaos(options)
print(report)
// Threads of a machine that is not as it must be need not end by themselves.
process.exit(report.accusations.length === 0 ? 0 : 1)

function readOptions(): ChaosOptions {
  try {
    const text = { type: 'string' } as const
    const { values } = parseArgs({
      options: { seconds: text, minutes: text, seed: text, cpus: text, driver: text },
    })
    const seconds =
      values.minutes === undefined
        ? number('seconds', values.seconds ?? `${DEFAULT_SECONDS}`, 1, 1e6)
        : number('minutes', values.minutes, 1 / 60, 1e5) * 60
    const { driver } = values
    if (driver !== undefined && driver !== 'queue' && driver !== 'callData') {
      throw new Error(`--driver is queue or callData, got ${driver}`)
    }
    const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 31))
    return {
      seconds,
      seed: number('seed', seed, 0, 2 ** 31),
      ...(values.cpus === undefined ? {} : { cpus: number('cpus', values.cpus, 2, 8) }),
      ...(driver === undefined ? {} : { driver }),
      onProgress: progress(),
    }
  } catch (error) {
    console.error(`chaos: ${(error as Error).message}\n${usage}`)
    process.exit(2)
  }
}

function number(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (text !== '' && value >= least && value <= most) return value
  throw new Error(`--${name} is a number from ${least} to ${most}, got ${text}`)
}

function progress(): (book: Ledger, machine: string) => void {
  const start = performance.now()
  let told = start
  return (book, machine) => {
    const seconds = Math.round((performance.now() - start) / 1000)
    const line = `${seconds} s: ${total(book, 'operations', OPERATIONS.length)} operations; ${machine}`
    if (process.stderr.isTTY) {
      process.stderr.write(`\r\u001B[K${line}`)
    } else if (performance.now() - told >= QUIET_PROGRESS_MS) {
      told = performance.now()
      console.error(line)
    }
  }
}

function total(book: Ledger, what: 'operations' | 'outcomes', count: number): number {
  let sum = 0
  for (let i = 0; i < count; i++) sum += book.get(AT[what] + i) >>> 0
  return sum
}

function print({ book, seconds, accusations, scene, rssMb }: ChaosReport): void {
  if (process.stderr.isTTY) process.stderr.write('\r\u001B[K')
  const list = (
    names: readonly string[],
    at: number,
    unit = (n: number): string => `${n}`,
  ): string =>
    names
      .map((name, i) => ({ name, count: book.get(at + i) >>> 0 }))
      .filter(({ name, count }) => count > 0 && name !== 'idle')
      .map(({ name, count }) => `${name} ${unit(count)}`)
      .join(', ')
  const ms = (us: number): string => `${(us / 1000).toFixed(us < 10_000 ? 1 : 0)} ms`
  console.log(`operations  ${list(OPERATIONS, AT.operations)}`)
  console.log(`outcomes    ${list(OUTCOMES, AT.outcomes)}`)
  console.log(`deeds       ${list(DEEDS, AT.deeds)}`)
  console.log(`longest     ${list(OPERATIONS, AT.longestUs, ms)}`)
  console.log(
    `memory      ${rssMb[0]} MiB after the first machine, ${rssMb.at(-1)} after the last, ` +
      `${Math.max(...rssMb)} at most`,
  )
  for (const text of accusations) console.log(`\nWRONG: ${text}`)
  if (scene !== '') console.log(`\n${scene}\n`)
  const verdict = accusations.length === 0 ? 'every call settled, and the books balance' : 'FAILED'
  console.log(`chaos: seed ${options.seed}, ${seconds.toFixed(1)} s: ${verdict}`)
}

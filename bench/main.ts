/**
 * The benchmarks: `npm run bench`, or `npm run bench -- polling sleeping` for some of them. See
 * README.md beside this file.
 */

import { fork } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { format } from 'prettier'
import { judge } from './goals.ts'
import { GROUPS, isGroupName, type GroupName } from './groups.ts'
import type { Pace } from './support/group.ts'
import type { Row } from './support/measure.ts'
import { pinEnvironment } from './support/pin.ts'
import { describeRun, headerText, rowsText, verdictsText } from './support/report.ts'

/** How long a group may take before it is ended and called failed. */
const GROUP_MS_MAX = 120_000

const HELP = `usage: npm run bench -- [--quick] [--pin] [--save] [group …]

  --quick   fewer rounds: half a minute instead of three
  --pin     keep every thread on one processor; Linux only
  --save    also write bench/results/<date>-<node>.json

groups: ${Object.keys(GROUPS).join(', ')}`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    pin: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const unknown = positionals.filter((name) => !isGroupName(name))
if (values.help || unknown.length > 0) {
  if (unknown.length > 0) console.error(`bench: there is no group "${unknown.join('", "')}"\n`)
  console.log(HELP)
  process.exit(values.help ? 0 : 2)
}

const header = describeRun(process.argv.slice(2))
console.log(headerText(header))
const wanted = positionals.length > 0 ? positionals : Object.keys(GROUPS)
const results: Record<string, Row[]> = {}
for (const name of wanted.filter(isGroupName)) {
  console.log(`\n${name}: ${GROUPS[name].about}\n`)
  const rows = await measure(name, values.quick ? 'quick' : 'full')
  if (rows === undefined) process.exitCode = 1
  else console.log(rowsText(rows))
  results[name] = rows ?? []
}

const verdicts = judge(Object.values(results).flat())
if (verdicts.length > 0) console.log(`\nGoals\n\n${verdictsText(verdicts)}`)
if (values.save) {
  const folder = new URL('../../bench/results/', import.meta.url)
  const name = `${header.date.slice(0, 10)}-${header.node}.json`
  mkdirSync(folder, { recursive: true })
  const text = JSON.stringify({ header, results, verdicts })
  writeFileSync(new URL(name, folder), await format(text, { parser: 'json', printWidth: 100 }))
  console.log(`\nwritten to bench/results/${name}`)
}

/** Runs a group in a process of its own: no group sees what another has left behind. */
function measure(name: GroupName, pace: Pace): Promise<Row[] | undefined> {
  return new Promise((resolve) => {
    let rows: Row[] | undefined
    const child = fork(new URL('./support/child.js', import.meta.url), [name, pace], {
      env: pinEnvironment(values.pin),
    })
    const timer = setTimeout(() => {
      console.error(`bench: ${name} takes longer than ${GROUP_MS_MAX / 1000} s and is ended`)
      child.kill('SIGKILL')
    }, GROUP_MS_MAX)
    child.on('message', (message) => (rows = message as Row[]))
    child.on('exit', () => {
      clearTimeout(timer)
      resolve(rows)
    })
  })
}

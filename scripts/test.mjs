// Runs the compiled tests: `npm test`, or `npm test -- apic call-function` for the files whose path
// contains one of the words, and none of those that begin with a `!`. Arguments that begin with a dash
// go to Node's test runner.
//
// The files are listed here, one by one, because this is the only form that Node 20, 22, 24 and 26
// agree on: 20 knows no globs, and 22 and 24 refuse a folder.

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fail, root, runNode, setup } from './run.mjs'

// A hang must end and accuse by name. Node 20 and 22 hold the first limit against each file, 24 and
// 26 against each test, where it misses a thread that blocks and a file that never lets go. The
// second limit is for those; asked to end, the newer runners name the files they were running.
const testTimeoutMs = 300_000
const runTimeoutMs = 840_000

const args = process.argv.slice(2)
const flags = args.filter((arg) => arg.startsWith('-'))
const words = args.filter((arg) => !arg.startsWith('-') && !arg.startsWith('!'))
const unwanted = args.filter((arg) => arg.startsWith('!')).map((arg) => arg.slice(1))

await setup('dist', 'tests')

// Listed by their sources, so that what an earlier build left behind is not run.
const folder = join(root, 'test')
const sources = existsSync(folder) ? readdirSync(folder, { recursive: true }) : []
const files = sources
  .map((source) => `build/test/${source.replaceAll('\\', '/')}`)
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => file.replace(/\.ts$/, '.js'))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .filter((file) => !unwanted.some((word) => file.includes(word)))
  .sort()
if (files.length === 0) {
  fail(words.length > 0 ? `No test file matches ${words.join(' or ')}.` : 'There are no tests.')
}

const command = [
  '--enable-source-maps',
  '--test',
  // Most tests keep two threads busy already; more files at once would measure the scheduler.
  '--test-concurrency=2',
  `--test-timeout=${testTimeoutMs}`,
  // Node 20 prints TAP into a pipe and 24 does not: named, the output is the same everywhere.
  '--test-reporter=spec',
  ...flags,
  ...files,
]
const startedMs = performance.now()
const { status } = await runNode(command, { timeoutMs: runTimeoutMs, timeoutSignal: 'SIGTERM' })
if (performance.now() - startedMs >= runTimeoutMs) {
  fail(`The tests did not end within ${runTimeoutMs / 1000} s.`)
}
process.exit(status)

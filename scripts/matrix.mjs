// Runs the compiled tests with every supported line of Node: `npm run matrix`, or
// `npm run matrix -- 20 26 forced` for some lines and some tests, named as for `npm test`. The binaries are the registry's own packages, kept under
// .cache/node, so nothing has to be installed on the machine.

import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { fail, root, run, runNpm, setup } from './run.mjs'

/** The newest release of each line is meant; Node 20 has a lower bound, the one in `engines`. */
const ranges = { 20: '^20.20.0', 22: '^22.0.0', 24: '^24.0.0', 26: '^26.0.0' }

const args = process.argv.slice(2)
const asked = args.filter((arg) => /^\d+$/.test(arg))
const words = args.filter((arg) => !asked.includes(arg))
const majors = asked.length > 0 ? asked : Object.keys(ranges)
for (const major of majors) {
  if (!Object.hasOwn(ranges, major)) {
    fail(`matrix: Node ${major} is not supported; there is ${Object.keys(ranges).join(', ')}.`)
  }
}

await setup('dist', 'tests')
const rows = []
for (const major of majors) rows.push(await test(major))

const widths = { node: 10, result: 8, tests: 8, pass: 8, fail: 8, skipped: 9, seconds: 8 }
const columns = Object.entries(widths)
const line = (row) => columns.map(([name, width]) => String(row[name] ?? '').padEnd(width)).join('')
console.log('')
console.log(line(Object.fromEntries(columns.map(([name]) => [name, name]))).trimEnd())
for (const row of rows) console.log(line(row).trimEnd())
process.exitCode = rows.every((row) => row.result === 'pass') ? 0 : 1

async function test(major) {
  const node = await binary(major)
  if (node === undefined) return { node: major, result: 'MISSING' }
  const version = (await run(node, ['--version'], { capture: true })).output.trim()

  const startedMs = performance.now()
  // Tests that start `node` by name must get this one too.
  const env = { ...process.env, PATH: dirname(node) + delimiter + process.env.PATH }
  const { status, output } = await run(node, ['scripts/test.mjs', ...words], { capture: true, env })
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)

  const log = join(root, '.cache', 'matrix', `${major}.log`)
  mkdirSync(dirname(log), { recursive: true })
  writeFileSync(log, output)
  const result = status === 0 ? 'pass' : 'FAIL'
  if (status !== 0) console.log(output)
  console.log(`matrix: Node ${version} ${result} in ${seconds} s`)
  const plain = stripVTControlCharacters(output)
  const count = (name) => plain.match(new RegExp(`^\\W*${name} (\\d+)$`, 'm'))?.[1] ?? '?'
  const counts = ['tests', 'pass', 'fail', 'skipped'].map((name) => [name, count(name)])
  return { node: version, result, seconds, ...Object.fromEntries(counts) }
}

/** The path of a Node binary, installed on first use; nothing when the registry has none. */
async function binary(major) {
  const system = process.platform === 'win32' ? 'win' : process.platform
  const name = `node-${system}-${process.arch}`
  const prefix = join(root, '.cache', 'node', major)
  const executable = process.platform === 'win32' ? 'node.exe' : 'node'
  const path = join(prefix, 'node_modules', name, 'bin', executable)
  if (existsSync(path)) return path

  console.log(`matrix: installing ${name}@${ranges[major]}`)
  mkdirSync(prefix, { recursive: true })
  // Without a package.json of its own, npm would look for one further up and find ours.
  writeFileSync(join(prefix, 'package.json'), '{ "private": true }\n')
  const options = ['--no-audit', '--no-fund', '--loglevel=error', '--prefix', prefix]
  const { status } = await runNpm(['install', ...options, `${name}@${ranges[major]}`], {
    cwd: prefix,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (status === 0 && existsSync(path)) return path
  // Half an installation would look like a whole one next time.
  rmSync(prefix, { recursive: true, force: true })
  console.log(`matrix: ${name}@${ranges[major]} cannot be installed.`)
  return undefined
}

// The command line itself: help, version, and what it does not know.

import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { runCli } from './run-cli.ts'

test('--version prints the version of the package', async () => {
  const file = new URL('../../../package.json', import.meta.url)
  const { version } = JSON.parse(readFileSync(file, 'utf8'))
  const { status, stdout } = await runCli(['--version'])
  assert.equal(stdout, `${version}\n`)
  assert.equal(status, 0)
})

test('--help names the commands, and the help of a command its options', async () => {
  const general = await runCli(['--help'])
  assert.match(general.stdout, /demo \[options\].*call \[options\] <module> <function> \[json\]/s)
  assert.equal(general.status, 0)
  const call = await runCli(['call', '--help'])
  assert.match(call.stdout, /--cpus.*--timeout-ms.*--json.*Exit status: 0.*1.*2/s)
  assert.equal(call.status, 0)
  const demo = await runCli(['demo', '--help'])
  assert.match(demo.stdout, /--cpus.*--module.*--function/s)
  assert.equal(demo.status, 0)
})

test('without a command it prints the help to stderr and ends with status 2', async () => {
  const { status, stdout, stderr } = await runCli([])
  assert.equal(stdout, '')
  assert.match(stderr, /^Usage: interprocessor/)
  assert.equal(status, 2)
})

test('an unknown command or option ends with status 2 and points at the help', async () => {
  const unknown: readonly (readonly [string[], RegExp])[] = [
    [['dmo'], /unknown command 'dmo'\n\(Did you mean demo\?\)/],
    [['--wat'], /unknown option '--wat'/],
    [['demo', '--wat'], /unknown option '--wat'/],
  ]
  for (const [args, message] of unknown) {
    const { status, stdout, stderr } = await runCli(args)
    assert.match(stderr, message)
    assert.match(stderr, /interprocessor --help says more/)
    assert.equal(stdout, '')
    assert.equal(status, 2)
  }
})

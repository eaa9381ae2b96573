// `interprocessor call` with modules of a user's own: results, failures on some CPUs, wrong input.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { library, runCli, UserFolder, type Run } from './run-cli.ts'

const MODULE = `
import { threadId } from 'node:worker_threads'
import { sharedFunction } from '${library}'

export const square = ({ n }) => n * n
export function place() { return { thread: threadId, list: [1, 2] } }
export const length = sharedFunction('another name', (text) => text.length)
export const given = (info) => info === undefined ? 'nothing' : info
export function fails(on) {
  if (threadId === on) throw new TypeError('not on this thread', { cause: new Error('a reason') })
  return 'fine'
}
export function spins() { for (;;); }
export function unusual() { return new Map([['big', 12n]]) }
export function circular() { const ring = {}; ring.ring = ring; return ring }
export function dies() { if (threadId === 1) process.exit(3); return 'alive' }
export async function isAsync() {}
export function promises() { return Promise.resolve() }
export const sharedAsync = sharedFunction('shared async', async () => undefined)
export class Thing {}
export const answer = 42
setInterval(() => undefined, 1000)
`

const MODULES = {
  'mine.mjs': MODULE,
  'broken.mjs': `export function f() {}\nthrow new Error('broken while loading')`,
  'syntax.mjs': `export function (`,
  'nothing.mjs': `export const answer = 42`,
  'boots.mjs': `import { boot } from '${library}'
    export function f() {}
    await boot({ cpus: 1 })`,
  'main-only.mjs': `import { isMainThread } from 'node:worker_threads'
    if (!isMainThread) throw new Error('for the main thread only')
    export function f() {}`,
}

async function call(...args: string[]): Promise<Run> {
  using folder = new UserFolder(MODULES)
  const run = await runCli(['call', ...args], folder.path)
  assert.ok(run.endedByItself, `${args.join(' ')} did not end by itself`)
  return run
}

test('a plain exported function runs on every CPU with the JSON argument', async () => {
  const { status, stdout, stderr } = await call('mine.mjs', 'square', '{"n": 12}', '--cpus', '4')
  assert.equal(stderr, '')
  assert.equal(stdout, 'CPU 0: 144\nCPU 1: 144\nCPU 2: 144\nCPU 3: 144\n')
  assert.equal(status, 0)
})

test('each CPU is a thread of its own, and one line stands for each', async () => {
  const { status, stdout } = await call('./mine.mjs', 'place', '--cpus', '3')
  const line = (id: number): string => `CPU ${id}: { thread: ${id}, list: [ 1, 2 ] }\n`
  assert.equal(stdout, line(0) + line(1) + line(2))
  assert.equal(status, 0)
})

test('a function that is shared already is called by the name that it has', async () => {
  const { status, stdout } = await call('mine.mjs', 'length', '"four"', '--cpus', '2')
  assert.equal(stdout, 'CPU 0: 4\nCPU 1: 4\n')
  assert.equal(status, 0)
})

test('one CPU is enough', async () => {
  const { status, stdout } = await call('mine.mjs', 'square', '{"n": 3}', '--cpus', '1')
  assert.equal(stdout, 'CPU 0: 9\n')
  assert.equal(status, 0)
})

test('without JSON the argument is undefined, and null is null', async () => {
  assert.match((await call('mine.mjs', 'given', '--cpus', '2')).stdout, /^CPU 1: 'nothing'$/m)
  assert.match((await call('mine.mjs', 'given', 'null', '--cpus', '2')).stdout, /^CPU 1: null$/m)
})

test('with --json one object says everything', async () => {
  const { status, stdout } = await call('mine.mjs', 'square', '{"n": 5}', '--cpus', '2', '--json')
  const { module, ...rest } = JSON.parse(stdout)
  assert.match(module, /^file:.*mine\.mjs$/)
  assert.deepEqual(rest, {
    ok: true,
    function: 'square',
    cpus: [
      { cpu: 0, ok: true, result: 25 },
      { cpu: 1, ok: true, result: 25 },
    ],
  })
  assert.equal(status, 0)
})

test('with --json what JSON cannot say is said as well as it can', async () => {
  const unusual = JSON.parse((await call('mine.mjs', 'unusual', '--cpus', '2', '--json')).stdout)
  assert.deepEqual(unusual.cpus[1], { cpu: 1, ok: true, result: [['big', '12']] })
  const circular = JSON.parse((await call('mine.mjs', 'circular', '--cpus', '2', '--json')).stdout)
  assert.match(circular.cpus[1].result, /Circular/)
})

test('a failure on one CPU is shown with its stack, the others give their results', async () => {
  const { status, stdout, stderr } = await call('mine.mjs', 'fails', '2', '--cpus', '4')
  assert.equal(stdout, "CPU 0: 'fine'\nCPU 1: 'fine'\nCPU 3: 'fine'\n")
  assert.match(stderr, /^CPU 2: failed: TypeError: not on this thread\n.*mine\.mjs:10:/)
  assert.match(stderr, /CPU 2 \("fails", called by CPU 0\)/)
  assert.match(stderr, /\[cause\]: Error: a reason/)
  assert.equal(status, 1)
})

test('a failure on this thread alone is a failure, too', async () => {
  const { status, stdout, stderr } = await call('mine.mjs', 'fails', '0', '--cpus', '2')
  assert.equal(stdout, "CPU 1: 'fine'\n")
  assert.match(stderr, /^CPU 0: failed: TypeError: not on this thread\n/)
  assert.equal(status, 1)
})

test('with --json a failure is in the object, and its stack on stderr', async () => {
  const { status, stdout, stderr } = await call('mine.mjs', 'fails', '1', '--cpus', '2', '--json')
  const { ok, cpus } = JSON.parse(stdout)
  assert.equal(ok, false)
  assert.deepEqual(cpus[0], { cpu: 0, ok: true, result: 'fine' })
  assert.equal(cpus[1].error.name, 'TypeError')
  assert.equal(cpus[1].error.message, 'not on this thread')
  assert.match(cpus[1].error.stack, /mine\.mjs/)
  assert.doesNotMatch(cpus[1].error.stack, /runSharedFunction/)
  assert.match(stderr, /^CPU 1: failed: TypeError/)
  assert.equal(status, 1)
})

test('a CPU that does not answer in time is named, and nothing is left running', async () => {
  const options = ['--cpus', '3', '--timeout-ms', '200']
  const { status, stdout, stderr } = await call('mine.mjs', 'spins', ...options)
  assert.equal(stdout, '')
  assert.match(stderr, /^CPU 0: failed: not run here, because CPU 1-2 did not answer in time$/m)
  assert.match(stderr, /^CPU 1: failed: CPU 0 waited \d+ ms for "spins": CPU 1 is running/m)
  assert.match(stderr, /^CPU 2: failed: CPU 0 waited/m)
  assert.equal(status, 1)
})

test('a CPU whose thread ends is an error, and not a wait', async () => {
  const { status, stdout, stderr } = await call('mine.mjs', 'dies', '--cpus', '3')
  assert.match(stdout, /^CPU 2: 'alive'$/m)
  assert.match(stderr, /CPU 1: failed: .*IPI_CPU_DIED/s)
  assert.equal(status, 1)
})

test('every wrong input ends with status 2 and says what to do', async () => {
  const wrong: readonly (readonly [string[], RegExp])[] = [
    [['gone.mjs', 'f'], /there is no module .*gone\.mjs; give the path of a JavaScript file/],
    [['.', 'f'], /is not a file; give the path/],
    [['syntax.mjs', 'f'], /syntax\.mjs cannot be loaded; it says:\n.*SyntaxError/s],
    [['broken.mjs', 'f'], /broken\.mjs cannot be loaded; it says:\nError: broken while loading/],
    [['mine.mjs', 'gone'], /mine\.mjs does not export "gone"; it exports these functions: Thing, /],
    [
      ['mine.mjs', 'answer'],
      /"answer" .* is not a function but number; it .* spins, square, unusual$/m,
    ],
    [['nothing.mjs', 'f'], /does not export "f"; it exports no function/],
    [['mine.mjs', 'Thing'], /"Thing" of mine\.mjs is a class/],
    [['mine.mjs', 'isAsync'], /"isAsync" of mine\.mjs is asynchronous/],
    [['mine.mjs', 'sharedAsync', '--cpus', '2'], /"shared async" is an async function/],
    [['mine.mjs', 'promises', '--cpus', '2'], /"promises" returned a promise/],
    [['mine.mjs', 'square', '{n: 1}'], /the argument is not JSON: .*Quote it/],
    [['boots.mjs', 'f', '--cpus', '2'], /boots a machine itself/],
    [['main-only.mjs', 'f', '--cpus', '2'], /brought up: .*for the main thread only/],
    [['mine.mjs'], /missing required argument 'function'/],
    [['mine.mjs', 'square', '1', '2'], /too many arguments/],
    [['mine.mjs', 'square', '--cpus', 'many'], /It is an integer from 1 to 256/],
    [['mine.mjs', 'square', '--timeout-ms', '0'], /It is an integer from 1 to/],
  ]
  for (const [args, message] of wrong) {
    const { status, stdout, stderr } = await call(...args)
    assert.match(stderr, message)
    assert.equal(stdout, '', args.join(' '))
    assert.equal(status, 2, args.join(' '))
  }
})

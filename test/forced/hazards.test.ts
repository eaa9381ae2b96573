/**
 * The hazards of forced entry, each with programs that would hang for ever if it were not handled:
 * A, a termination that meets an entry ends only that; B, an inspector session to the main thread holds
 * up the exit; C, some code never looks. docs/interrupting.md explains them.
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DEADLINE_MS } from '../support/machine-board.ts'

const SCRIPT = fileURLToPath(new URL('../support/forced-ending.js', import.meta.url))
const NODE = Number(process.versions.node.split('.')[0])

/** How a program ended. */
interface End {
  readonly code: number | null
  readonly signal: string | null
  readonly output: string
  readonly errors: string
}

/** Runs one of the programs of forced-ending to its end, or to the deadline. */
function run(program: string, flags: readonly string[] = [], args: readonly string[] = []) {
  return new Promise<End>((resolve, reject) => {
    const options = { timeout: DEADLINE_MS, killSignal: 'SIGKILL' as const }
    const child = spawn(process.execPath, [...flags, SCRIPT, program, ...args], options)
    let output = ''
    let errors = ''
    child.stdout.on('data', (chunk) => (output += String(chunk)))
    child.stderr.on('data', (chunk) => (errors += String(chunk)))
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, output, errors }))
  })
}

describe('hazard A: a termination that meets a forced entry', () => {
  for (const [program, code, output] of [
    ['exit() while a forced handler never ends', 5, ''],
    ['the end of its work while a forced handler never ends', 0, ''],
    ['an error that nobody catches while a forced handler never ends', 1, ''],
    ['close() while a forced handler never ends', 0, 'closed'],
    ['terminate() while a forced handler never ends', 0, 'terminated'],
    ['exit() of a worker in a forced handler', 0, 'died'],
  ] as const) {
    test(program, async () => {
      const end = await run(program)
      assert.deepEqual(
        { code: end.code, signal: end.signal, output: end.output },
        { code, signal: null, output },
        end.errors,
      )
    })
  }
})

describe('hazard B: a session to the main thread', () => {
  const program = 'exit() after a worker was the first to force an entry'
  for (const flags of [[], ['--inspect=0']]) {
    test(`does not hold up the exit${flags.length > 0 ? ', with a debugger port' : ''}`, async () => {
      const { code, signal, output, errors } = await run(program, flags)
      assert.deepEqual({ code, signal, output }, { code: 5, signal: null, output: 'reached' })
      assert.doesNotMatch(errors, /Waiting for the debugger/)
    })
  }
})

describe(
  'hazard C: a loop that never looks',
  { skip: NODE < 24 && 'Node looks in all loops' },
  () => {
    test('is reached, and ends with its process, if V8 is asked to look in every loop', async () => {
      const end = await run('exit() while a loop never looks', [], ['pollEveryLoop'])
      assert.deepEqual([end.code, end.signal, end.output], [5, null, 'reached'], end.errors)
    })

    test('does not hold up close(), which says so', async () => {
      const { output, errors } = await run('close() while a loop never looks')
      assert.equal(output, 'closed')
      assert.match(errors, /CPU 1 was told to end 5000 ms ago and does not/)
    })
  },
)

describe('an NMI in a handler of the event exit', () => {
  test('is taken in a worker, until its CPU has left', async () => {
    const { code, output, errors } = await run("NMIs in handlers of the event 'exit', of a worker")
    assert.deepEqual([code, output], [0, 'taken 1, then IPI_CPU_OFFLINE'], errors)
  })

  test('is taken in the main thread, and sent from it', async () => {
    const end = await run("NMIs in handlers of the event 'exit', of the main thread")
    assert.deepEqual([end.code, end.output], [5, 'main thread: 1, worker: 1'], end.errors)
  })
})

test('an NMI is taken by a main thread that a debugger has stopped, and it stays stopped', async () => {
  const { code, output, errors } = await run('an NMI while a debugger has stopped the main thread')
  assert.deepEqual([code, output], [0, '1 taken while it stood'], errors)
})

test('a machine made in a worker says so, NMIs wait for a safepoint, and force is refused', async () => {
  const { code, output, errors } = await run('a machine made in a worker')
  const [here, there, end, ...refused] = output.split('\n')
  assert.match(here ?? '', /^false: the machine was made in a worker/, errors)
  assert.match(there ?? '', /"forcedEntry":false,"reason":"the machine was made in a worker/)
  assert.equal(end, 'taken in the event loop')
  assert.deepEqual(refused, ['call: IPI_NO_FORCED_ENTRY', 'boot: IPI_NO_FORCED_ENTRY'])
  assert.equal(code, 0, errors)
})

describe('where the inspector is forbidden', () => {
  const permission = NODE < 22 ? '--experimental-permission' : '--permission'
  test('the machine says so, NMIs wait for a safepoint, and force is refused', async () => {
    const flags = [permission, '--allow-worker', '--allow-fs-read=*']
    const { code, output, errors } = await run('no forced entry', flags)
    const [here, there, end, ...refused] = output.split('\n')
    assert.match(here ?? '', /^false: the permission model forbids the inspector/, errors)
    assert.match(there ?? '', /"forcedEntry":false,"reason":"the permission model/)
    assert.equal(end, 'taken in the event loop')
    assert.deepEqual(refused, ['call: IPI_NO_FORCED_ENTRY', 'boot: IPI_NO_FORCED_ENTRY'])
    assert.equal(code, 0, errors)
  })

  test('and not where it is allowed', { skip: NODE < 24 && 'no such permission' }, async () => {
    const flags = [permission, '--allow-worker', '--allow-fs-read=*', '--allow-inspector']
    const { output } = await run('no forced entry', flags)
    assert.match(output, /^true/)
  })
})

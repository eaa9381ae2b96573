/**
 * Threads and processes that end while a task runs that can be aborted: the guard must not keep what
 * ends them to itself. And aborting where there is no forced entry.
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DEADLINE_MS } from '../support/machine-board.ts'

const SCRIPT = fileURLToPath(new URL('../support/abort-ending.js', import.meta.url))
const NODE = Number(process.versions.node.split('.')[0])

/** Runs one of the programs of abort-ending to its end, or to the deadline. */
function run(program: string, flags: readonly string[] = []) {
  return new Promise<{ code: number | null; output: string; errors: string }>((resolve, reject) => {
    // One of them ends twenty threads.
    const options = { timeout: 3 * DEADLINE_MS, killSignal: 'SIGKILL' as const }
    const child = spawn(process.execPath, [...flags, SCRIPT, program], options)
    let output = ''
    let errors = ''
    child.stdout.on('data', (chunk) => (output += String(chunk)))
    child.stderr.on('data', (chunk) => (errors += String(chunk)))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, output, errors }))
  })
}

describe('a guard lets through what ends its thread', () => {
  for (const [program, code, output] of [
    ['exit() while a task runs', 5, ''],
    ['close() while a task runs', 0, 'closed'],
    ['exit() in a task', 0, 'died'],
    ['an abort and the end of the thread at once', 0, 'ended each time'],
  ] as const) {
    test(program, async () => {
      const end = await run(program)
      assert.deepEqual([end.code, end.output], [code, output], end.errors)
    })
  }
})

test('without forced entry a task is aborted at a safepoint, or with its thread', async () => {
  const permission = NODE < 22 ? '--experimental-permission' : '--permission'
  const { output, errors } = await run('no forced entry', [
    permission,
    '--allow-worker',
    '--allow-fs-read=*',
  ])
  assert.deepEqual(output.split('\n'), ['false', 'aborted', 'replaced'], errors)
})

/**
 * A program ends when its own work is done, whatever its machine does; and it does not end while it
 * awaits an answer (users' question 3.5, pitfalls P1 and P18).
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DEADLINE_MS } from '../support/machine-board.ts'

const SCRIPT = fileURLToPath(new URL('../support/machine-ending.js', import.meta.url))

/** How a program ended. */
interface End {
  readonly code: number | null
  readonly signal: string | null
  readonly output: string
  readonly errors: string
}

/** Runs one of the programs of machine-ending to its end. */
function run(program: string): Promise<End> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [SCRIPT, program], { timeout: DEADLINE_MS })
    let output = ''
    let errors = ''
    child.stdout.on('data', (chunk) => (output += String(chunk)))
    child.stderr.on('data', (chunk) => (errors += String(chunk)))
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, output, errors }))
  })
}

describe('a program ends by itself', () => {
  for (const program of [
    'idle, parked',
    'idle, polling',
    'idle, after calls that failed',
    'alone, no other CPU',
    'closed',
  ]) {
    test(program, async () => {
      assert.deepEqual(await run(program), { code: 0, signal: null, output: '', errors: '' })
    })
  }
})

describe('a program is ended', () => {
  for (const [program, code] of [
    ['exit() with a call out', 5],
    ['exit() while every CPU is busy', 5],
    ['an error that nobody catches, with a call out', 1],
  ] as const) {
    test(program, async () => {
      const end = await run(program)
      assert.equal(end.signal, null, end.errors)
      assert.equal(end.code, code, end.errors)
    })
  }
})

describe('a program goes on while it waits', () => {
  for (const [program, output] of [
    ['an awaited call keeps it alive', 'answered'],
    ['an awaited deadline keeps it alive', 'IPI_TIMEOUT'],
    ['an application timer goes on', 'ticked'],
  ] as const) {
    test(program, async () => {
      assert.deepEqual(await run(program), { code: 0, signal: null, output, errors: '' })
    })
  }
})

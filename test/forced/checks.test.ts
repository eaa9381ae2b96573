/** The development mode of handlers on real threads: which rules are seen to be broken, and which not. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isIpiError, type BootOptions, type HandlerViolation } from '../../src/index.ts'
import {
  heard,
  holdLock,
  holdLockBriefly,
  justLoop,
  listen,
  replaced,
  requestSin,
  type Sin,
} from '../support/check-tasks.ts'
import { settled, WORD } from '../support/machine-board.ts'
import { withMachine, type Bench } from '../support/machine-harness.ts'
import { startTask } from '../support/machine-tasks.ts'

const TASKS = new URL('../support/check-tasks.js', import.meta.url)
const PROGRAM = fileURLToPath(new URL('../support/check-program.js', import.meta.url))
const FORCE = { forceAfterMs: 2 }

function checked(run: (bench: Bench) => Promise<void>, options: BootOptions = {}): Promise<void> {
  // A machine that is busy with something else makes everything slow.
  const checks = { checkHandlers: true, handlerBudgetMs: 60_000 }
  const all = { cpus: 2, entry: TASKS, haltPollMs: 0, ...checks, ...options }
  return withMachine(all, async (bench) => {
    await bench.machine.smpCallFunctionSingle(1, listen)
    await run(bench)
  })
}

/** What CPU 1 was told. */
async function told({ machine }: Bench): Promise<HandlerViolation[]> {
  return (await machine.smpCallFunctionSingle(1, heard)) as HandlerViolation[]
}

/** Has CPU 1 run it; gives the code of the error that came of it, if one did. */
async function commit({ machine }: Bench, sin: Sin, options = {}): Promise<string> {
  const call = machine.smpCallFunctionSingle(1, `sin.${sin}`, undefined, options)
  return settled(call, sin).then(
    () => 'none',
    (error: unknown) => (isIpiError(error) ? error.code : String(error)),
  )
}

describe('a function of a call is found that', () => {
  const plain: [Sin, HandlerViolation['rule'], string, RegExp][] = [
    ['async', 'async', 'IPI_ASYNC_FUNCTION', /returned a promise/],
    ['blocks', 'blocks', 'none', /blocks in a wait on shared memory/],
    ['slow', 'slow', 'none', /ran for \d+\.\d ms, and its budget is 5 ms/],
  ]
  for (const [sin, rule, code, message] of plain) {
    test(`breaks the rule "${rule}"`, () =>
      checked(
        async (bench) => {
          assert.equal(await commit(bench, sin), code)
          const [violation, ...more] = await told(bench)
          assert.deepEqual(more, [])
          assert.equal(violation!.rule, rule)
          assert.deepEqual([violation!.cpu, violation!.vector], [1, 0xfb])
          assert.equal(violation!.name, `sin.${sin}`)
          assert.equal(violation!.forced, false)
          assert.match(violation!.message, message)
          if (sin === 'blocks') assert.match(violation!.stack, /^\s+at .*check-tasks/)
        },
        sin === 'slow' ? { handlerBudgetMs: 5 } : {},
      ))
  }

  const locks: Sin[] = ['spins by exchange', 'spins by compareExchange', 'spins by load']
  for (const sin of [...locks, 'waits for the lock'] as Sin[]) {
    test(`${sin} that the interrupted code holds`, () =>
      checked(async (bench) => {
        const { machine, board } = bench
        const { result } = await startTask(1, holdLock)
        await board.reached(WORD.entered)
        // The caller must know the function to have it forced: it does, by its own import.
        assert.equal(await commit(bench, sin, FORCE), 'IPI_WOULD_DEADLOCK')
        board.set(WORD.release, 1)
        await settled(result, 'the loop goes on, and lets go of its lock')
        const [violation] = await told(bench)
        assert.deepEqual([violation!.rule, violation!.forced], ['lock', true])
        assert.match(violation!.message, /word 8, a lock that the code it interrupted holds/)
        assert.match(
          violation!.stack,
          /^\s+at .*check-tasks.*\n\s+at <interrupt>\n(?:.*\n)*.*holdLock/,
        )
        assert.ok(machine.capabilities.forcedEntry)
      }))
  }

  test('starts a timer in the middle of other JavaScript, and nowhere else', () =>
    checked(async (bench) => {
      assert.equal(await commit(bench, 'timer'), 'none')
      assert.deepEqual(await told(bench), [])
      const { result } = await startTask(1, justLoop)
      await bench.board.reached(WORD.entered)
      assert.equal(await commit(bench, 'timer', FORCE), 'none')
      bench.board.set(WORD.release, 1)
      await settled(result, 'the loop')
      const rules = (await told(bench)).map(({ rule }) => rule)
      assert.deepEqual(rules, ['timer'])
    }))
})

test('handlers of vectors and of NMIs are found by their names', () =>
  checked(async (bench) => {
    const { machine } = bench
    const vector = machine.allocVector()
    await machine.smpCallFunctionSingle(1, requestSin, { vector, sin: 'blocks' })
    machine.sendIpiMask([1], vector)
    machine.sendNmi([1])
    const found: HandlerViolation[] = []
    while (found.length < 2) found.push(...(await told(bench)))
    const seen = found.map(({ name, vector: of, rule }) => `${rule} ${name} ${of}`).toSorted()
    assert.deepEqual(seen, [`blocks blocks ${vector}`, 'blocks sin 2'].toSorted())
  }))

describe('nothing is told of a function that', () => {
  for (const sin of ['tries', 'takes a free lock', 'nothing'] as Sin[]) {
    test(`${sin}, in the middle of code that holds a lock`, () =>
      checked(async (bench) => {
        const { result } = await startTask(1, holdLock)
        await bench.board.reached(WORD.entered)
        for (let i = 0; i < 20; i++) assert.equal(await commit(bench, sin, FORCE), 'none')
        bench.board.set(WORD.release, 1)
        await settled(result, 'the loop')
        assert.deepEqual(await told(bench), [])
      }))
  }

  test('waits for a lock that another thread holds: that is slow, but ends', () =>
    checked(
      async (bench) => {
        const { result } = await startTask(2, holdLockBriefly)
        await bench.board.reached(WORD.done)
        assert.equal(await commit(bench, 'waits until another lets go'), 'none')
        await settled(result, 'the task')
        assert.deepEqual(await told(bench), [])
      },
      { cpus: 3 },
    ))

  test('stays within its budget', () =>
    checked(async (bench) => {
      assert.equal(await commit(bench, 'slow'), 'none')
      assert.deepEqual(await told(bench), [])
    }))
})

test('off, nothing is replaced; on, until the machine is closed, on every thread', async () => {
  await withMachine({ cpus: 2, entry: TASKS }, async ({ machine }) => {
    assert.deepEqual(await machine.smpCallFunctionSingle(1, replaced), [])
  })
  await checked(async ({ machine }) => {
    const names = await machine.smpCallFunctionSingle(1, replaced)
    assert.ok(names.includes('wait') && names.includes('setTimeout'), names.join())
    assert.ok(replaced(undefined).includes('wait'))
  })
  assert.deepEqual(replaced(undefined), [])
})

test('where nobody listens it is printed at once, and once', () => {
  const { stderr, status } = spawnSync(process.execPath, [PROGRAM], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  const lines = stderr.split('\n').filter((line) => line.includes('blocks in a wait'))
  assert.equal(lines.length, 1, stderr)
  assert.match(lines[0]!, /interprocessor: the handler "sin.blocks" \(vector 251\) of CPU 1 blocks/)
})

test('a budget that is none is refused', () =>
  assert.rejects(
    withMachine({ checkHandlers: true, handlerBudgetMs: -1 }, () => Promise.resolve()),
    { code: 'IPI_INVALID_ARGUMENT' },
  ))

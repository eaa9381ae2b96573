/** Backtraces of real threads: what each says it does, whatever that is. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { isIpiError, type CpuBacktrace, type Machine } from '../../src/index.ts'
import { bootOn } from '../../src/kernel/boot.ts'
import { nodePlatform } from '../../src/platform/node.ts'
import { THREAD_SCRIPT } from '../../src/worker.ts'
import { Board, settled, until, WORD } from '../support/machine-board.ts'
import { withAdopted, withMachine, type Bench } from '../support/machine-harness.ts'
import { runTask, setBoard, startTask } from '../support/machine-tasks.ts'
import {
  askForBacktrace,
  backtraceInHandler,
  blockInCall,
  haltAWhile,
  lastCode,
  loopUntil,
  namedLoop,
  namedLoopOff,
  namedWait,
  VECTORS,
  waitInHandler,
} from '../support/forced-tasks.ts'

const TASKS = new URL('../support/forced-tasks.js', import.meta.url)

function withCpus(cpus: number, run: (bench: Bench) => Promise<void>, options = {}): Promise<void> {
  return withMachine({ cpus, entry: TASKS, haltPollMs: 0, ...options }, run)
}

/** What the machine says of CPU 1. */
async function ofCpu1({ machine }: Bench): Promise<CpuBacktrace> {
  const { cpus } = await settled(machine.backtrace([1]), 'the backtrace')
  assert.equal(cpus.length, 1)
  return cpus[0]!
}

/** Resolves once a CPU idles: it may not have come to rest from what was asked of it before. */
async function rest(machine: Machine, cpu: number): Promise<void> {
  while ((await machine.backtrace([cpu])).cpu(cpu)?.activity !== 'idle');
}

describe('a CPU that is', () => {
  test('in a loop says where, and what waits for it', () =>
    withCpus(2, async (bench) => {
      const { machine, board } = bench
      const { result } = await startTask(1, namedLoop)
      await board.reached(WORD.entered)
      machine.sendIpiMask([1], VECTORS.unsafe)
      const seen = await ofCpu1(bench)
      assert.equal(seen.activity, 'running')
      assert.equal(seen.irqsDisabled, false)
      assert.deepEqual(seen.pending, [VECTORS.unsafe])
      assert.match(seen.stack, /innermostLoop.*\n.*outerLoop/)
      const mapped = process.execArgv.includes('--enable-source-maps')
      assert.match(seen.stack, mapped ? /forced-tasks\.ts:\d+/ : /forced-tasks\.js:\d+/)
      assert.doesNotMatch(seen.stack, /interprocessorForcedEntry|node:inspector|anonymous>:1:/)
      board.set(WORD.release, 1)
      await settled(result, 'the loop')
    }))

  test('in a loop with interrupts off says so', () =>
    withCpus(2, async (bench) => {
      const { result } = await startTask(1, namedLoopOff)
      await bench.board.reached(WORD.entered)
      const seen = await ofCpu1(bench)
      assert.equal(seen.irqsDisabled, true)
      assert.match(seen.stack, /innermostLoop.*\n.*outerLoop/)
      bench.board.set(WORD.release, 1)
      await settled(result, 'the loop')
    }))

  test('in Atomics.wait is blocked there', () =>
    withCpus(2, async (bench) => {
      const { result } = await startTask(1, namedWait)
      await bench.board.reached(WORD.entered)
      let seen = await ofCpu1(bench)
      // It may not have come to the wait yet.
      while (seen.activity !== 'blocked') seen = await ofCpu1(bench)
      assert.match(seen.stack, /^\s*at Atomics\.wait/)
      bench.board.set(WORD.release, 1)
      await settled(result, 'the wait')
    }))

  test('in a wait of this library is blocked there', () =>
    withCpus(3, async (bench) => {
      const ways = [() => startTask(1, haltAWhile), () => startTask(1, blockInCall, 2)]
      for (const start of ways) {
        const { result } = await start()
        await bench.board.reached(WORD.entered)
        let seen = await ofCpu1(bench)
        while (seen.activity !== 'blocked') seen = await ofCpu1(bench)
        assert.match(seen.stack, /haltAWhile|blockInCall|inTask/)
        bench.board.set(WORD.release, 1)
        await settled(result, 'the wait')
        bench.board.clear()
      }
    }))

  test('in a handler says in which', () =>
    withCpus(2, async (bench) => {
      const call = bench.machine.smpCallFunctionSingle(1, waitInHandler)
      await bench.board.reached(WORD.entered)
      const seen = await ofCpu1(bench)
      assert.equal(seen.vector, 0xfb)
      assert.equal(seen.functionName, 'forced.waitInHandler')
      assert.equal(seen.irqsDisabled, true)
      assert.match(seen.stack, /innermostLoop/)
      bench.board.set(WORD.release, 1)
      await settled(call, 'the call')
    }))

  test('idle is idle, parked or polling', async () => {
    for (const haltPollMs of [0, Infinity]) {
      await withCpus(
        2,
        async (bench) => {
          let seen = await ofCpu1(bench)
          // It may not have come to rest yet from what was asked of it before.
          while (seen.activity !== 'idle') seen = await ofCpu1(bench)
          assert.equal(seen.stack, '')
          assert.equal(seen.vector, 0)
        },
        { haltPollMs },
      )
    }
  })

  test('stopped, answers yet', () =>
    withCpus(2, async (bench) => {
      await settled(bench.machine.smpSendStop(), 'the stop')
      let seen = await ofCpu1(bench)
      // It is out of the online map before it halts.
      while (seen.activity !== 'stopped') seen = await ofCpu1(bench)
      assert.equal(seen.irqsDisabled, true)
    }))

  test('not there is offline, one whose thread has ended dead', () =>
    withAdopted({ cpus: 3, maxCpus: 4, tasks: TASKS }, async ({ machine, kill }) => {
      await kill(1)
      await rest(machine, 2)
      const { cpus } = await machine.backtrace(machine.possibleMask)
      const activities = cpus.map(({ activity }) => activity)
      assert.deepEqual(activities, ['running', 'dead', 'idle', 'offline'])
      const present = await machine.backtrace()
      assert.deepEqual(
        present.cpus.map(({ cpu }) => cpu),
        [0, 1, 2],
      )
    }))

  test('taken down in good order is offline, and its next life is not', () =>
    withAdopted({ cpus: 3, tasks: TASKS }, async ({ machine, adopt }) => {
      await machine.cpuDown(1)
      await rest(machine, 2)
      const left = await machine.backtrace()
      assert.deepEqual(
        left.cpus.map(({ cpu, activity }) => `${cpu} ${activity}`),
        ['0 running', '1 offline', '2 idle'],
      )
      const { cpu } = await adopt(1)
      assert.equal(cpu, 1)
      await settled(rest(machine, 1), 'the next life')
    }))

  test('coming up is booting', () =>
    withAdopted({ cpus: 1, maxCpus: 3, tasks: TASKS }, async ({ machine }) => {
      const worker = new Worker('setTimeout(() => undefined, 1e6)', { eval: true })
      await once(worker, 'online')
      const up = machine.bringUp(worker, 1)
      await until(
        () => machine.presentMask.has(1),
        () => 'CPU 1 is not present',
      )
      const seen = await machine.backtrace([1])
      assert.equal(seen.cpu(1)?.activity, 'booting')
      const failed = assert.rejects(up)
      await worker.terminate()
      await failed
    }))
})

describe('a backtrace', () => {
  test('of oneself is what asks for it', () =>
    withCpus(1, async ({ machine }) => {
      const askHere = (): ReturnType<typeof machine.backtrace> => machine.backtrace()
      const own = (await askHere()).cpu(0)!
      assert.equal(own.activity, 'running')
      assert.match(own.stack, /askHere/)
    }))

  test('is had from a worker, of the main thread and of others, and prints', () =>
    withCpus(3, async ({ machine, board }) => {
      const { result } = await startTask(2, namedLoopOff)
      await board.reached(WORD.entered)
      const { result: report } = await startTask(1, askForBacktrace, 2)
      // The main thread does not look up either, until the worker has its answer.
      ;(function busyMain() {
        board.add(WORD.entered)
        board.block(WORD.done)
      })()
      const text = await settled(report, 'the backtrace')
      board.set(WORD.release, 1)
      await settled(result, 'the loop')
      assert.match(text, /^CPU 0: (?:blocked|running).*\n(?:\s.*\n)*?\s.*busyMain/)
      assert.match(text, /\nCPU 1: running/)
      // Its task began in a turn of its event loop, after which it may or may not have parked.
      assert.match(
        text,
        /\nCPU 2: running(?:, state parked)?, interrupts off\n(?:\s.*\n)*?.*innermostLoop/,
      )
      assert.ok(machine.capabilities.forcedEntry)
    }))

  test('is had by several at once', () =>
    withCpus(3, async ({ machine, board }) => {
      const { result } = await startTask(2, namedLoop)
      await board.reached(WORD.entered)
      const asked = [machine.backtrace([2]), machine.backtrace([2]), machine.backtrace([1, 2])]
      const other = runTask(1, askForBacktrace, 1)
      for (const trace of await settled(Promise.all(asked), 'the backtraces')) {
        assert.match(trace.cpu(2)!.stack, /innermostLoop/)
      }
      assert.match(await settled(other, 'the other backtrace'), /innermostLoop/)
      board.set(WORD.release, 1)
      await settled(result, 'the loop')
    }))

  test('two hundred times in a row finds the loop each time', () =>
    withCpus(2, async ({ machine, board }) => {
      const { result } = await startTask(1, namedLoop)
      await board.reached(WORD.entered)
      for (let i = 0; i < 200; i++) {
        const trace = await settled(machine.backtrace([1]), `backtrace ${i}`)
        assert.match(trace.cpu(1)!.stack, /innermostLoop/)
      }
      board.set(WORD.release, 1)
      await settled(result, 'the loop')
    }))

  test('is refused in a handler, and for CPUs that cannot be', () =>
    withCpus(2, async ({ machine }) => {
      const code = await settled(
        machine.smpCallFunctionSingle(1, backtraceInHandler).then(() => runTask(1, lastCode)),
        'the attempt',
      )
      assert.equal(code, 'IPI_WOULD_DEADLOCK')
      await assert.rejects(machine.backtrace([300]), isIpiError)
    }))
})

test('without forced entry a CPU that does not look is silent, and others answer', async () => {
  const { forced: _, ...platform } = nodePlatform(THREAD_SCRIPT)
  const options = { cpus: 3, entry: TASKS, haltPollMs: 0 }
  const machine = await bootOn(platform, options)
  try {
    const board = new Board()
    await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
    const { result } = await startTask(1, loopUntil, WORD.done)
    await board.reached(WORD.entered)
    const trace = await machine.backtrace(undefined, { timeoutMs: 50 })
    assert.deepEqual(
      trace.cpus.map(({ activity }) => activity),
      ['running', 'silent', 'idle'],
    )
    assert.match(String(trace), /CPU 1: silent, did not answer/)
    board.set(WORD.done, 1)
    await settled(result, 'the loop')
  } finally {
    await machine.close()
  }
})

/** Lockup detectors on real threads: who is found stuck, how, how often, and who is left in peace. */

import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { describe, test } from 'node:test'
import type { BootOptions, Lockup, Machine } from '../../src/index.ts'
import { CPU } from '../../src/hardware/layout.ts'
import { bootOn } from '../../src/kernel/boot.ts'
import { nodePlatform } from '../../src/platform/node.ts'
import { THREAD_SCRIPT } from '../../src/worker.ts'
import { namedLoop, namedLoopOff, namedWait, waitInHandler } from '../support/forced-tasks.ts'
import { beQuiet, loopUntilSet, pollLoopOff, QUIET, watchBoot } from '../support/lockup-tasks.ts'
import { Board, DEADLINE_MS, settled, until, WORD } from '../support/machine-board.ts'
import { withAdopted, withMachine, type Bench } from '../support/machine-harness.ts'
import { setBoard, startTask } from '../support/machine-tasks.ts'

const TASKS = new URL('../support/lockup-tasks.js', import.meta.url)
const LIMIT_MS = 400
const LIMITS = { softLockupMs: LIMIT_MS, hardLockupMs: LIMIT_MS }

/** What this thread is told of one machine. */
class Reports {
  readonly stuck: Lockup[] = []
  readonly unstuck: Lockup[] = []

  constructor(machine: Machine) {
    machine.on('stuck', (report) => void (report.kind !== 'call' && this.stuck.push(report)))
    machine.on('unstuck', (report) => void (report.kind !== 'call' && this.unstuck.push(report)))
  }

  /** The CPUs that were reported, in that order. */
  get cpus(): number[] {
    return this.stuck.map(({ cpu }) => cpu)
  }

  async found(cpu: number): Promise<Lockup> {
    await until(
      () => this.cpus.includes(cpu),
      () => `CPU ${cpu} was not found; found were ${this.cpus.join()}`,
    )
    return this.stuck.find((report) => report.cpu === cpu)!
  }

  async ended(cpu: number): Promise<Lockup> {
    const find = (): Lockup | undefined => this.unstuck.find((report) => report.cpu === cpu)
    await until(
      () => find() !== undefined,
      () => `the end of the lockup of CPU ${cpu} was not told`,
    )
    return find()!
  }
}

interface WatchedBench extends Bench {
  readonly reports: Reports
}

function watched(options: BootOptions, run: (bench: WatchedBench) => Promise<void>): Promise<void> {
  return withMachine({ entry: TASKS, haltPollMs: 0, ...LIMITS, ...options }, (bench) =>
    run({ ...bench, reports: new Reports(bench.machine) }),
  )
}

const signsOf = ({ cpu: { memory } }: Machine, cpu: number): number =>
  memory.readCpu(cpu, CPU.signs)

describe('a CPU is found stuck', () => {
  test('softly, in a loop without safepoints; once, until it goes on', () =>
    watched({ cpus: 3 }, async ({ board, reports }) => {
      const first = await startTask(1, namedLoop)
      const report = await reports.found(1)
      assert.equal(report.kind, 'soft')
      assert.equal(report.foundBy, 0)
      assert.equal(report.activity, 'running')
      assert.equal(report.irqsDisabled, false)
      assert.ok(report.lastedMs >= LIMIT_MS)
      assert.match(report.stack, /innermostLoop.*\n.*outerLoop/)
      assert.match(report.message, /^soft lockup for \d+ ms: CPU 1: running/)
      // As long again: the other takes its time to be found, too.
      const second = await startTask(2, loopUntilSet, WORD.free)
      await reports.found(2)
      assert.deepEqual(reports.cpus, [1, 2])
      board.set(WORD.release, 1)
      await settled(first.result, 'the loop')
      const end = await reports.ended(1)
      assert.ok(end.lastedMs > report.lastedMs)
      assert.deepEqual({ ...end, lastedMs: 0 }, { ...report, lastedMs: 0 })
      // The next episode is another.
      board.set(WORD.release, 0)
      const third = await startTask(1, namedLoop)
      await until(
        () => reports.stuck.length === 3,
        () => 'the second episode was not told',
      )
      assert.deepEqual(reports.cpus, [1, 2, 1])
      board.set(WORD.release, 1)
      board.set(WORD.free, 1)
      await settled(Promise.all([second.result, third.result]), 'the loops')
    }))

  test('hard, in a loop with interrupts off, safepoints or not', async () => {
    for (const [task, stack] of [
      [namedLoopOff, /innermostLoop/],
      [pollLoopOff, /pollLoopOff/],
    ] as const) {
      await watched({ cpus: 2 }, async ({ board, reports }) => {
        const { result } = await startTask(1, task)
        const report = await reports.found(1)
        assert.equal(report.kind, 'hard')
        assert.equal(report.irqsDisabled, true)
        assert.match(report.stack, stack)
        board.set(WORD.release, 1)
        await settled(result, 'the loop')
        await reports.ended(1)
      })
    }
  })

  test('hard, in a handler that does not return', () =>
    watched({ cpus: 2 }, async ({ machine, board, reports }) => {
      const call = machine.smpCallFunctionSingle(1, waitInHandler)
      const report = await reports.found(1)
      assert.equal(report.kind, 'hard')
      assert.equal(report.functionName, 'forced.waitInHandler')
      board.set(WORD.release, 1)
      await settled(call, 'the call')
      await reports.ended(1)
    }))

  test('softly, in a wait that is not of this library', () =>
    watched({ cpus: 2 }, async ({ board, reports }) => {
      const { result } = await startTask(1, namedWait)
      const report = await reports.found(1)
      assert.deepEqual([report.kind, report.activity], ['soft', 'blocked'])
      board.set(WORD.release, 1)
      await settled(result, 'the wait')
    }))

  test('by another, when it is the main thread', () =>
    watched({ cpus: 2 }, async ({ board }) => {
      const { result } = await startTask(1, watchBoot)
      await board.reached(WORD.entered)
      ;(function busyMain() {
        const end = performance.now() + DEADLINE_MS
        while (board.get(WORD.done) === 0 && performance.now() < end);
      })()
      const [stuck, unstuck] = await settled(result, 'the reports')
      assert.deepEqual([stuck!.kind, stuck!.cpu, stuck!.foundBy], ['soft', 0, 1])
      assert.match(stuck!.stack, /busyMain/)
      assert.ok(unstuck!.lastedMs >= stuck!.lastedMs)
    }))

  test('by the only one that is not', () =>
    watched({ cpus: 4 }, async ({ board, reports }) => {
      const tasks = await Promise.all(
        [1, 2, 3].map((cpu) => startTask(cpu, loopUntilSet, WORD.free)),
      )
      await Promise.all([1, 2, 3].map((cpu) => reports.found(cpu)))
      assert.equal(reports.stuck.length, 3)
      board.set(WORD.free, 1)
      await settled(Promise.all(tasks.map(({ result }) => result)), 'the loops')
      await Promise.all([1, 2, 3].map((cpu) => reports.ended(cpu)))
    }))

  test('on the diagnostics channel, without a listener', () =>
    withMachine({ cpus: 2, entry: TASKS, ...LIMITS }, async ({ board }) => {
      const messages: unknown[] = []
      const listener = (message: unknown): void => void messages.push(message)
      subscribe('interprocessor:stuck', listener)
      try {
        const { result } = await startTask(1, namedLoop)
        await until(
          () => messages.length > 0,
          () => 'nothing came',
        )
        assert.equal((messages[0] as Lockup).kind, 'soft')
        board.set(WORD.release, 1)
        await settled(result, 'the loop')
      } finally {
        unsubscribe('interprocessor:stuck', listener)
      }
    }))
})

describe('nothing is told', () => {
  // Beside each there is one that is stuck, and was in its state later.
  for (const state of Object.keys(QUIET) as (keyof typeof QUIET)[]) {
    for (const haltPollMs of state === 'idle' ? [0, Infinity] : [0]) {
      test(`of a CPU that is ${state}${haltPollMs > 0 ? ', and polls' : ''}`, () =>
        watched({ cpus: 4, haltPollMs }, async ({ machine, board, reports }) => {
          const quiet = await startTask(1, beQuiet, state)
          // One for the state; one more where it is CPU 2 that holds it there.
          const inHandler = state === 'blocked in a call'
          await board.reached(WORD.entered, inHandler ? 2 : 1)
          const stuck = await startTask(3, loopUntilSet, WORD.free)
          await reports.found(3)
          const told = reports.stuck.filter(({ cpu }) => !(inHandler && cpu === 2))
          assert.deepEqual(
            told.map(({ cpu }) => cpu),
            [3],
          )
          board.set(WORD.free, 1)
          board.set(WORD.release, 1)
          // Ends a halt.
          machine.smpSendReschedule(1)
          await settled(Promise.all([quiet.result, stuck.result]), 'the tasks')
        }))
    }
  }

  test('where nobody listens, and nobody is asked', () =>
    withMachine({ cpus: 3, entry: TASKS, ...LIMITS }, async ({ machine, board }) => {
      const { result } = await startTask(1, namedLoopOff)
      await board.reached(WORD.entered)
      // Three limits long: CPU 0 has looked as often as CPU 2 has given signs.
      const from = [signsOf(machine, 0), signsOf(machine, 2)]
      await until(
        () => [0, 2].every((cpu, i) => signsOf(machine, cpu) >= from[i]! + 6),
        () => 'the others give no signs',
      )
      assert.equal(machine.interrupts().total('NMI'), 0)
      board.set(WORD.release, 1)
      await settled(result, 'the loop')
    }))

  test('of what is turned off', async () => {
    const off = { softLockupMs: Infinity }
    await watched({ cpus: 3, ...off }, async ({ board, reports }) => {
      const soft = await startTask(1, namedLoop)
      await board.reached(WORD.entered)
      const hard = await startTask(2, namedLoopOff)
      await reports.found(2)
      assert.deepEqual(reports.cpus, [2])
      board.set(WORD.release, 1)
      await settled(Promise.all([soft.result, hard.result]), 'the loops')
    })
    await watched({ cpus: 3, hardLockupMs: Infinity }, async ({ board, reports }) => {
      const hard = await startTask(1, pollLoopOff)
      await board.reached(WORD.entered)
      const soft = await startTask(2, namedLoop)
      await reports.found(2)
      assert.deepEqual(reports.cpus, [2])
      board.set(WORD.release, 1)
      await settled(Promise.all([soft.result, hard.result]), 'the loops')
    })
  })

  test('and no sign is given where both are', () =>
    watched(
      { cpus: 2, softLockupMs: Infinity, hardLockupMs: Infinity },
      async ({ machine, board }) => {
        // Answers come with attention.
        const { result } = await startTask(1, beQuiet, 'in turns of its event loop')
        await board.reached(WORD.entered)
        assert.deepEqual([signsOf(machine, 0), signsOf(machine, 1)], [0, 0])
        board.set(WORD.release, 1)
        await settled(result, 'the turns')
      },
    ))
})

test('it ends with the death of the thread, with its leaving by force, and with the machine', () =>
  withAdopted({ cpus: 4, tasks: TASKS, ...LIMITS }, async ({ machine, kill }) => {
    const reports = new Reports(machine)
    // No result of theirs will come.
    for (const cpu of [1, 2, 3]) await startTask(cpu, loopUntilSet, WORD.free)
    await Promise.all([1, 2, 3].map((cpu) => reports.found(cpu)))
    await kill(1)
    assert.ok((await reports.ended(1)).lastedMs >= LIMIT_MS)
    await machine.cpuDown(2, { force: true, timeoutMs: 50 })
    await reports.ended(2)
    await machine.close()
    const told = reports.unstuck.map(({ cpu }) => cpu)
    assert.deepEqual(told, [1, 2, 3])
    assert.equal(reports.stuck.length, 3)
  }))

test('without forced entry it is found without a stack, and the report says why', async () => {
  const { forced: _, ...platform } = nodePlatform(THREAD_SCRIPT)
  const machine = await bootOn(platform, { cpus: 2, entry: TASKS, ...LIMITS })
  try {
    const board = new Board()
    const reports = new Reports(machine)
    await machine.cpuhpSetupState('board', { startup: setBoard }, board.words.buffer)
    const { result } = await startTask(1, namedLoop)
    const report = await reports.found(1)
    assert.deepEqual([report.kind, report.activity, report.stack], ['soft', 'silent', ''])
    assert.match(report.message, /no stack: there is no forced entry, because/)
    board.set(WORD.release, 1)
    await settled(result, 'the loop')
    await reports.ended(1)
  } finally {
    await machine.close()
  }
})

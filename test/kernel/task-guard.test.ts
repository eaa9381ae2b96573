/**
 * What a forced entry decides about a task, and what is found when one was aborted: on one kernel, with
 * a guard whose engine does what the test says.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TASK } from '../../src/hardware/layout.ts'
import type { AbortGuard, EntryPlace, GuardEnd } from '../../src/hardware/platform.ts'
import { HARDIRQ_OFFSET } from '../../src/kernel/preempt.ts'
import { TaskGuard, type AbortedTask } from '../../src/kernel/task-guard.ts'
import {
  CHECK_AT,
  CHECK_FOUND,
  TASK_STATE,
  taskRecord,
  taskWord,
} from '../../src/kernel/task-words.ts'
import { KernelBench } from '../support/kernel-bench.ts'

const NUMBER = 7
const VECTOR = 0x60

/** An engine that aborts when its loop has come to the end, as it was told to. */
class Engine implements AbortGuard {
  standsIn: EntryPlace = 'task'
  end: GuardEnd = 'returned'

  run(loop: () => void): GuardEnd {
    loop()
    const { end } = this
    this.end = 'returned'
    return end
  }

  place(): EntryPlace {
    return this.standsIn
  }
}

/** A guard in which task 7 runs, as `ask` leaves it when somebody asks for its end by force. */
function running(task: (bench: ReturnType<typeof parts>) => void): AbortedTask[] {
  const bench = parts()
  const aborted: AbortedTask[] = []
  let runs = 0
  bench.guard.run(
    () => {
      if (++runs > 1) return
      bench.guard.enter(NUMBER)
      bench.ask()
      task(bench)
    },
    (each) => aborted.push(each),
  )
  return aborted
}

function parts() {
  const kernel = new KernelBench(1).kernel(0)
  const engine = new Engine()
  const { cpu, forced } = kernel
  const { words } = cpu.memory
  const record = taskRecord(cpu.memory, 0, 0)
  const taken: number[] = []
  kernel.idt.requestIrq(VECTOR, 'counted', () => taken.push(VECTOR))
  return {
    kernel,
    engine,
    taken,
    guard: new TaskGuard(cpu, forced, engine),
    decide: () => forced.decide(),
    ask: () => {
      words[record + TASK.task] = taskWord(NUMBER, TASK_STATE.asked)
      words[record + TASK.check] = CHECK_AT.task
    },
    state: () => words[record + TASK.task]! & 3,
    check: () => words[record + TASK.check],
  }
}

test('one that is doomed takes no interrupt any more, and its thread takes it afterwards', () => {
  let seen: readonly number[] = []
  const aborted = running(({ kernel, engine, taken, decide }) => {
    assert.equal(decide(), 'abort')
    kernel.senders.sendIpiSelf(VECTOR)
    kernel.cpu.core.poll()
    assert.deepEqual(taken, [], 'the engine may abort it anywhere from here on')
    engine.end = 'aborted'
    seen = taken
  })
  assert.deepEqual(aborted, [{ task: NUMBER, isSafe: true }])
  assert.deepEqual(seen, [VECTOR])
})

test('one that is doomed and has gone on into this library is spared, and asked anew', () => {
  const aborted = running(({ kernel, engine, taken, decide, state, check, ask }) => {
    assert.equal(decide(), 'abort')
    assert.equal(state(), TASK_STATE.aborting)
    // The termination has hit another entry only.
    engine.standsIn = 'library'
    assert.equal(decide(), 'spared')
    assert.deepEqual([state(), check()], [TASK_STATE.asked, CHECK_FOUND.library])
    kernel.senders.sendIpiSelf(VECTOR)
    kernel.cpu.core.poll()
    assert.deepEqual(taken, [VECTOR])
    engine.standsIn = 'task'
    ask()
    assert.equal(decide(), 'abort')
    assert.equal(decide(), 'abort', 'also where it stands when the engine has not come to it')
    engine.end = 'aborted'
  })
  assert.deepEqual(aborted, [{ task: NUMBER, isSafe: true }])
})

test('a thread whose task was aborted in a handler is not what it was', () => {
  const aborted = running(({ kernel, engine, decide }) => {
    assert.equal(decide(), 'abort')
    kernel.cpu.preempt.add(HARDIRQ_OFFSET)
    engine.end = 'aborted'
  })
  assert.deepEqual(aborted, [{ task: NUMBER, isSafe: false }])
})

test('a task that nobody has asked to end goes on', () => {
  const bench = parts()
  assert.equal(bench.decide(), 'goesOn')
})

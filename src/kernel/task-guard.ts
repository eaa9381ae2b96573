/**
 * Running tasks so that they can be aborted: what the executor of a CPU needs. It runs its loop in a
 * guard, and says of each task when it begins and ends. Linux: do_exit of a task with a fatal signal.
 *
 *    guard.run(() => {
 *      for (let task = next(); task !== undefined; task = next()) {
 *        guard.enter(task.number)
 *        const result = run(task)
 *        if (guard.leave()) forget(result)
 *        else report(result)
 *      }
 *    }, onAborted)
 *
 * A guard costs 7 to 10 µs, a task in it two atomic operations: so a guard for each time that the
 * executor wakes up, and none for a task.
 */

import { IpiError } from '../base/errors.ts'
import { TASK, TASK_LEVELS } from '../hardware/layout.ts'
import { compareExchange, load, store, wait } from '../hardware/memory.ts'
import type { AbortGuard, EntryEnd, GuardEnd } from '../hardware/platform.ts'
import type { Cpu } from './cpu.ts'
import type { ForcedEntry } from './forced.ts'
import { holderOf, wake } from './robust-lock.ts'
import {
  CHECK_AT,
  CHECK_FOUND,
  lowBits,
  TASK_END,
  TASK_NUMBER_MAX,
  TASK_STATE,
  taskOf,
  taskRecord,
  taskWord,
} from './task-words.ts'

/** A task that was aborted, in front of everything that its executor had on the stack. */
export interface AbortedTask {
  /** Its number. */
  readonly task: number
  /**
   * Whether all is as before but what the task itself had begun. If not, it was aborted in the middle of
   * code of Node's own: the thread should be replaced soon.
   */
  readonly isSafe: boolean
}

/** The state of this CPU that a task may have changed when it is aborted. */
interface Context {
  readonly level: number
  readonly floor: number
  readonly interruptsOn: boolean
  readonly preemptCount: number
  readonly kernelDepth: number
}

/** How long to wait for an abort before one looks again whether it is still to come. */
const AWAIT_ABORT_MS = 1

/** The tasks of one CPU that can be aborted. Private to its thread. */
export class TaskGuard {
  readonly #cpu: Cpu
  readonly #port: AbortGuard | undefined
  readonly #records: readonly number[]
  /** How many tasks are on the stack, and how many of them below the innermost guard; -1 no guard. */
  #level = 0
  #floor = -1
  /** Whether the innermost is being aborted where it should better not be. */
  #isUnsafe = false
  /** The task that was told to end by an error. */
  #told = 0

  /** @internal */
  constructor(cpu: Cpu, forced: ForcedEntry, port: AbortGuard | undefined) {
    this.#cpu = cpu
    this.#port = port
    const levels = Array.from({ length: TASK_LEVELS }, (_, level) => level)
    this.#records = levels.map((level) => taskRecord(cpu.memory, cpu.id, level))
    cpu.checkSignal = () => this.#checkSignal()
    forced.decide = () => this.#decide()
  }

  /**
   * Runs `loop`, in which tasks are entered and left. If one is aborted, `loop` is over at once, without
   * its `finally`; `onAborted` is called, and then `loop` once more. Within a guard in which no task is
   * entered, and where nothing can be aborted by force, it just runs. Not in interrupt handlers. Throws
   * what `loop` throws.
   */
  run(loop: () => void, onAborted: (aborted: AbortedTask) => void): void {
    if (this.#floor === this.#level) return loop()
    const context = this.#save()
    this.#floor = this.#level
    try {
      for (;;) {
        const end = this.#port === undefined ? loop() : this.#port.run(loop)
        if (end === undefined || end === 'returned') return
        const aborted = this.#settle(context, end)
        if (aborted.task !== 0) onAborted(aborted)
      }
    } finally {
      while (this.#level > context.level) this.leave()
      this.#floor = context.floor
    }
  }

  /**
   * The executor begins to run a task, in front of any that it has on the stack already. `task` is a
   * number from 1 to 2^29 - 1 that no other task of this CPU has had lately. Throws
   * `IPI_INVALID_ARGUMENT`, also for a fifth task on the stack.
   */
  enter(task: number): void {
    if (!Number.isInteger(task) || task < 1 || task > TASK_NUMBER_MAX) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        `a task is a whole number from 1 to ${TASK_NUMBER_MAX}, got ${String(task)}`,
      )
    }
    if (this.#level === TASK_LEVELS) {
      throw new IpiError(
        'IPI_INVALID_ARGUMENT',
        `${TASK_LEVELS} tasks are on the stack already, each in front of the one before; leave one`,
        { cpu: this.#cpu.id },
      )
    }
    const at = this.#records[this.#level]! + TASK.task
    store(this.#cpu.memory.words, at, taskWord(task, TASK_STATE.running))
    this.#level++
  }

  /** The innermost task has ended by itself. Gives whether it was asked to: its result is of no use. */
  leave(): boolean {
    const { words } = this.#cpu.memory
    const record = this.#records[this.#level - 1]!
    const running = taskWord(taskOf(words[record + TASK.task]!), TASK_STATE.running)
    // Pairs with askToEnd: whoever comes second knows that the other was there.
    if (compareExchange(words, record + TASK.task, running, 0) === running) {
      this.#level--
      return false
    }
    return this.#leaveAsked(record)
  }

  /** It ends by itself, and somebody has asked. */
  #leaveAsked(record: number): boolean {
    const { words } = this.#cpu.memory
    const asked = taskWord(taskOf(words[record + TASK.task]!), TASK_STATE.asked)
    // A forced entry may come in between: then the task is being aborted, and this is where it ends.
    const how = this.#told === taskOf(asked) ? TASK_END.aborted : TASK_END.finished
    store(words, record + TASK.end, taskWord(taskOf(asked), how))
    // It stands here until it is aborted, or spared because it stands here.
    while (compareExchange(words, record + TASK.task, asked, 0) !== asked) {
      wait(words, record + TASK.task, taskWord(taskOf(asked), TASK_STATE.aborting), AWAIT_ABORT_MS)
    }
    this.#level--
    this.#wakeAsker(record)
    return true
  }

  #save(): Context {
    const { core, preempt, kernelDepth } = this.#cpu
    return {
      level: this.#level,
      floor: this.#floor,
      interruptsOn: core.interruptsEnabled,
      preemptCount: preempt.value,
      kernelDepth,
    }
  }

  /**
   * The guard has been unwound: nothing of what ran in it is on the stack. What only its owner may undo,
   * and the owner is gone: undone here. Handlers and waits are never aborted (#decide), so what they
   * have in their hands needs nothing.
   */
  #settle({ level, interruptsOn, preemptCount, kernelDepth }: Context, end: GuardEnd): AbortedTask {
    const { words } = this.#cpu.memory
    const record = this.#records[level]!
    const task = taskOf(load(words, record + TASK.task))
    const isSafe = end === 'aborted' && !this.#isUnsafe && !this.#cpu.inInterrupt
    this.#isUnsafe = false
    this.#cpu.core.isDoomed = false
    this.#level = level
    this.#floor = level
    this.#cpu.preempt.value = preemptCount
    this.#cpu.kernelDepth = kernelDepth
    if (task !== 0) {
      const how = isSafe ? TASK_END.aborted : TASK_END.unsafe
      // Before the word: whoever finds that gone looks at this.
      store(words, record + TASK.end, taskWord(task, how))
      store(words, record + TASK.task, 0)
      this.#wakeAsker(record)
    }
    if (interruptsOn) this.#cpu.localIrqEnable()
    else this.#cpu.localIrqDisable()
    return { task, isSafe }
  }

  /** Whoever has asked looks again: it is over, or cannot be now. */
  #wakeAsker(record: number): void {
    const asker = holderOf(load(this.#cpu.memory.words, record + TASK.lock))
    if (asker >= 0) wake(this.#cpu, asker)
  }

  /** `fatal_signal_pending`, at a safepoint of the task's own, or in a wait that it is in. */
  #checkSignal(): void {
    if (this.#level <= Math.max(this.#floor, 0)) return
    const { words } = this.#cpu.memory
    const word = words[this.#records[this.#level - 1]! + TASK.task]!
    if (lowBits(word) !== TASK_STATE.asked || this.#cpu.inInterrupt) return
    this.#told = taskOf(word)
    throw new IpiError('IPI_ABORTED', `task ${this.#told} of CPU ${this.#cpu.id} shall end`, {
      cpu: this.#cpu.id,
    })
  }

  /**
   * In a forced entry, in the middle of anything. A task is aborted in code of its own, or, if whoever
   * asks has lost patience, in code of the environment's that it has called; never while this library
   * is on the stack above it, which is how a handler and a wait are known.
   *
   * One that is doomed already is looked at again: the engine has not come to it, or its termination has
   * hit nothing but another entry, and the task has gone on since.
   */
  #decide(): EntryEnd {
    const { words } = this.#cpu.memory
    const { core } = this.#cpu
    const wasDoomed = core.isDoomed
    for (let level = 0; level < this.#level; level++) {
      const record = this.#records[level]!
      const check = load(words, record + TASK.check)
      const word = load(words, record + TASK.task)
      const isDoomed = wasDoomed && lowBits(word) === TASK_STATE.aborting
      if (!isDoomed) {
        if (check !== CHECK_AT.task && check !== CHECK_AT.environment) continue
        if (lowBits(word) !== TASK_STATE.asked) continue
      }
      const found = this.#find(level)
      if (found === 0 || (found === CHECK_FOUND.environment && check === CHECK_AT.environment)) {
        this.#isUnsafe = found !== 0
        store(words, record + TASK.task, taskWord(taskOf(word), TASK_STATE.aborting))
        // The engine aborts at the next look of its own, and where calls are inlined that is far on.
        core.isDoomed = true
        return 'abort'
      }
      if (isDoomed) {
        core.isDoomed = false
        store(words, record + TASK.task, taskWord(taskOf(word), TASK_STATE.asked))
      }
      store(words, record + TASK.check, found)
      this.#wakeAsker(record)
    }
    return wasDoomed ? 'spared' : 'goesOn'
  }

  /** What speaks against aborting the task of a level now: one of CHECK_FOUND, or 0. */
  #find(level: number): number {
    // Another task, or an executor that looks for one, is in front of it.
    if (level < this.#level - 1 || this.#floor === this.#level) return CHECK_FOUND.behind
    switch (this.#port?.place()) {
      case 'task':
        return 0
      case 'environment':
        return CHECK_FOUND.environment
      default:
        return CHECK_FOUND.library
    }
  }
}

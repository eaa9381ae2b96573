/**
 * Aborting a task of another CPU: asked at first, by force then, and at last with its thread. Linux:
 * `kill -9` of a process, which ends at the next return to its own code.
 *
 *    who asks                                              the CPU that runs it
 *      running -> asked, attention       ------------->      a safepoint or a wait of the task throws
 *      check := task, have it entered    ~~~~~~~~~~~~~>      in its own code?  aborted there and then
 *                                        <-------------      else why not
 *      … again; after SAFE_MS            ~~~~~~~~~~~~~>      in Node's code as well
 *      … after timeoutMs: its thread is ended, and another started
 */

import { IpiError } from '../base/errors.ts'
import { CPU, TASK } from '../hardware/layout.ts'
import { load, store } from '../hardware/memory.ts'
import { offlineError } from './call-book.ts'
import { checkTimeout } from './call-plan.ts'
import { describeTarget } from './diagnose.ts'
import type { Kernel } from './kernel.ts'
import { BOOT_CPU } from './protocol.ts'
import { RobustLock, wake } from './robust-lock.ts'
import {
  askToEnd,
  CHECK_AT,
  CHECK_FOUND,
  findTask,
  lowBits,
  TASK_END,
  TASK_NUMBER_MAX,
  taskOf,
} from './task-words.ts'

/**
 * What came of an abort. `finished`: the task had ended, or ended by itself first. `aborted`: it is gone,
 * and its thread goes on as if it had never run, but for what it did. `unsafe`: the same in the middle of
 * code of Node's own, and the thread should be replaced soon (`replaceCpu`). `replaced`: its thread was
 * ended, and another is online under its number. `ended`: its thread has ended, and none is in its place:
 * it died by itself, or was one of the application's own.
 */
export type AbortOutcome = 'finished' | 'aborted' | 'unsafe' | 'replaced' | 'ended'

/** How to abort. */
export interface AbortOptions {
  /**
   * How long the task has, in milliseconds, before its thread is replaced. Default 2,500: V8 may look for
   * interrupts only after two seconds. Infinity: the thread stays, whatever happens.
   */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 2500
/** How long only places are taken where nothing but the task is interrupted. */
const SAFE_MS = 50
/** After how long the CPU is entered once more although it has not answered. */
const AGAIN_MS = 100
/** How long to wait where the answer will be the same for a while. */
const PAUSE_MS = 2

/** One abort under way. */
class Abort {
  readonly #kernel: Kernel
  readonly #target: number
  readonly #task: number
  readonly #record: number
  /** Which life of the target it is: another knows nothing of the task. */
  readonly #life: number
  readonly #at: number
  readonly #timeoutMs: number

  constructor(kernel: Kernel, target: number, task: number, record: number, timeoutMs: number) {
    const { memory, platform } = kernel.cpu
    this.#kernel = kernel
    this.#target = target
    this.#task = task
    this.#record = record
    this.#life = memory.readCpu(target, CPU.incarnation)
    this.#at = platform.now()
    this.#timeoutMs = timeoutMs
  }

  /** Gives what came of it, or undefined if the time is over. */
  async run(): Promise<AbortOutcome | undefined> {
    const { cpu } = this.#kernel
    const lock = new RobustLock(cpu, this.#record + TASK.lock)
    const isTaken = (): boolean => !this.#isThere() || lock.tryAcquire()
    if (!(await this.#reached(isTaken, this.#timeoutMs))) return undefined
    try {
      if (!this.#isThere()) return 'ended'
      if (!askToEnd(cpu.memory, this.#record, this.#task)) return this.#outcome()
      // After the state: whoever halts or waits looks at it when it is woken.
      wake(cpu, this.#target)
      return await this.#force()
    } finally {
      lock.release()
    }
  }

  async #force(): Promise<AbortOutcome | undefined> {
    const { cpu, forced } = this.#kernel
    const { words } = cpu.memory
    const check = this.#record + TASK.check
    const isOver = (): boolean => !this.#isThere() || !this.#isRunning()
    for (let again = false; !isOver();) {
      const rest = this.#rest()
      if (rest <= 0) return undefined
      const wish = this.#waited() < SAFE_MS ? CHECK_AT.task : CHECK_AT.environment
      const isAnswered = (): boolean => isOver() || load(words, check) !== wish
      store(words, check, wish)
      forced.force(this.#target, again)
      again = !(await this.#reached(isAnswered, Math.min(AGAIN_MS, rest)))
      const found = load(words, check)
      const isLasting = found === CHECK_FOUND.library || found === CHECK_FOUND.behind
      if (isLasting) await this.#reached(isOver, Math.min(PAUSE_MS, rest))
    }
    return this.#isThere() ? this.#outcome() : 'ended'
  }

  #waited(): number {
    return this.#kernel.cpu.platform.now() - this.#at
  }

  #rest(): number {
    return this.#timeoutMs - this.#waited()
  }

  #isThere(): boolean {
    const { cpu } = this.#kernel
    const life = cpu.memory.readCpu(this.#target, CPU.incarnation)
    return life === this.#life && cpu.isOnline(this.#target)
  }

  #isRunning(): boolean {
    return taskOf(load(this.#kernel.cpu.memory.words, this.#record + TASK.task)) === this.#task
  }

  #outcome(): AbortOutcome {
    const end = load(this.#kernel.cpu.memory.words, this.#record + TASK.end)
    if (taskOf(end) !== this.#task) return 'finished'
    if (lowBits(end) === TASK_END.aborted) return 'aborted'
    return lowBits(end) === TASK_END.unsafe ? 'unsafe' : 'finished'
  }

  /** Whether a condition came true in time. */
  #reached(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    const wait = this.#kernel.waits.until(condition, timeoutMs, () => undefined)
    return wait.then(
      () => true,
      () => condition(),
    )
  }
}

/** Aborts a task; see Machine.abortTask. `replace` ends a thread and starts another. */
export async function abortTask(
  kernel: Kernel,
  target: number,
  task: number,
  options: AbortOptions,
  replace: () => Promise<AbortOutcome>,
): Promise<AbortOutcome> {
  const { timeoutMs = TIMEOUT_MS } = options
  const { cpu, waits, functions } = kernel
  if (timeoutMs !== Infinity) checkTimeout(timeoutMs)
  if (!Number.isInteger(task) || task < 1 || task > TASK_NUMBER_MAX) {
    throw new IpiError(
      'IPI_INVALID_ARGUMENT',
      `abortTask(cpu, task) takes the number that the task was entered with, got ${String(task)}`,
    )
  }
  waits.checkMayWait('abortTask', false)
  if (!cpu.isOnline(target)) throw offlineError(target)
  const record = findTask(cpu.memory, target, task)
  if (record < 0) return 'finished'
  const outcome = await new Abort(kernel, target, task, record, timeoutMs).run()
  if (outcome !== undefined) return outcome
  if (target !== BOOT_CPU) return replace()
  throw new IpiError(
    'IPI_TIMEOUT',
    `task ${task} of CPU ${target} has come to no safepoint for ${timeoutMs} ms, and the thread that ` +
      `made the machine cannot be replaced: ${describeTarget(cpu, functions, target)}`,
    { cpu: target, cpus: [target], waitedMs: timeoutMs },
  )
}

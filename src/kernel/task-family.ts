/**
 * Tasks that can be aborted, as programs see them. What an executor needs and what an abort needs is
 * loaded by the threads that use it: most have neither.
 */

import { IpiError } from '../base/errors.ts'
import { offlineError } from './call-book.ts'
import { checkTimeout } from './call-plan.ts'
import type { Kernel } from './kernel.ts'
import { Looking } from './looking.ts'
import type { BootPart } from './machine.ts'
import { BOOT_CPU } from './protocol.ts'
import { askToReplace, lifeOf } from './replace.ts'
import type { AbortOptions, AbortOutcome } from './task-abort.ts'
import type { TaskGuard } from './task-guard.ts'

/** How long a thread has to leave by itself before it is ended. */
const LEAVE_MS = 2000

/** How to replace a thread. */
export interface ReplaceOptions {
  /** How long the old thread has to leave by itself, in milliseconds. Default 2,000. */
  readonly timeoutMs?: number
}

/** What a {@link Machine} inherits beside calls and interrupts: aborting what a CPU runs. */
export class TaskFamily extends Looking {
  readonly #kernel: Kernel
  readonly #boot: BootPart | undefined
  #guard: Promise<TaskGuard> | undefined

  /** @internal */
  constructor(kernel: Kernel, boot: BootPart | undefined) {
    super(kernel, boot?.hotplug)
    this.#kernel = kernel
    this.#boot = boot
    kernel.sched.guardTasks = () => this.guardTasks()
  }

  /**
   * What an executor on this CPU runs its tasks in, so that `abortTask` can abort them. One for each CPU.
   * On CPU 0, and without forced entry (`capabilities`), tasks are aborted at safepoints only.
   */
  guardTasks(): Promise<TaskGuard> {
    this.#guard ??= this.#makeGuard()
    return this.#guard
  }

  async #makeGuard(): Promise<TaskGuard> {
    const { cpu, forced } = this.#kernel
    const { TaskGuard } = await import('./task-guard.ts')
    return new TaskGuard(cpu, forced, await cpu.platform.forced?.loadGuard())
  }

  /**
   * Aborts the task that was entered as `task` (TaskGuard.enter) on `cpu`, and no other. It ends with
   * `IPI_ABORTED` at a safepoint or in a wait of this library; in the middle of its own code there and
   * then, without its `finally`; after 50 ms in code of Node's own as well; after `timeoutMs` with its
   * thread, which is replaced. Gives which it was. From tasks, not from handlers. Rejects with
   * `IPI_INVALID_CPU`, `IPI_INVALID_ARGUMENT`, `IPI_CPU_OFFLINE`, `IPI_WOULD_DEADLOCK`, `IPI_TIMEOUT` if
   * it can be neither aborted nor replaced.
   */
  async abortTask(cpu: number, task: number, options: AbortOptions = {}): Promise<AbortOutcome> {
    this.#checkOnline(cpu)
    const { abortTask } = await import('./task-abort.ts')
    return abortTask(this.#kernel, cpu, task, options, async () =>
      (await this.#replace(cpu, 0)) ? 'replaced' : 'ended',
    )
  }

  /**
   * Ends the thread of `cpu`, by force if it does not leave by itself, and starts another under its
   * number. Resolves once that is online; gives false if there is none, because the old one was the
   * application's own (`bringUp`). From tasks of any CPU. Rejects with `IPI_INVALID_CPU`,
   * `IPI_CPU_OFFLINE`, `IPI_CPU_BUSY` (CPU 0), `IPI_TIMEOUT`, `IPI_BOOT_FAILED`.
   */
  async replaceCpu(cpu: number, options: ReplaceOptions = {}): Promise<boolean> {
    this.#checkOnline(cpu)
    const { timeoutMs = LEAVE_MS } = options
    checkTimeout(timeoutMs)
    if (cpu === BOOT_CPU) {
      throw new IpiError('IPI_CPU_BUSY', 'the thread that made the machine cannot be replaced', {
        cpu,
      })
    }
    return this.#replace(cpu, timeoutMs)
  }

  #replace(cpu: number, timeoutMs: number): Promise<boolean> {
    const kernel = this.#kernel
    if (this.#boot === undefined) return askToReplace(kernel, cpu, timeoutMs)
    return this.#boot.replace({ cpu, life: lifeOf(kernel, cpu), timeoutMs })
  }

  #checkOnline(cpu: number): void {
    this.cpu.checkPossible(cpu)
    if (!this.cpu.isOnline(cpu)) throw offlineError(cpu)
  }
}

/**
 * The door to the scheduler: what runs tasks is made when somebody first wants it to, what submits them
 * comes with a thread's first pool. Linux `kernel/sched.c`, sched_init.
 */

import { IpiError } from '../base/errors.ts'
import { HEADER } from '../hardware/layout.ts'
import { load } from '../hardware/memory.ts'
import type { Platform } from '../hardware/platform.ts'
import type { Kernel } from './kernel.ts'
import type { TaskBook } from './sched/task-book.ts'
import { Scheduler } from './sched/scheduler.ts'
import type { TaskGuard } from './task-guard.ts'

/** What others call to have this CPU open its run queue. */
export const OPEN_RUN_QUEUE = 'interprocessor.openRunQueue'

/** What others call to have it close its run queue; gives how many tasks have begun there and not ended. */
export const CLOSE_RUN_QUEUE = 'interprocessor.closeRunQueue'

/** The task that calls a function of any module; see services/pool/module.ts. */
export const CALL_MODULE = 'interprocessor.callModule'

/** Calls a function that a module exports. */
async function callModule(platform: Platform, call: unknown): Promise<unknown> {
  const { url, name, args } = call as { url: string; name: string; args: readonly unknown[] }
  const fn = (await platform.importModule(url))[name]
  if (typeof fn === 'function') return (fn as (...given: unknown[]) => unknown)(...args)
  throw new IpiError('IPI_UNKNOWN_FUNCTION', `${url} exports no function "${name}"`, {
    functionName: name,
  })
}

/** One CPU's door. Private to its thread. */
export class SchedDoor {
  readonly #kernel: Kernel
  #changes = 0
  /** What runs tasks here, once it is wanted. */
  scheduler: Scheduler | undefined
  /** What submits tasks from here, once there is a pool. */
  book: TaskBook | undefined

  /** Loads what tasks run in that can be aborted; kernel/task-family.ts binds it. */
  guardTasks: () => Promise<TaskGuard> = () => Promise.reject(new Error('this thread has no guard'))

  constructor(kernel: Kernel) {
    this.#kernel = kernel
    kernel.functions.register(OPEN_RUN_QUEUE, () => this.open())
    kernel.functions.register(CALL_MODULE, (call) => callModule(kernel.cpu.platform, call))
    kernel.functions.register(CLOSE_RUN_QUEUE, () => {
      this.scheduler?.close()
      return this.scheduler?.begun ?? 0
    })
  }

  /** Opens this CPU's run queue: from now on others can push into it. */
  open(): void {
    this.scheduler ??= new Scheduler(this.#kernel)
    this.scheduler.open()
  }

  /** Opens the run queue of a CPU that comes up, if the machine has a pool. */
  openIfWanted(): void {
    if (load(this.#kernel.cpu.memory.words, HEADER.schedulerWanted) !== 0) this.open()
  }

  /** ATTENTION.wake: run queues were opened or closed, or a thread was buried; tasks may have to move. */
  look(): void {
    if (this.book === undefined) return
    const { words } = this.#kernel.cpu.memory
    const changes = (load(words, HEADER.schedulerChanges) + load(words, HEADER.burials)) | 0
    if (changes === this.#changes) return
    this.#changes = changes
    this.book.sweep()
  }

  /** ATTENTION.tasks: tasks have ended or report, or shall end. */
  attend(): void {
    this.book?.takeCompletions()
    this.scheduler?.execution.heed()
  }

  /** This CPU leaves, in good order or not. */
  close(): void {
    this.scheduler?.close()
  }
}

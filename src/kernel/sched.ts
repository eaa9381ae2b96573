/**
 * The door to the scheduler: what runs tasks is made when somebody first wants it to, what submits them
 * comes with a thread's first pool. Linux `kernel/sched.c`, sched_init.
 */

import { HEADER } from '../hardware/layout.ts'
import { load } from '../hardware/memory.ts'
import type { Kernel } from './kernel.ts'
import type { TaskBook } from './sched/task-book.ts'
import { Scheduler } from './sched/scheduler.ts'

/** What others call to have this CPU open its run queue. */
export const OPEN_RUN_QUEUE = 'interprocessor.openRunQueue'

/** One CPU's door. Private to its thread. */
export class SchedDoor {
  readonly #kernel: Kernel
  #changes = 0
  /** What runs tasks here, once it is wanted. */
  scheduler: Scheduler | undefined
  /** What submits tasks from here, once there is a pool. */
  book: TaskBook | undefined

  constructor(kernel: Kernel) {
    this.#kernel = kernel
    kernel.functions.register(OPEN_RUN_QUEUE, () => this.open())
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

  /** This CPU leaves, in good order or not. */
  close(): void {
    this.scheduler?.close()
  }
}

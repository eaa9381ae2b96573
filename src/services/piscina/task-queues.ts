/** Where tasks wait: what a queue must be able to do, and the two that piscina ships. */

/** Under this symbol a task carries what it wants to tell a queue of the user's own. */
export const queueOptionsSymbol: unique symbol = Symbol.for('Piscina.queueOptions') as never

/** A task, as a queue sees it. */
export interface Task {
  readonly [queueOptionsSymbol]: object | null
}

/** A task, as a load balancer sees it. */
export interface PiscinaTask extends Task {
  readonly taskId: number
  readonly filename: string
  readonly name: string
  /** When it was submitted, on the clock of `performance.now()`. */
  readonly created: number
  readonly isAbortable: boolean
}

/** A queue of tasks. */
export interface TaskQueue {
  readonly size: number
  /** Takes the task that is to be run next; null if there is none. */
  shift(): Task | null
  remove(task: Task): void
  push(task: Task): void
  /** Puts back what `shift` has given and no thread could take. Without it, it goes to the end. */
  unshift?(task: Task): void
}

/** Whether something can be used as a queue. */
export function isTaskQueue(value: unknown): value is TaskQueue {
  if (typeof value !== 'object' || value === null || !('size' in value)) return false
  const { shift, remove, push } = value as Partial<TaskQueue>
  return [shift, remove, push].every((method) => typeof method === 'function')
}

/** A queue in one array: simple, and slow once it is long. */
export class ArrayTaskQueue implements TaskQueue {
  readonly tasks: Task[] = []

  get size(): number {
    return this.tasks.length
  }

  shift(): Task | null {
    return this.tasks.shift() ?? null
  }

  push(task: Task): void {
    this.tasks.push(task)
  }

  unshift(task: Task): void {
    this.tasks.unshift(task)
  }

  remove(task: Task): void {
    const index = this.tasks.indexOf(task)
    if (index >= 0) this.tasks.splice(index, 1)
  }
}

/** The smallest ring of a queue. A power of two, as all of them. */
const RING_MIN = 64

/** A queue in a ring that grows: every step but `remove` takes the same time at any length. */
export class FixedQueue implements TaskQueue {
  #ring: (Task | undefined)[] = Array.from({ length: RING_MIN })
  #head = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  isEmpty(): boolean {
    return this.#size === 0
  }

  shift(): Task | null {
    if (this.#size === 0) return null
    const task = this.#ring[this.#head]!
    this.#ring[this.#head] = undefined
    this.#head = this.#at(1)
    this.#size--
    return task
  }

  push(task: Task): void {
    this.#makeRoom()
    this.#ring[this.#at(this.#size++)] = task
  }

  unshift(task: Task): void {
    this.#makeRoom()
    this.#head = this.#at(-1)
    this.#ring[this.#head] = task
    this.#size++
  }

  remove(task: Task): void {
    const tasks = this.#inOrder()
    const index = tasks.indexOf(task)
    if (index < 0) return
    for (let i = index; i < this.#size - 1; i++) this.#ring[this.#at(i)] = tasks[i + 1]
    this.#ring[this.#at(--this.#size)] = undefined
  }

  /** The place so many behind the first. */
  #at(offset: number): number {
    return (this.#head + offset) & (this.#ring.length - 1)
  }

  #inOrder(): Task[] {
    return Array.from({ length: this.#size }, (_, i) => this.#ring[this.#at(i)]!)
  }

  #makeRoom(): void {
    if (this.#size < this.#ring.length) return
    const ring: (Task | undefined)[] = this.#inOrder()
    ring.length *= 2
    this.#ring = ring
    this.#head = 0
  }
}

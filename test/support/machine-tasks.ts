/**
 * What every thread of a machine test imports: shared functions of general use, and tasks. A task is
 * application code of a CPU, started by a call but run in a turn of its own: it may wait and call,
 * which a shared function may not. Its outcome comes back by a channel of Node's, so that a broken
 * library cannot hide it.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { BroadcastChannel, threadId } from 'node:worker_threads'
import { sharedFunction, thisMachine } from '../../src/index.ts'
import { Board, WORD } from './machine-board.ts'

const CHANNEL = 'interprocessor machine tests'

const thread: { board: Board; tasks: Map<string, (info: never) => unknown> } = {
  board: new Board(),
  tasks: new Map(),
}

/** The board of the calling thread. */
export function board(): Board {
  return thread.board
}

/** Gives a thread its board: the start-up of a hotplug state, so that late joiners get it too. */
export const setBoard = sharedFunction('machine.setBoard', (buffer: SharedArrayBuffer) => {
  thread.board = new Board(buffer)
})

export const echo = sharedFunction('machine.echo', (value: unknown) => value)

export const whoAmI = sharedFunction('machine.whoAmI', () => thisMachine().cpu.id)

export const threadOf = sharedFunction('machine.threadOf', () => threadId)

/** Counts one on the board. */
export const count = sharedFunction('machine.count', (word: number = WORD.counted) => {
  board().add(word)
})

/** Stays in the handler until the board says `release`. With `cpu`, on that CPU only. */
export const hold = sharedFunction('machine.hold', ({ cpu }: { cpu?: number } = {}) => {
  const { id } = thisMachine().cpu
  if (cpu === undefined || cpu === id) {
    board().add(WORD.entered)
    board().block(WORD.release)
  }
  return id
})

/** The same, and gives back what it was given. */
export const holdThenEcho = sharedFunction('machine.holdThenEcho', (value: unknown) => {
  board().add(WORD.entered)
  board().block(WORD.release)
  return value
})

/** Says `release` from a timer of its own, once the handler is over. */
export const releaseSoon = sharedFunction('machine.releaseSoon', (delayMs: number) => {
  setTimeout(() => board().set(WORD.release, 1), delayMs)
})

/** Keeps the thread alive also when it has left its machine. */
export const stay = sharedFunction('machine.stay', () => {
  setInterval(() => undefined, 60_000)
})

/** How a task ended, as it crosses. */
interface Report {
  readonly id: string
  readonly value?: unknown
  readonly error?: { readonly message: string; readonly code: unknown; readonly name: unknown }
}

/** Application code that any thread can be asked to run. */
export interface Task<Info, Result> {
  readonly taskName: string
  readonly run: (info: Info) => Result | Promise<Result>
}

/** Gives a function a name under which `runTask` finds it on every thread that imports it. */
export function defineTask<Info, Result>(
  taskName: string,
  run: (info: Info) => Result | Promise<Result>,
): Task<Info, Result> {
  thread.tasks.set(taskName, run)
  return { taskName, run }
}

/** Runs a task in the next turn of a thread's event loop, and reports. */
const start = sharedFunction(
  'machine.startTask',
  ({ id, name, info }: { id: string; name: string; info: unknown }) => {
    setImmediate(() => void perform(id, name, info))
  },
)

async function perform(id: string, name: string, info: unknown): Promise<void> {
  const report = await outcome(id, name, info)
  const channel = new BroadcastChannel(CHANNEL)
  channel.postMessage(report)
  channel.close()
}

async function outcome(id: string, name: string, info: unknown): Promise<Report> {
  try {
    return { id, value: await thread.tasks.get(name)!(info as never) }
  } catch (error) {
    const { message, code, name: kind } = error as Error & { code: unknown }
    return { id, error: { message: String(message), code, name: kind } }
  }
}

/** A task's failure on the thread that asked for it. */
export class TaskError extends Error {
  override readonly name = 'TaskError'
  readonly code: unknown

  constructor(task: string, error: NonNullable<Report['error']>) {
    super(`${task}: ${String(error.name)}: ${error.message}`)
    this.code = error.code
  }
}

let tasksStarted = 0

/** Runs a task on a CPU, this one too; resolves with its result, rejects with a {@link TaskError}. */
export async function runTask<Info, Result>(
  cpu: number,
  task: Task<Info, Result>,
  info?: Info,
): Promise<Result> {
  const { result } = await startTask(cpu, task, info)
  return result
}

/** Resolves once the task is sure to run, whatever this thread does meanwhile. */
export async function startTask<Info, Result>(
  cpu: number,
  { taskName: name }: Task<Info, Result>,
  info?: Info,
): Promise<{ readonly result: Promise<Result> }> {
  const id = `${threadId}.${++tasksStarted}`
  if (cpu === thisMachine().cpu.id) {
    const local = nextTurn().then(() => outcome(id, name, info))
    return { result: local.then((report) => resultOf<Result>(name, report)) }
  }
  const channel = new BroadcastChannel(CHANNEL)
  // A thread that dies never reports: that must not keep the test's process alive.
  channel.unref()
  const result = new Promise<Result>((resolve, reject) => {
    channel.onmessage = (event) => {
      const report = (event as { data: Report }).data
      if (report.id !== id) return
      channel.close()
      if (report.error === undefined) resolve(report.value as Result)
      else reject(new TaskError(name, report.error))
    }
  })
  // Whoever asked may look at it later, or not at all.
  result.catch(() => undefined)
  try {
    await thisMachine().smpCallFunctionSingle(cpu, start, { id, name, info })
  } catch (error) {
    channel.close()
    throw error
  }
  return { result }
}

function resultOf<Result>(task: string, report: Report): Result {
  if (report.error !== undefined) throw new TaskError(task, report.error)
  return report.value as Result
}
